"""--help: the groups with their choices, and the keys of the chosen ones with what the comments in conf/ say of each."""

import re
import shutil
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from metashot.overrides import choices_of, groups_of, options_of, read_yaml

_WIDTH, _NARROWEST = 100, 60  # columns
_VALUES = 34  # columns of keys and values, beside which their explanations stand
_HIDDEN = re.compile(r".*_target_|[a-z]+\.name")  # which a choice of a group sets
_GROUPS, _KEYS, _HEADER, _FOOTER = "$APP_CONFIG_GROUPS", "$CONFIG", "${hydra.help.header}", "${hydra.help.footer}"


def asks_for_help(arguments: Sequence[str]) -> bool:
    return bool(options_of(arguments).help)


def help_text(arguments: Sequence[str], conf: Path, config_name: str, of_checkpoint: Collection[str]) -> str:
    """What a script is told, and with which keys.

    Args:
        arguments: the command line; the keys are those of the groups that it chooses.
        conf: the folder of configuration files.
        config_name: the script's file in it, whose `hydra.help` says what the help looks like.
        of_checkpoint: groups that a checkpoint decides, shown where the command line chooses them itself.
    """
    overrides = options_of(arguments).overrides
    chosen = {override.partition("=")[0] for override in overrides}
    left_out = {group for group in of_checkpoint if not any(re.match(rf"{group}[=.]", override) for override in overrides)}
    width = max(_NARROWEST, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose(config_name, overrides=overrides), resolve=False)
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(config_name, overrides, RunMode.RUN).defaults
    explained: dict[str, str] = {}
    for default in defaults:
        if default.config_path and not default.config_path.startswith("hydra/"):
            for key, comment in comments_of(conf / f"{default.config_path}.yaml", default.package or "").items():
                before = explained.get(key, comment)
                explained[key] = comment if before in comment else f"{before}; here {comment}"
    assert isinstance(config, dict)
    script = read_yaml(conf / f"{config_name}.yaml")
    groups = [group for group in groups_of(script) if group not in of_checkpoint or group in chosen]
    own = {*script, *groups_of(script)} - left_out  # an algorithm's file sets keys of groups that others have
    shown = {str(key): value for key, value in config.items() if key in own}
    parts = {
        _HEADER: script["hydra"]["help"]["header"],
        _FOOTER: script["hydra"]["help"]["footer"],
        _GROUPS: "\n".join(_of_group(group, choices_of(conf, group), width) for group in sorted(groups)),
        _KEYS: "\n".join(_of_keys(shown, "", explained, width)),
    }
    text = str(script["hydra"]["help"]["template"])
    for placeholder, part in parts.items():
        text = text.replace(placeholder, part)
    return text.rstrip()


def comments_of(path: Path, package: str) -> dict[str, str]:
    """What a file says of its keys, in the lines above them and behind their values. Keys begin with the file's package."""
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    lines = text.splitlines()
    found = _comments(root, package, lines) if isinstance(root, yaml.MappingNode) else ()
    return {key: comment for key, comment in found if comment}


def _comments(node: yaml.MappingNode, above: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name, value in node.value:
        key = f"{above}.{name.value}" if above else str(name.value)
        if key in ("defaults", "hydra"):
            continue
        nested = isinstance(value, yaml.MappingNode) and not value.flow_style
        end = name.end_mark if nested else value.end_mark
        rest = lines[end.line][end.column :].lstrip(": ")
        parts = [*_lines_above(name.start_mark.line, lines), *([rest] if rest.startswith("#") else [])]
        yield key, " ".join(part.lstrip("# ") for part in parts)
        if nested:
            yield from _comments(value, key, lines)


def _lines_above(line: int, lines: Sequence[str]) -> list[str]:
    """The comment that stands alone above a key, which the head of a file is not."""
    first = line
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return list(lines[first:line]) if first > 0 else []


def _of_group(group: str, choices: Iterable[str], width: int) -> str:
    return textwrap.fill(f"{group}: {', '.join(choices)}", width, subsequent_indent="    ", break_on_hyphens=False)


def _of_keys(node: dict[str, Any], above: str, explained: dict[str, str], width: int) -> Iterator[str]:
    """The values of a node, then the nodes below it."""
    for name, value in sorted(node.items(), key=lambda item: isinstance(item[1], dict)):
        key = f"{above}{name}"
        if _HIDDEN.fullmatch(key):
            continue
        if not isinstance(value, dict):
            yield _beside(f"{key}={_plainly(value)}", explained.get(key, ""), width)
            continue
        below = list(_of_keys(value, f"{key}.", explained, width))
        if below and not above:
            yield ""
        if below and key in explained:
            yield _wrapped(f"{key}.*: {explained[key]}", "", width)
        yield from below


def _beside(left: str, comment: str, width: int) -> str:
    """A key and its explanation, which begins in the next line if there is no room beside the key."""
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
    """A value as one writes it on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_plainly, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
