"""Plug-ins: packages of others whose classes and conf/ a user lets in by name, as in `plugins=[my_package]`.

Only a user names them, on the command line or in a call. What is read from a file, such as a checkpoint, never does: naming
a package imports it, and that runs its code.
"""

import importlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metashot.bad_input import BadInput
from metashot.configuration.buildable import CONF, allow_classes_of, buildable, targets_of

KEY = "plugins"
_ALLOWED = "a list of names of packages that Python can import, as in plugins=[my_package]"
_PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_RESERVED = "stored"  # what a group is called that comes from a checkpoint


@dataclass(frozen=True)
class Plugin:
    """A package that was let in."""

    name: str
    conf: Path


_enabled: dict[str, Plugin] = {}


def enable(names: Any) -> None:
    """Import packages, let the classes that their conf/ names be built where it names them, and add conf/'s choices to ours.

    They stay enabled as long as the process runs; to enable one again changes nothing.

    Args:
        names: a list of importable packages, each of which has a folder conf/.

    Raises:
        BadInput: if one cannot be imported, has no conf/, or has something in it that metashot or another plug-in has.
    """
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{KEY}={names} cannot be used; allowed: {_ALLOWED}")
    for name in names:
        if name not in _enabled:
            plugin = _checked(name)
            _enabled[name] = plugin
            allow_classes_of(plugin.conf)


def enabled() -> tuple[str, ...]:
    """The names of the packages that were let in."""
    return tuple(_enabled)


def folders() -> tuple[Path, ...]:
    """Where the files of the configuration are: metashot's conf/, then those of the plug-ins."""
    return (CONF, *(plugin.conf for plugin in _enabled.values()))


def file_of(relative: str) -> Path:
    """The file of a choice such as `algo/maml`, in metashot's conf/ or in a plug-in's."""
    return next((path for folder in folders() if (path := folder / f"{relative}.yaml").is_file()), CONF / f"{relative}.yaml")


def _checked(name: str) -> Plugin:
    """A package, imported once all that can be wrong without it is known to be right."""
    if not _PACKAGE.fullmatch(name):
        raise BadInput(f"{KEY}=[{name[:100]}] cannot be used; allowed: {_ALLOWED}")
    if name.partition(".")[0] == "metashot":
        raise BadInput(f"{KEY}=[{name}] is metashot itself, whose classes are known: leave it out")
    try:
        plugin = Plugin(name, _conf_of(name))
        _refuse_shadows(plugin)
        _refuse_other_classes(plugin)
        importlib.import_module(name)
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"{KEY}=[{name}]: importing {name} failed ({type(error).__name__}: {reason})") from error
    return plugin


def _conf_of(name: str) -> Path:
    try:
        found = importlib.util.find_spec(name)  # imports what stands above a package in another
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        found = None
    if found is None:
        raise BadInput(
            f"{KEY}=[{name}]: there is no package {name} that Python can import: install it, or add the folder that "
            "holds it to PYTHONPATH"
        )
    places = [Path(place) / "conf" for place in found.submodule_search_locations or ()]
    conf = next((place for place in places if place.is_dir()), None)
    if conf is None:
        raise BadInput(
            f"{KEY}=[{name}]: {name} has no folder conf/, so that it is not a plug-in; allowed: a package with "
            "conf/algo/, conf/data/ or other groups of metashot"
        )
    return conf.resolve()


def _refuse_shadows(plugin: Plugin) -> None:
    """A choice means one thing: a package that had another `algo=maml` would change what others measured."""
    for path in sorted(plugin.conf.rglob("*.yaml")):
        relative = path.relative_to(plugin.conf)
        for owner, folder in (("metashot", CONF), *((other.name, other.conf) for other in _enabled.values())):
            if (folder / relative).exists():
                raise BadInput(f"{KEY}=[{plugin.name}] has conf/{relative}, which {owner} has too: give it another name")
        if relative.stem == _RESERVED:
            raise BadInput(f"{KEY}=[{plugin.name}] has conf/{relative}, which metashot needs itself: give it another name")


def _refuse_other_classes(plugin: Plugin) -> None:
    """It lets in its own classes. What is metashot's stays where metashot has it, and other packages are not its to give."""
    known = buildable()
    for path, key, target in targets_of(plugin.conf):
        if not isinstance(target, str) or not (target.startswith(f"{plugin.name}.") or target in known.get(key, ())):
            kind = "metashot does not build there" if str(target).startswith("metashot.") else "is not one of its own"
            raise BadInput(
                f"{KEY}=[{plugin.name}]: {path} names {str(target)[:100]} at {key or 'the top'}, a class that {kind}; "
                f"allowed: {plugin.name}.* and what metashot has at this key"
            )
