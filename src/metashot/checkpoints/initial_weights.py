"""`init_from=`: start from the trained backbone of another learner, and from its head where it fits."""

from typing import Any

import torch
from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.backbones.base import MARK, Backbone
from metashot.bad_input import BadInput
from metashot.checkpoints.compatibility import refuse_another_backbone
from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.stored import BEST, OURS, find_checkpoint

Weights = dict[str, Tensor]


def load_initial_weights(given: str, algorithm: Algorithm, backbone: dict[str, Any]) -> str:
    """Copy the weights of a checkpoint into an algorithm.

    Args:
        given: the value of `init_from`.
        algorithm: the algorithm, whose weights are overwritten.
        backbone: the configuration of its backbone.

    Returns:
        A line that tells the user which weights were copied.

    Raises:
        BadInput: if the checkpoint is unusable or does not fit.
    """
    path = find_checkpoint(given, "init_from", BEST)
    checkpoint = read_checkpoint(path)
    config = checkpoint[OURS]["config"]
    refuse_another_backbone(given, backbone, config["backbone"])
    theirs: Weights = checkpoint["state_dict"]
    their_body = _part(theirs, "backbone")
    if MARK in their_body:
        _refuse_other_published(given, algorithm, their_body.pop(MARK))
    else:
        _forget_published(algorithm)
    own: Weights = algorithm.state_dict()  # shares memory with the algorithm
    body = _part(own, "backbone") if their_body else {}
    protocol = config["backbone"].get("normalisation")
    without_place = [name for name in their_body if name not in body and "running_" not in name]
    if missing := [*(name for name in body if name not in their_body), *without_place]:
        raise BadInput(
            f"init_from={given} was trained with backbone.normalisation={protocol}, and {missing[0]} is in one of both "
            f"backbones only: give backbone.normalisation={protocol}"
        )
    for name, values in body.items():
        _copy(given, name, values, their_body[name])
    parts = "the backbone"
    head, their_head = _part(own, "head"), _part(theirs, "head")
    fits = bool(head) and {name: value.shape for name, value in head.items()} == {
        name: value.shape for name, value in their_head.items()
    }
    if algorithm.needs_head and not fits:
        raise BadInput(f"init_from={given} has no head that fits these data, which algo.head=kept needs: use algo.head=new")
    if algorithm.takes_head and fits:
        for name, values in head.items():
            values.copy_(their_head[name])
        parts += " and the head"
    return f"init_from: {parts} of {path} ({config['algo'].get('name')}, step {checkpoint['global_step']})"


def _refuse_other_published(given: str, algorithm: Algorithm, digest: Tensor) -> None:
    """Refuse a checkpoint with other published weights than this run's, which has loaded them already."""
    named = bytes(digest.to(torch.uint8).flatten().tolist()).hex()
    if any(backbone.public_digest != named for backbone in _backbones(algorithm)):
        raise BadInput(
            f"init_from={given} was trained with other published weights of the same name than backbone.weights finds now: "
            "give backbone.weights the file that it was trained with"
        )


def _forget_published(algorithm: Algorithm) -> None:
    """Let the states of backbones hold weights, since others take the place of published ones."""
    for backbone in _backbones(algorithm):
        backbone.public_digest = None


def _backbones(algorithm: Algorithm) -> list[Backbone]:
    return [module for module in algorithm.modules() if isinstance(module, Backbone)]


def _part(weights: Weights, part: str) -> Weights:
    """The weights of a part, by their names within it, whether or not it is inside a `network`."""
    found = {}
    for name, value in weights.items():
        above, dot, below = name.partition(f"{part}.")
        if dot and above in ("", "network."):
            found[below] = value
    return found


def _copy(given: str, name: str, values: Tensor, loaded: Tensor) -> None:
    # An algorithm with separate values for each inner step starts all steps from the same ones.
    for_each_step = values.dim() == loaded.dim() + 1 and values.shape[1:] == loaded.shape
    if values.shape != loaded.shape and not for_each_step:
        raise BadInput(
            f"init_from={given} holds {name} of the shape {list(loaded.shape)}, but this run's is {list(values.shape)}: "
            "was it trained on images of another size, or with another number of inner steps?"
        )
    values.copy_(loaded.expand_as(values))
