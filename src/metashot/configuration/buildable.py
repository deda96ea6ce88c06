"""The allow-list of classes that a configuration may name, by key.

It holds the classes that the files of conf/ name at this key, in metashot and in the plug-ins that the user has enabled.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from metashot.bad_input import BadInput
from metashot.configuration import signatures
from metashot.files.paths import read_file

_PACKAGE = Path(__file__).resolve().parents[1]
_PACKAGED = _PACKAGE / "conf"  # in a wheel; an editable install reads the repository's instead
CONF = _PACKAGED if _PACKAGED.is_dir() else _PACKAGE.parents[1] / "conf"
TARGET = "_target_"
_MOST_BYTES = 2**20  # of a file of the configuration
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_GLOBAL_PACKAGE = "# @package _global_"
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


_conf_folders = [CONF]  # whose files name the allowed classes


def allow_classes_of(conf: Path) -> None:
    """Allow the classes that the files of a plug-in's conf/ name."""
    if conf not in _conf_folders:
        _conf_folders.append(conf)


def buildable() -> Mapping[str, frozenset[str]]:
    """The full names of the allowed classes, by the key of the node that may name them, such as `algo.optimizer`."""
    return _targets_by_key(tuple(_conf_folders))


def choice_of_backbone(target: object) -> str:
    """The choice of backbone= that builds a class, such as `conv4`; the name of the class where none does."""
    choices = {
        file.stem
        for folder in _conf_folders
        for file, key, named in targets_of(folder)
        if key == "backbone" and named == target
    }
    return min(choices, key=len, default=str(target).rpartition(".")[2].lower())


@cache
def _targets_by_key(folders: tuple[Path, ...]) -> Mapping[str, frozenset[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for folder in folders:
        for _, key, target in targets_of(folder):
            found[key].add(target)
    return {key: frozenset(targets) for key, targets in found.items()}


def targets_of(conf: Path) -> Iterator[tuple[Path, str, str]]:
    """The classes that the files of a folder name.

    Args:
        conf: the folder.

    Yields:
        The file, the key of the node and the full name of the class.

    Raises:
        BadInput: a file cannot be read.
    """
    for path in sorted(conf.rglob("*.yaml")):
        try:
            text = read_file(path, _MOST_BYTES).decode("utf-8")
            if conf != CONF and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _LOADER)):
                raise ValueError("it has references (*), which can stand for more than any memory holds")
            content = yaml.load(text, _LOADER)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from error
        groups = path.relative_to(conf).parts[:-1]
        top = "" if not groups or text.startswith(_GLOBAL_PACKAGE) else groups[0]
        for key, target in _targets(content, top):
            yield path, key, target


def target_of(node: Any, key: str) -> str:
    """The full name of the class that a node names, if it is allowed there.

    Configurations come from checkpoints too, which are not trusted: nothing outside the allow-list is ever imported.

    Args:
        node: the node.
        key: its key.

    Raises:
        BadInput: the class is not allowed at this key.
    """
    target = node.get(TARGET) if isinstance(node, dict) else None
    allowed = buildable().get(key, frozenset())
    if isinstance(target, str) and _CLASS.fullmatch(target) and not target.startswith("metashot.") and target not in allowed:
        raise BadInput(
            f"{key}.{TARGET}={target[:100]} cannot be built: it is not a class of metashot, and no enabled plug-in "
            "has it there; if you trust its package, enable it with plugins=[PACKAGE] (a file cannot)"
        )
    if not isinstance(target, str) or target not in allowed:
        choices = f"allowed: {', '.join(sorted(allowed))}" if allowed else "nothing is built there"
        raise BadInput(f"{key}.{TARGET}={str(target)[:100]} cannot be built; {choices}")
    try:
        signatures.parameters_of(target)
    except (RecursionError, TypeError) as error:  # source files of a plug-in may say anything
        raise BadInput(f"{key}.{TARGET}={target} cannot be read: {type(error).__name__}: {error}") from error
    except signatures.NoSuchClass as error:
        where = "this version of metashot" if target.startswith("metashot.") else "its plug-in"
        raise BadInput(f"{key}.{TARGET}={target} was not found in {where} ({error})") from error
    return target


def refuse_misplaced(value: Any, key: str = "") -> None:
    """Refuse a configuration in which a node, at any depth, names a class that is not allowed there.

    Args:
        value: a configuration or a part of it.
        key: its key.

    Raises:
        BadInput: a class is not allowed at its key.
    """
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
