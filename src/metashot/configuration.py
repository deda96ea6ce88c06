"""The configuration as a whole: checked against what it builds, stored as plain containers, and built.

Nothing else under src/ reads the configuration tree: each object is handed its own arguments.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from metashot.arguments import Seed, check_arguments, check_value, parameters_of
from metashot.bad_input import BadInput

# What the program adds itself to the arguments that a group of the configuration gives.
SUPPLIED: Mapping[str, frozenset[str]] = {
    "backbone": frozenset({"input_shape"}),
    "data": frozenset({"seed"}),
    "engine": frozenset(),
    "algo": frozenset({"backbone", "problem", "engine"}),
    "trainer": frozenset(),
    "logger": frozenset(),
}
GROUPS = tuple(SUPPLIED)

Container = dict[str, Any]


def plain(config: DictConfig) -> Container:
    """The resolved configuration as dictionaries, lists and values."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def check(config: Container) -> None:
    """Refuse a configuration with a key, a type or a value that cannot be used, before anything is built."""
    _refuse_foreign_targets(config, "")
    check_value(config.get("seed"), Seed, "seed")
    for group in GROUPS:
        if group in config:
            check_node(config[group], group, SUPPLIED[group])


def _refuse_foreign_targets(value: Any, key: str) -> None:
    """Hydra builds whatever has a `_target_`, however deep it lies: all of them have to be ours."""
    if isinstance(value, dict):
        if "_target_" in value:
            locate(value, key)
        for name, inner in value.items():
            _refuse_foreign_targets(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            _refuse_foreign_targets(inner, f"{key}[{position}]")


def check_node(node: Container, key: str, supplied: frozenset[str] = frozenset()) -> None:
    """Check one object's arguments against the signature of what is built from them, and the objects inside it."""
    target = locate(node, key)
    arguments = {name: value for name, value in node.items() if name != "_target_"}
    check_arguments(target, arguments, key, supplied)
    for name, value in arguments.items():
        if isinstance(value, dict) and "_target_" in value:
            check_node(value, f"{key}.{name}")


def locate(node: Any, key: str) -> Callable[..., Any]:
    """The class or function of metashot that `_target_` names.

    Configurations come out of checkpoints, and nothing that is loaded may run code of somebody else's choice.
    """
    target = node.get("_target_") if isinstance(node, dict) else None
    if not isinstance(target, str) or not target.startswith("metashot."):
        raise BadInput(f"{key}._target_={target} cannot be built: it has to name a class or function of metashot")
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"{key}._target_={target} was not found in this version of metashot ({error})") from error
    if not callable(found) or getattr(found, "__module__", None) != module_name:
        raise BadInput(f"{key}._target_={target} cannot be built: it has to name a class or function of metashot")
    return found  # type: ignore[no-any-return]


def build(node: Container, **supplied: Any) -> Any:
    """The object that a node of a checked configuration describes."""
    try:
        return instantiate(node, **supplied, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, BadInput):
            raise error.__cause__ from None
        raise


def build_algorithm(config: Container, **supplied: Any) -> Any:
    """The algorithm, which is handed the engine if it has an inner loop."""
    if "engine" in parameters_of(locate(config["algo"], "algo")):
        supplied["engine"] = build(config["engine"])
    elif (engine := locate(config["engine"], "engine").__name__.lower()) != "auto":
        raise BadInput(f"algo={config['algo']['name']} has no inner loop that engine={engine} could run: leave engine out")
    return build(config["algo"], **supplied)


def differences(new: Container, old: Container, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The keys whose values differ, with both values."""
    for key in sorted(new.keys() | old.keys()):
        a, b = new.get(key), old.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}", a, b
