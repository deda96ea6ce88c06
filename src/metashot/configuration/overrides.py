"""Checks the command line before Hydra reads it, with messages of our own for what Hydra would not explain."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from metashot.bad_input import BadInput, closest, one_of
from metashot.configuration import plugins
from metashot.configuration.buildable import buildable
from metashot.configuration.signatures import parameters_of
from metashot.files.paths import given_path, place_to_write, quoted

# Banks may be in a read-only place if they exist already.
TO_READ = ("ckpt", "data.banks", "data.root", "data.source.split", "init_from", "query", "repeat", "resume", "support")
TO_WRITE = ("export", "folder", "out", "save")
PATHS = frozenset({*TO_READ, *TO_WRITE})
MAY_BE_NONE = ("experiment",)  # groups whose choice may be null
FREE = ("data.source.parameters.",)  # what keys begin with that users name themselves
HYDRA, STORED = "hydra", "stored"  # Hydra's own keys; the choice of a group that was taken from a checkpoint

# What Hydra accepts as a key, so that a message can say which side of the = is wrong.
_KEY = re.compile(r"[+~]{0,2}[A-Za-z_](?![^=]*\.\.)[\w./@:-]*(?<![.])=")
_HELP_ON_GRAMMAR = re.compile(r"\s*See https://hydra\.cc\S*(\s.*)?", re.DOTALL)


def refuse_unreadable(arguments: Sequence[str], conf: Path, config_name: str) -> None:
    """Check a command line.

    Args:
        arguments: the command line without the name of the script.
        conf: the folder of configuration files.
        config_name: the name of the script's file in it.

    Raises:
        BadInput: an option, a key or a choice does not exist, or a path cannot be used.
    """
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise BadInput(f"{quoted(argument)} is not UTF-8 text: rename the file, or give a link to it with another name")
    options = options_of(arguments)
    script = read_yaml(conf / f"{config_name}.yaml")
    groups = {name: choices_of(conf, name) for name in groups_of(script)}
    own_files = options.config_dir is None and options.config_name is None and options.config_path is None
    _refuse_options(options, conf if options.config_path is None else Path(options.config_path))
    if options.shell_completion:  # whose arguments differ
        return
    is_multirun = options.multirun or any(argument.startswith("hydra.mode=") for argument in options.overrides)
    for argument in options.overrides:
        override = parse_override(argument)
        key = override.key_or_group
        if not key:
            raise BadInput(f"{argument} has no key: give key=value")
        if override.is_sweep_override() and options.help:
            raise BadInput(f"{argument} has several values, and --help shows the keys of one: give one")
        if override.is_sweep_override() and not is_multirun and key not in PATHS:
            _refuse_several_values(override)
        top = re.split(r"[./@]", key)[0]
        if key == HYDRA:
            raise BadInput(f"{argument} cannot be used: give a key below it, as in hydra.sweep.dir=FOLDER")
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
            if override.is_add() or override.is_force_add():
                raise BadInput(
                    f"{argument} cannot be used: {key} has a choice already; give {argument.lstrip('+')} to change it"
                )
            _refuse_other_choices(override, key, groups[key])
        if key.lstrip("+") in PATHS and "${" not in argument:
            _refuse_impossible_paths(override)


def parse_override(argument: str) -> Override:
    """Parse `key=value` as Hydra does.

    Raises:
        BadInput: it cannot be parsed.
    """
    try:
        (override,) = _parser().parse_overrides([argument])
    except OverrideParseException as error:
        if not argument:
            raise BadInput("an argument is empty: give key=value, or leave it out") from error
        if "=" not in argument:
            raise BadInput(f"{quoted(argument)} cannot be read as key=value: it has no = (a space ends it)") from error
        if not _KEY.match(argument):
            what = f"{quoted(argument.partition('=')[0])} is not a key such as data.ways"
            raise BadInput(f"{quoted(argument)} cannot be read as key=value: {what}") from error
        message = " ".join(_HELP_ON_GRAMMAR.sub("", str(error)).split())
        raise BadInput(
            f"{quoted(argument)} cannot be read as key=value ({message}); put a value that has brackets, quotes, commas or "
            "spaces in two pairs of quotes, as in 'key=\"a, b\"'"
        ) from error
    except ValueError as error:  # Python converts no integer of more than 4,300 digits
        raise BadInput(f"{quoted(argument)} cannot be read as key=value: {error}") from error
    return override  # type: ignore[no-any-return]


def choices_of(conf: Path, group: str) -> list[str]:
    """The choices of a group, including those of plug-ins. Only recipes have folders, one for each data set."""
    pattern = "**/*.yaml" if group in MAY_BE_NONE else "*.yaml"
    folders = [folder / group for folder in (conf, *plugins.folders())]
    return sorted({path.relative_to(at).with_suffix("").as_posix() for at in folders for path in at.glob(pattern)})


def summary_of(choices: Iterable[str]) -> list[str]:
    """The choices of a group for a list that is read: those in a folder become one entry, `folder/...`."""
    return sorted({f"{folder}/..." if inside else folder for folder, inside, _ in (one.partition("/") for one in choices)})


def groups_of(script: Mapping[str, Any]) -> list[str]:
    """The groups in the configuration of a script."""
    entries = [entry for entry in script["defaults"] if isinstance(entry, dict)]
    return [name for entry in entries for name in entry if not name.startswith(("override ", "optional "))]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a file of conf/."""
    content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content


def is_user_key(name: str) -> bool:
    """Whether users may set a key."""
    return name != HYDRA and not name.startswith("_")


def unresolved_reference(error: InterpolationResolutionError) -> str:
    """The message for a value with a ${...} that cannot be resolved."""
    key, parent = str(error.full_key), error.parent_node
    written = OmegaConf.to_container(parent, resolve=False) if isinstance(parent, DictConfig) else {}
    assert isinstance(written, dict)
    name = key.rpartition(".")[2]
    given = f"{key}={written[name]}" if name in written else key
    return f"{given} cannot be resolved: {str(error).splitlines()[0]}"


def refuse_unknown_choice(group: str, given: str, choices: Iterable[str]) -> NoReturn:
    raise BadInput(unknown_choice(group, given, choices))


def unknown_choice(group: str, given: str, choices: Iterable[str]) -> str:
    """The message for a choice that a group does not have."""
    choices = list(choices)
    inside = [choice for choice in choices if choice.startswith(f"{given.partition('/')[0]}/")]
    listed = inside or summary_of(choices)
    close = closest(choices, given.removesuffix(".yaml").removeprefix(f"conf/{group}/"))
    return f"{group}={given} cannot be used; allowed: {', '.join(listed)}{close}"


def options_of(arguments: Sequence[str]) -> Any:
    """Parse the options with Hydra's parser, but raise errors instead of printing usage and exiting.

    Raises:
        BadInput: an option is unknown or has a value that it does not take.
    """
    parser = get_args_parser()
    names = sorted({name for action in parser._actions for name in action.option_strings if name.startswith("--")})

    def refuse(message: str) -> NoReturn:
        if given := re.fullmatch(r"argument ([^/:]+).*: ignored explicit argument (.*)", message):
            raise BadInput(f"{given[1]} takes no value, but was given {given[2]}: leave the value out")
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            raise BadInput(message)
        if not unknown.startswith("-"):
            raise BadInput(f"{quoted(unknown)} follows an option: give options such as --multirun first")
        raise BadInput(f"unknown option {quoted(unknown)}; allowed: {one_of(names, unknown.split()[0])}")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(arguments)


def _refuse_options(options: Any, conf: Path) -> None:
    """Refuse options of Hydra that it would ignore silently, or whose errors have several lines."""
    if options.experimental_rerun is not None:  # it loads a pickle, which can run any code
        raise BadInput("--experimental-rerun cannot be used: repeat a run with repeat=RUN, or go on with it with resume=RUN")
    if options.config_dir is not None and not Path(options.config_dir).is_dir():
        raise BadInput(f"--config-dir={options.config_dir} is not a folder; allowed: a folder with configuration files")
    if options.config_path is not None and not conf.is_dir():
        raise BadInput(f"--config-path={options.config_path} is not a folder; allowed: a folder with configuration files")
    folders = [conf, *([] if options.config_dir is None else [Path(options.config_dir)])]
    name = options.config_name
    if name is not None and not any((folder / f"{name.removesuffix('.yaml')}.yaml").is_file() for folder in folders):
        where = ", ".join(map(str, folders))
        raise BadInput(f"--config-name={name} was not found in {where}: leave it out, or give its folder with --config-dir")
    if options.package is not None and options.cfg is None:
        raise BadInput(f"--package={options.package} needs --cfg, whose output it selects: give --cfg job, or leave it out")


def _refuse_several_values(override: Override) -> NoReturn:
    given, key = str(override.input_line), override.key_or_group
    message = f"{given} has several values, which need -m (a run for each), as in -m {shlex.quote(given)}"
    if isinstance(sweep := override.value(), ChoiceSweep) and sweep.simple_form and _takes_a_list(key):
        message += f"; one run with all of them has {key}=[{given.partition('=')[2]}]"
    raise BadInput(message)


def _takes_a_list(key: str) -> bool:
    node, _, name = key.rpartition(".")
    parameters = [parameters_of(target) for target in buildable().get(node, ())]
    return (
        node == "grid"
        or key == plugins.KEY
        or any(name in given and _may_be_list(given[name].annotation) for given in parameters)
    )


def _may_be_list(hint: Any) -> bool:
    return get_origin(hint) is list or any(map(_may_be_list, get_args(hint)))


def _refuse_other_choices(override: Override, group: str, choices: Sequence[str]) -> None:
    value = override.value()
    if isinstance(value, list | dict):
        refuse_unknown_choice(group, override.get_value_element_as_str(), choices)
    given = value.list if isinstance(value, ChoiceSweep) else [value]
    texts = [one.text if hasattr(one, "text") else one for one in given]  # quoted, in a sweep
    unknown = [
        _as_given(text)
        for text in texts
        if (isinstance(text, str | int | float | bool) and str(text) not in (*choices, STORED))
        or (text is None and group not in MAY_BE_NONE)
    ]
    if len(unknown) == len(given):  # else a sweep goes on with the other choices, and its table lists these
        refuse_unknown_choice(group, unknown[0], choices)


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
