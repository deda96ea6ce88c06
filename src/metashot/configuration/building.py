"""The objects that a checked configuration describes."""

import importlib
from copy import deepcopy
from typing import Any

from metashot.bad_input import BadInput
from metashot.configuration import signatures
from metashot.configuration.buildable import TARGET, buildable, target_of
from metashot.configuration.checking import Container, arguments_of_class


def locate(node: Any, key: str) -> type[Any]:
    """The class that a node at this key describes.

    Raises:
        BadInput: if the class may not stand there.
    """
    return _imported(target_of(node, key))


def build(node: Container, **supplied: Any) -> Any:
    """The object that a node of a checked configuration describes, with the arguments that the program adds."""
    target = node[TARGET]
    if not any(target in targets for targets in buildable().values()):  # checked before; nothing else may ever be built
        raise BadInput(f"{TARGET}={target} cannot be built")
    arguments = {name: _built(value) for name, value in node.items() if name != TARGET}
    return _imported(target)(**arguments, **supplied)


def build_algorithm(config: Container, **supplied: Any) -> Any:
    """The algorithm, which is handed the engine if it has an inner loop."""
    if "engine" in signatures.parameters_of(target_of(config["algo"], "algo")):
        supplied["engine"] = build(config["engine"])
    elif (engine := target_of(config["engine"], "engine").rpartition(".")[2].lower()) != "auto":
        raise BadInput(f"algo={config['algo']['name']} has no inner loop that engine={engine} could run: leave engine out")
    return build(arguments_of_class(config["algo"], "algo"), **supplied)


def _built(value: Any) -> Any:
    return build(value) if isinstance(value, dict) and TARGET in value else deepcopy(value)


def _imported(target: str) -> type[Any]:
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        if target.startswith("metashot."):
            raise
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"the plug-in's {module} cannot be imported ({type(error).__name__}: {reason})") from error
    if not isinstance(found, type):
        raise BadInput(f"{TARGET}={target} is a {type(found).__name__} and not a class, so that it cannot be built")
    return found
