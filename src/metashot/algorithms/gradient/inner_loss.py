"""What a task minimises on its support set."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.problems import Classification, Problem

InnerLossName = Literal["auto", "cross_entropy", "hinge", "mse", "l1", "huber"]
Loss = Callable[[Tensor, Tensor], Tensor]


def _one_hot(y: Tensor, like: Tensor) -> Tensor:
    # torch's own looks at the values, which vmap cannot do.
    return (y.unsqueeze(-1) == torch.arange(like.shape[-1], device=y.device)).to(like.dtype)


def _squared_to_one_hot(answers: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(answers, _one_hot(y, answers))


def _hinge(answers: Tensor, y: Tensor) -> Tensor:
    """How far the score of another class comes within 1 of the right one's, on average over the other classes."""
    right = _one_hot(y, answers)
    margins = (1 + answers - (answers * right).sum(-1, keepdim=True)).clamp_min(0)
    return (margins * (1 - right)).sum(-1).mean() / (answers.shape[-1] - 1)


_OF_CLASSES: dict[str, Loss] = {
    "cross_entropy": lambda answers, y: F.cross_entropy(answers.flatten(0, -2), y.flatten()),
    "hinge": _hinge,
    "mse": _squared_to_one_hot,
}
_OF_NUMBERS: dict[str, Loss] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}


def loss_named(name: InnerLossName, problem: Problem) -> Loss:
    """The loss of that name; `auto` is the one by which the problem judges answers."""
    if name == "auto":
        return problem.loss
    losses = _OF_CLASSES if isinstance(problem, Classification) else _OF_NUMBERS
    if name not in losses:
        kind = type(problem).__name__.lower()
        raise BadInput(
            f"algo.inner_loss={name} cannot judge answers of a {kind} problem; allowed: auto, {', '.join(losses)}"
        )
    return losses[name]
