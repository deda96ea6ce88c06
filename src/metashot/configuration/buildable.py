"""The closed list of classes that a configuration may name, each in its place: those that the files of conf/ name there,
metashot's and those of plug-ins that the user has named."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from metashot.bad_input import BadInput
from metashot.configuration import signatures

_PACKAGE = Path(__file__).resolve().parents[1]
_PACKAGED = _PACKAGE / "conf"  # in a wheel; an editable install has none, and reads the repository's
CONF = _PACKAGED if _PACKAGED.is_dir() else _PACKAGE.parents[1] / "conf"
TARGET = "_target_"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_AT_THE_TOP = "# @package _global_"
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


_folders = [CONF]  # whose files name the classes


def allow_classes_of(conf: Path) -> None:
    """Add the classes that the files of another conf/ name, a plug-in's, to those that may be built."""
    if conf not in _folders:
        _folders.append(conf)


def buildable() -> Mapping[str, frozenset[str]]:
    """The full names of the classes by the keys of the nodes that may name them, such as `algo.optimizer`."""
    return _named_in(tuple(_folders))


@cache
def _named_in(folders: tuple[Path, ...]) -> Mapping[str, frozenset[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for folder in folders:
        for _, key, target in targets_of(folder):
            found[key].add(target)
    return {key: frozenset(targets) for key, targets in found.items()}


def targets_of(conf: Path) -> Iterator[tuple[Path, str, str]]:
    """Each class that a file of this folder names: the file, the key of the node, and the class.

    Raises:
        BadInput: if a file cannot be read.
    """
    for path in sorted(conf.rglob("*.yaml")):
        try:
            text = path.read_text(encoding="utf-8")
            content = yaml.load(text, _LOADER)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from error
        groups = path.relative_to(conf).parts[:-1]
        top = "" if not groups or text.startswith(_AT_THE_TOP) else groups[0]
        for key, target in _targets(content, top):
            yield path, key, target


def target_of(node: Any, key: str) -> str:
    """The full name of the class that a node describes.

    Configurations come out of checkpoints: no import path is followed that is not in the list.

    Raises:
        BadInput: if the class may not stand at this key.
    """
    target = node.get(TARGET) if isinstance(node, dict) else None
    allowed = buildable().get(key, frozenset())
    if isinstance(target, str) and _CLASS.fullmatch(target) and not target.startswith("metashot.") and target not in allowed:
        raise BadInput(
            f"{key}.{TARGET}={target[:100]} cannot be built: it is not a class of metashot, and no plug-in that was named "
            "has it there; if you trust the package that has it, name it, as in plugins=[PACKAGE] (a file imports none)"
        )
    if not isinstance(target, str) or target not in allowed:
        choices = f"allowed: {', '.join(sorted(allowed))}" if allowed else "nothing is built there"
        raise BadInput(f"{key}.{TARGET}={str(target)[:100]} cannot be built; {choices}")
    try:
        signatures.parameters_of(target)
    except signatures.NoSuchClass as error:
        where = "this version of metashot" if target.startswith("metashot.") else "its plug-in"
        raise BadInput(f"{key}.{TARGET}={target} was not found in {where} ({error})") from error
    return target


def refuse_misplaced(value: Any, key: str = "") -> None:
    """Refuse a configuration in which any node, however deep, names a class that may not stand there."""
    if isinstance(value, dict):
        if TARGET in value:
            target_of(value, key)
        for name, inner in value.items():
            refuse_misplaced(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            refuse_misplaced(inner, f"{key}[{position}]")


def _targets(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        return
    if TARGET in value:
        yield key, value[TARGET]
    for name, inner in value.items():
        yield from _targets(inner, f"{key}.{name}" if key else str(name))
