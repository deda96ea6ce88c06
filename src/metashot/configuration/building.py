"""Builds the objects that a checked configuration describes."""

import importlib
from copy import deepcopy
from typing import Any

from metashot.bad_input import BadInput
from metashot.configuration import signatures
from metashot.configuration.buildable import TARGET, buildable, target_of
from metashot.configuration.checking import Container, arguments_of_class
from metashot.sources.source import FEATURES, PIXELS, TOKENS


def locate(node: Any, key: str) -> type[Any]:
    """Import the class that a node names.

    Args:
        node: the node.
        key: its key.

    Raises:
        BadInput: the class is not allowed at this key.
    """
    return _imported(target_of(node, key))


def build(node: Container, **supplied: Any) -> Any:
    """Build the object that a node of a checked configuration describes.

    Args:
        node: the node, with the arguments of the class.
        **supplied: arguments that the program adds.
    """
    target = node[TARGET]
    if not any(target in targets for targets in buildable().values()):  # checked before; a second line of defence
        raise BadInput(f"{TARGET}={target} cannot be built")
    arguments = {name: _built(value) for name, value in node.items() if name != TARGET}
    return _imported(target)(**arguments, **supplied)


_NOUNS = {PIXELS: "images", TOKENS: "texts", FEATURES: "vectors"}


def build_backbone(node: Container, items: str, data: str, input_shape: tuple[int, ...]) -> Any:
    """Build the backbone, if it is for items of this kind.

    Args:
        node: its node in a checked configuration.
        items: the kind of the items, such as `tokens`.
        data: the name of the data that they are from, for messages.
        input_shape: the shape of one input.

    Raises:
        BadInput: it reads texts and the items are others, or the other way round.
    """
    target = target_of(node, "backbone")
    try:
        of_texts = signatures.constant(target, "of_texts")
    except AttributeError:  # a plug-in's network need not be a Backbone
        of_texts = False
    if of_texts != (items == TOKENS):
        name, found = node[TARGET].rpartition(".")[2].lower(), _NOUNS.get(items, items)
        reads, advice = ("texts", "conv4 for images or mlp for vectors") if of_texts else ("no texts", "textcnn")
        raise BadInput(f"backbone={name} reads {reads}, and data={data} has {found}: choose another one, such as {advice}")
    return build(node, input_shape=input_shape)


def build_algorithm(config: Container, **supplied: Any) -> Any:
    """Build the algorithm, with the engine if it has an inner loop.

    Args:
        config: a checked configuration.
        **supplied: arguments that the program adds, such as the backbone.

    Raises:
        BadInput: an engine was chosen for an algorithm without an inner loop.
    """
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
