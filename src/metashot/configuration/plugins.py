"""Plug-ins: other packages whose classes and conf/ a user enables by name, as in `plugins=[my_package]`.

Only the user can enable them, on the command line or in a call, and never a file such as a checkpoint: enabling a package
imports it, which runs its code.
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
_RESERVED = "stored"  # the choice of a group that was taken from a checkpoint


@dataclass(frozen=True)
class Plugin:
    """An enabled package."""

    name: str
    conf: Path


_enabled: dict[str, Plugin] = {}


def enable(names: Any) -> None:
    """Import packages, add the choices of their conf/ to ours, and allow the classes that these name.

    They stay enabled until the process ends; enabling one again has no effect.

    Args:
        names: a list of importable packages, each with a folder conf/.

    Raises:
        BadInput: a package cannot be imported, has no conf/, or its conf/ has a file of metashot or of another plug-in.
    """
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{KEY}={names} cannot be used; allowed: {_ALLOWED}")
    for name in names:
        if name not in _enabled:
            plugin = _checked(name)
            _enabled[name] = plugin
            allow_classes_of(plugin.conf)


def enabled() -> tuple[str, ...]:
    """The names of the enabled packages."""
    return tuple(_enabled)


def folders() -> tuple[Path, ...]:
    """The folders of configuration files: metashot's conf/, then those of the plug-ins."""
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
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a package raises is about the package
        reason = _said(error)
        raise BadInput(f"{KEY}=[{name}]: importing {name} failed ({type(error).__name__}: {reason})") from error
    return plugin


def _said(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:300]
    except Exception:
        return "it says nothing that can be read"


def _conf_of(name: str) -> Path:
    try:
        found = importlib.util.find_spec(name)  # imports the parent packages
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
            f"{KEY}=[{name}]: {name} has no folder conf/, so it is not a plug-in; allowed: a package with "
            "conf/algo/, conf/data/ or other groups of metashot"
        )
    return conf.resolve()


def _refuse_shadows(plugin: Plugin) -> None:
    """Refuse files that exist already: a package with its own `algo=maml` would make results incomparable."""
    for path in sorted(plugin.conf.rglob("*.yaml")):
        relative = path.relative_to(plugin.conf)
        for owner, folder in (("metashot", CONF), *((other.name, other.conf) for other in _enabled.values())):
            if (folder / relative).exists():
                raise BadInput(f"{KEY}=[{plugin.name}] has conf/{relative}, which {owner} has too: give it another name")
        if relative.stem == _RESERVED:
            raise BadInput(f"{KEY}=[{plugin.name}] has conf/{relative}, which is a reserved name: give it another name")


def _refuse_other_classes(plugin: Plugin) -> None:
    """Refuse classes of other packages, and classes of metashot at keys where metashot does not allow them."""
    known = buildable()
    for path, key, target in targets_of(plugin.conf):
        if not isinstance(target, str) or not (target.startswith(f"{plugin.name}.") or target in known.get(key, ())):
            kind = "metashot does not build there" if str(target).startswith("metashot.") else "is not one of its own"
            raise BadInput(
                f"{KEY}=[{plugin.name}]: {path} names {str(target)[:100]} at {key or 'the top'}, a class that {kind}; "
                f"allowed: {plugin.name}.* and what metashot has at this key"
            )
