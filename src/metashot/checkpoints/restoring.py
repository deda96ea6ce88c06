"""Rebuilds a trained algorithm from the configuration and the weights in its checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.checkpoints.stored import OURS, items_of
from metashot.configuration import signatures
from metashot.configuration.buildable import target_of
from metashot.data.presentation.tokens import Tokens
from metashot.problems import PROBLEMS
from metashot.sources.getting.files import printable
from metashot.sources.source import TOKENS

Origin = Mapping[str, Any]  # the description of the training data in a checkpoint


def origin_of(checkpoint: Mapping[str, Any], path: Path) -> Origin:
    origin: Origin | None = checkpoint[OURS].get("origin")
    if origin is None:
        raise BadInput(
            f"{printable(path)} was written by an older version of metashot, which did not record its training data"
        )
    return origin


def trained_algorithm(
    config: configuration.Container, origin: Origin, weights: Mapping[str, Tensor], path: Path, double: bool
) -> Algorithm:
    """Build the algorithm of a checked configuration and load its weights.

    Args:
        config: the configuration that the algorithm is built from.
        origin: the description of the training data, which determines the input and output sizes.
        weights: the weights from the checkpoint.
        path: the file of the checkpoint, for messages.
        double: whether to compute in 64-bit instead of 32-bit floating point.

    Raises:
        BadInput: if the algorithm does not solve the problem, or the weights do not fit.
    """
    algo = target_of(config["algo"], "algo")
    if not _solves(algo, origin["problem"]):
        raise BadInput(
            f"{printable(path)} was trained on a {PROBLEMS[origin['problem']].kind} problem, which {algo} cannot learn"
        )
    told, is_told = bool(origin.get("told", False)), bool(signatures.constant(algo, "is_told"))
    if told != is_told:
        what = "was trained to be told the task" if told else "was not trained to be told the task"
        raise BadInput(
            f"{printable(path)} {what}, and algo={config['algo'].get('name')} {'is not' if told else 'is'}: leave algo as "
            "the checkpoint has it"
        )
    # Try on the meta device first: a stored configuration may describe a network larger than the memory of any machine.
    with torch.device("meta"):
        _load(_built(config, origin), {name: torch.empty(value.shape) for name, value in weights.items()}, path)
    algorithm = _built(config, origin)
    if double:
        algorithm.double()
    _load(algorithm, weights, path)
    if items_of(origin) == TOKENS:
        _refuse_other_tokens(algorithm, origin, path)
    return algorithm


def _refuse_other_tokens(algorithm: Algorithm, origin: Origin, path: Path) -> None:
    """Refuse a tokenizer whose ids are not those that the backbone has vectors for."""
    try:
        presentation = Tokens()
        presentation.look_like(origin, str(origin["name"]))
        for module in algorithm.modules():
            if isinstance(module, Backbone) and module.wants is not None and "tokenizer" in module.wants:
                presentation.refuse_other(module.wants)
    except BadInput as error:
        raise BadInput(f"{printable(path)} cannot be used: {error}") from error


def _solves(algorithm: str, problem: str) -> bool:
    return problem in [name.rpartition(".")[2] for name in signatures.constant(algorithm, "solves")]


def _built(config: configuration.Container, origin: Origin) -> Algorithm:
    backbone = configuration.build_backbone(
        config["backbone"], items_of(origin), origin["name"], tuple(origin["input_shape"])
    )
    problem = PROBLEMS[origin["problem"]].described(origin)
    algorithm: Algorithm = configuration.build_algorithm(config, backbone=backbone, problem=problem)
    return algorithm


def _load(algorithm: Algorithm, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        algorithm.load_state_dict(weights)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise BadInput(
            f"the weights in {printable(path)} do not fit the network that algo.*, backbone.* and data.* describe: {first}; "
            "leave these keys as the checkpoint has them"
        ) from error
