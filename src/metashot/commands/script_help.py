"""--help: lists the groups with their choices, and the keys of the chosen groups with their comments from conf/."""

import re
import shutil
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from metashot.configuration import plugins
from metashot.configuration.overrides import choices_of, groups_of, options_of, read_yaml, summary_of
from metashot.configuration.suggestions import suggestions_where_they_fit
from metashot.files.paths import quoted
from metashot.process.invocation import as_called
from metashot.sources.root import VARIABLE

_WIDTH, _NARROWEST = 100, 60  # columns
_VALUES = 34  # columns for keys and values, to the left of their explanations
_HIDDEN = re.compile(r".*_target_|[a-z]+\.name")  # set by the choice of a group
# Text in brackets at the end of a comment, which may contain brackets itself.
_REMARK = re.compile(r"(^|\s)\(([^()]|\([^()]*\))*\)$")
# Groups and keys that are in a script's configuration only because others need them, and have no effect on the script.
_WITHOUT_EFFECT = {
    "evaluate": (
        *("algo", "backbone", "images", "inputs"),
        *(rf"data\.{key}" for key in ("presentation", r"train\.batch", "tasks_per_step", r"\w+\.episodes")),
        r"trainer\.(max_steps|\w+_every|gradient_clip|stop_after_non_finite|early_stopping)",
    ),
    "look": (
        *("images", "inputs"),
        *(rf"data\.{key}" for key in (r"presentation\.(mean|std)", r"train\.batch", r"tasks_per_\w+")),
        r"data\.\w+\.(episodes|seed)",
    ),
    "predict": ("algo", "backbone", "inputs"),
    "page": ("algo", "backbone", "inputs"),
}
_GROUPS, _KEYS, _HEADER, _FOOTER = "$APP_CONFIG_GROUPS", "$CONFIG", "${hydra.help.header}", "${hydra.help.footer}"


def asks_for_help(arguments: Sequence[str]) -> bool:
    return bool(options_of(arguments).help)


def help_text(arguments: Sequence[str], conf: Path, config_name: str, of_checkpoint: Collection[str]) -> str:
    """Format the help of a script.

    Args:
        arguments: the command line. The help lists the keys of the groups that it chooses.
        conf: the folder of configuration files.
        config_name: the name of the script's file in that folder, whose `hydra.help` has the template of the help.
        of_checkpoint: groups that a checkpoint provides. Their values are unknown unless the command line gives them.
    """
    overrides = options_of(arguments).overrides
    chosen = _keys_of(overrides)
    width = max(_NARROWEST, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))
    config, explained = explanations(overrides, conf, config_name)
    script = read_yaml(conf / f"{config_name}.yaml")
    hidden = [pattern for pattern in _WITHOUT_EFFECT.get(config_name, ()) if pattern not in chosen]
    groups = [group for group in groups_of(script) if group not in hidden]
    own = {*script, *groups}  # an algorithm's file also sets keys of groups that only other scripts have
    shown = {key: value for key, value in config.items() if key in own}
    unknown = {group for group in of_checkpoint if group not in chosen}
    hidden += [rf"{group}\.source\..*" for group in unknown]
    listing = _Listing(explained, hidden, unknown, chosen, width)
    parts = {
        _HEADER: script["hydra"]["help"]["header"],
        _FOOTER: script["hydra"]["help"]["footer"],
        _GROUPS: "\n".join(_of_group(group, summary_of(choices_of(conf, group)), width) for group in sorted(groups)),
        _KEYS: "\n".join(listing.of_keys(shown, "")),
    }
    text = str(script["hydra"]["help"]["template"])
    for placeholder, part in parts.items():
        text = text.replace(placeholder, part)
    return as_called(text).rstrip()


@dataclass(frozen=True)
class Explanation:
    """The explanation of a key: its meaning, and a remark on its current value."""

    meaning: str
    remark: str

    @classmethod
    def of(cls, comment: str) -> "Explanation":
        """Split a comment into the meaning and the remark, which is in brackets at the end."""
        remark = _REMARK.search(comment)
        return cls(comment, "") if remark is None else cls(comment[: remark.start()], remark[0].strip())

    def __str__(self) -> str:
        return f"{self.meaning} {self.remark}".strip()


def explanations(overrides: Sequence[str], conf: Path, config_name: str) -> tuple[dict[str, Any], dict[str, Explanation]]:
    """Compose a configuration and collect the explanations of its keys.

    The meaning of a key comes from the last file that states one, and its remark from the file that sets its value. A value
    set on the command line has no remark.

    Args:
        overrides: the overrides of the command line.
        conf: the folder of configuration files.
        config_name: the name of the script's file in it.

    Returns:
        The configuration, and the explanation of each key.
    """
    with suggestions_where_they_fit(), hydra.initialize_config_dir(str(conf), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose(config_name, overrides=overrides), resolve=False)
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(config_name, overrides, RunMode.RUN).defaults
    assert isinstance(config, dict)
    explained: dict[str, Explanation] = {}
    for default in defaults:  # each overrides those before it
        if default.config_path and not default.config_path.startswith("hydra/"):
            for key, comment in comments_of(plugins.file_of(default.config_path), default.package or "").items():
                own = Explanation.of(comment)
                before = explained.get(key, own)
                explained[key] = Explanation(own.meaning or before.meaning, own.remark)
    for key in _keys_of(overrides):
        for above in (key[:end] for end in (*(place.start() for place in re.finditer(r"\.", key)), len(key))):
            if above in explained:
                explained[above] = Explanation(explained[above].meaning, "")
    return {str(key): value for key, value in config.items()}, explained


def _keys_of(overrides: Iterable[str]) -> set[str]:
    return {override.partition("=")[0].lstrip("+") for override in overrides}


def comments_of(path: Path, package: str) -> dict[str, str]:
    """Read the comments of all keys in a file, from the lines above each key and after its value.

    Args:
        path: the file.
        package: the package of the file, which prefixes its keys.

    Returns:
        A comment for each key, empty for a key without one.
    """
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    lines = text.splitlines()
    return dict(_comments(root, package, lines)) if isinstance(root, yaml.MappingNode) else {}


def _comments(node: yaml.MappingNode, above: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name, value in node.value:
        key = f"{above}.{name.value}" if above else str(name.value)
        if name.value == "defaults" or key == "hydra":
            continue
        nested = isinstance(value, yaml.MappingNode) and not value.flow_style
        end = name.end_mark if nested else value.end_mark
        rest = lines[end.line][end.column :].lstrip(": ")
        parts = [*_lines_above(name.start_mark.line, lines), *([rest] if rest.startswith("#") else [])]
        yield key, " ".join(part.lstrip("# ") for part in parts)
        if nested:
            yield from _comments(value, key, lines)


def _lines_above(line: int, lines: Sequence[str]) -> list[str]:
    """The lines of comment above a key; the comment at the top of a file does not count."""
    first = line
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return list(lines[first:line]) if first > 0 else []


def _of_group(group: str, choices: Iterable[str], width: int) -> str:
    return textwrap.fill(f"{group}: {', '.join(choices)}", width, subsequent_indent="    ", break_on_hyphens=False)


@dataclass(frozen=True)
class _Listing:
    explained: Mapping[str, Explanation]
    hidden: Sequence[str]  # patterns of keys
    unknown: Collection[str]  # groups whose values are unknown
    given: Collection[str]  # keys given on the command line
    width: int

    def of_keys(self, node: dict[str, Any], above: str) -> Iterator[str]:
        """List the values of a node, then its child nodes."""
        for name, value in sorted(node.items(), key=lambda item: isinstance(item[1], dict)):
            key = f"{above}{name}"
            if _HIDDEN.fullmatch(key) or any(re.fullmatch(pattern, key) for pattern in self.hidden):
                continue
            if not isinstance(value, dict):
                explanation = self.explained.get(key, Explanation("", ""))
                if key.partition(".")[0] in self.unknown and key not in self.given:
                    yield _beside(key, explanation.meaning, self.width)
                else:
                    yield _beside(f"{key}={_plainly(value)}", str(explanation), self.width)
                continue
            below = list(self.of_keys(value, f"{key}."))
            if below and not above:
                yield ""
            if below and (whole := str(self.explained.get(key, ""))):
                yield _wrapped(f"{key}.*: {whole}", "", self.width)
            yield from below


def _beside(left: str, comment: str, width: int) -> str:
    """Format a key and its explanation, which starts on the next line if the key is too long."""
    if not comment:
        return left
    indent = " " * (_VALUES + 2)
    text = _wrapped(comment, indent, width)
    return f"{left:<{_VALUES}}  {text.lstrip()}" if len(left) <= _VALUES else f"{left}\n{text}"


def _wrapped(text: str, indent: str, width: int) -> str:
    hanging = indent or "    "
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False, break_long_words=False
    )


def _plainly(value: Any) -> str:
    """Format a value as it is written on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_plainly, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and value.startswith(f"${{{VARIABLE}:"):
        return quoted(OmegaConf.create([value])[0])
    return str(value)
