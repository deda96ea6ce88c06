"""The command line before Hydra reads it: what it cannot read, or would not explain, is refused in our own words."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from metashot.bad_input import BadInput, one_of
from metashot.paths import given_path, place_to_write, quoted

# Banks are written if they are not there, and may lie where nobody may write if they are.
TO_READ = ("ckpt", "data.banks", "data.root", "data.source.split", "init_from", "query", "repeat", "resume", "support")
TO_WRITE = ("export", "folder", "out", "save")
PATHS = frozenset({*TO_READ, *TO_WRITE})
MAY_BE_NONE = ("experiment",)  # groups that need no choice
HYDRA, STORED = "hydra", "stored"  # Hydra's own keys, and what a group is called that comes from a checkpoint

_HELP_ON_GRAMMAR = re.compile(r"\s*See https://hydra\.cc\S*(\s.*)?", re.DOTALL)


def refuse_what_cannot_be_read(arguments: Sequence[str], conf: Path, config_name: str) -> None:
    """Check what a user typed behind the name of a script whose configuration is `conf/config_name.yaml`.

    Raises:
        BadInput: for options, keys and choices that are not there, and paths that cannot be.
    """
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise BadInput(f"{quoted(argument)} is not UTF-8 text: rename the file, or give it by a link with another name")
    options = options_of(arguments)
    script = read_yaml(conf / f"{config_name}.yaml")
    groups = {name: choices_of(conf, name) for name in groups_of(script)}
    own_files = options.config_dir is None and options.config_name is None and options.config_path is None
    for argument in options.overrides:
        override = parsed(argument)
        key = override.key_or_group
        if not key:
            raise BadInput(f"{argument} has no key: give key=value")
        top = re.split(r"[./@]", key)[0]
        if top == HYDRA or not own_files:
            continue
        known = {*groups, *(name for name in script if name not in ("defaults", HYDRA))}
        if top not in known or re.search("[/@]", override.get_key_element()):
            raise BadInput(
                f"unknown key {override.get_key_element().lstrip('+~')}; allowed at the top: {one_of(known, top)}"
            )
        if override.is_delete():
            raise BadInput(f"{argument} cannot be used: every key has a value; give {key}=..., or leave it out")
        if key in groups:
            _refuse_other_choices(override, key, groups[key])
        if key.lstrip("+") in PATHS and "${" not in argument:
            _refuse_impossible_paths(override)


def parsed(argument: str) -> Override:
    """What `key=value` means to Hydra."""
    try:
        (override,) = _parser().parse_overrides([argument])
    except OverrideParseException as error:
        if "=" not in argument:
            raise BadInput(f"{quoted(argument)} cannot be read as key=value: it has no =") from error
        said = " ".join(_HELP_ON_GRAMMAR.sub("", str(error)).split())
        raise BadInput(
            f"{quoted(argument)} cannot be read as key=value ({said}); put a value that has brackets, quotes, commas or "
            "spaces in two pairs of quotes, as in 'key=\"a, b\"'"
        ) from error
    except ValueError as error:  # Python reads no number of more than 4,300 digits
        raise BadInput(f"{quoted(argument)} cannot be read as key=value: {error}") from error
    return override  # type: ignore[no-any-return]


def choices_of(conf: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (conf / group).glob("*.yaml"))


def groups_of(script: Mapping[str, Any]) -> list[str]:
    """The groups that the configuration of a script is made of."""
    entries = [entry for entry in script["defaults"] if isinstance(entry, dict)]
    return [name for entry in entries for name in entry if not name.startswith(("override ", "optional "))]


def read_yaml(path: Path) -> dict[str, Any]:
    """A file of conf/."""
    content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content


def cannot_be_resolved(error: InterpolationResolutionError) -> str:
    """Which value refers with ${...} to what is not there."""
    key, parent = str(error.full_key), error.parent_node
    written = OmegaConf.to_container(parent, resolve=False) if isinstance(parent, DictConfig) else {}
    assert isinstance(written, dict)
    name = key.rpartition(".")[2]
    given = f"{key}={written[name]}" if name in written else key
    return f"{given} cannot be resolved: {str(error).splitlines()[0]}"


def refuse_other_choice(group: str, given: str, choices: Iterable[str]) -> NoReturn:
    raise BadInput(other_choice(group, given, choices))


def other_choice(group: str, given: str, choices: Iterable[str]) -> str:
    """What is said of a choice that a group does not have."""
    return f"{group}={given} cannot be used; allowed: {one_of(choices, given)}"


def options_of(arguments: Sequence[str]) -> Any:
    """What Hydra's own parser makes of them, which would print how it is used and exit."""
    parser = get_args_parser()
    names = sorted({name for action in parser._actions for name in action.option_strings if name.startswith("--")})

    def refuse(message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            raise BadInput(message)
        if not unknown.startswith("-"):
            raise BadInput(f"{quoted(unknown)} stands behind an option: give options such as --multirun first")
        raise BadInput(f"unknown option {quoted(unknown)}; allowed: {one_of(names, unknown.split()[0])}")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(arguments)


def _refuse_other_choices(override: Override, group: str, choices: Sequence[str]) -> None:
    value = override.value()
    given = value.list if isinstance(value, ChoiceSweep) else [value]
    texts = [one.text if hasattr(one, "text") else one for one in given]  # quoted, in a sweep
    unknown = [
        _as_given(text)
        for text in texts
        if (isinstance(text, str | int | float | bool) and str(text) not in (*choices, STORED))
        or (text is None and group not in MAY_BE_NONE)
    ]
    if len(unknown) == len(given):  # else a sweep goes on without these, and its table names them
        refuse_other_choice(group, unknown[0], choices)


def _as_given(choice: Any) -> str:
    return "null" if choice is None else str(choice).lower() if isinstance(choice, bool) else str(choice)


def _refuse_impossible_paths(override: Override) -> None:
    key, value = override.key_or_group, override.value()
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str):
            (place_to_write if key in TO_WRITE else given_path)(one, key)


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
