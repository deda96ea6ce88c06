"""`metashot.load` and `metashot.load_fitted`: learners from checkpoints and from their own files."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from metashot.applied.class_learner import ClassLearner, VectorLearner
from metashot.applied.images import Ink, form_of
from metashot.applied.learner import Device, Learner, Loaded, kind_of
from metashot.applied.network import TrainedNetwork, fitted_content, made, read_network
from metashot.applied.number_learner import NumberLearner
from metashot.applied.policy_learner import PolicyLearner
from metashot.applied.text_learner import TextLearner
from metashot.bad_input import BadInput, BadValue
from metashot.checkpoints.stored import BEST, find_checkpoint
from metashot.configuration.plugins import enable
from metashot.files.outputs import holds_fit
from metashot.files.paths import given_path
from metashot.sources.getting.files import printable

_OTHERS = {one.__name__: one for one in (VectorLearner, TextLearner, NumberLearner, PolicyLearner)}  # which have no images


def load(
    checkpoint: str | os.PathLike[str], device: Device = "auto", ink: Ink = "auto", plugins: Sequence[str] = ()
) -> Learner:
    """Load a trained learner, to be fitted to a few examples.

    Args:
        checkpoint: A checkpoint, or the folder of a run, whose best checkpoint is then loaded.
        device: "auto" (the GPU where there is one), "cpu", "cuda", "cuda:1" or "mps".
        ink: Only for learners of drawings with bright ink on a dark background, such as glyphs and omniglot: "auto" inverts
            each image whose border is bright, "dark" inverts all images, "bright" none.
        plugins: Packages with classes that the checkpoint names. A checkpoint never imports them by itself.

    Returns:
        A `ClassLearner` for images, a `TextLearner` for texts, a `VectorLearner` for vectors, a `NumberLearner` for
        regression, or a `PolicyLearner` for reinforcement learning.

    Raises:
        BadInput: The checkpoint cannot be read, or an argument cannot be used.
    """
    enable(plugins)
    path = find_checkpoint(checkpoint, "checkpoint", BEST)
    if holds_fit(path):
        raise BadInput(f"{printable(path)} is a fitted learner and not a checkpoint: read it with metashot.load_fitted")
    return learner_of(read_network(checkpoint, device), checkpoint, device, ink)


def load_fitted(path: str | os.PathLike[str], device: Device = "auto", plugins: Sequence[str] = ()) -> Learner:
    """Load a fitted learner that `Learner.save` wrote. Its predictions are the same as before it was saved.

    Args:
        path: The file.
        device: As in `load`.
        plugins: As in `load`.

    Returns:
        The fitted learner, ready to predict.

    Raises:
        BadInput: The file is not a fitted learner, or cannot be read.
    """
    enable(plugins)
    file = given_path(path, "path")
    content = fitted_content(file)
    network = made(content["config"], content["origin"], content["weights"], file, device)
    return restored(network, content, path, device)


def restored(network: TrainedNetwork, content: Mapping[str, Any], path: str | os.PathLike[str], device: Device) -> Learner:
    """The learner with this network, fitted as stored in its file."""
    learner = learner_of(network, path, device, content.get("ink", "auto"))
    learner.restore(content)
    return learner


def learner_of(network: TrainedNetwork, checkpoint: str | os.PathLike[str], device: Device, ink: Ink) -> Learner:
    """An unfitted learner with a network that was read from this checkpoint."""
    learner: Learner
    kind = kind_of(network)
    if kind != ClassLearner.__name__:
        if ink != "auto":
            raise BadValue(f"ink={ink} is for learners of drawings, and this one was not trained on images: leave ink out")
        learner = _OTHERS[kind](checkpoint, device)
    else:
        form_of(network.config, network.origin, ink)  # for its check of `ink`
        learner = ClassLearner(checkpoint, device, ink)
    learner._loaded = Loaded(checkpoint, device, network)
    return learner
