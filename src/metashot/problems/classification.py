"""Classification: each query belongs to one class of its task."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.problems.base import Loss, Predictions, ScoredByQuery


def _one_hot(y: Tensor, like: Tensor) -> Tensor:
    # torch's one_hot reads the values, which vmap does not support.
    return (y.unsqueeze(-1) == torch.arange(like.shape[-1], device=y.device)).to(like.dtype)


def _cross_entropy(answers: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(answers.flatten(0, -2), y.flatten())


def _squared_to_one_hot(answers: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(answers, _one_hot(y, answers))


def _hinge(answers: Tensor, y: Tensor) -> Tensor:
    """The multi-class hinge loss with margin 1, averaged over the other classes."""
    true = _one_hot(y, answers)
    margins = (1 + answers - (answers * true).sum(-1, keepdim=True)).clamp_min(0)
    return (margins * (1 - true)).sum(-1).mean() / (answers.shape[-1] - 1)


class Classification(ScoredByQuery):
    """Answers are logits [T, Q, ways], targets are labels [T, Q]. The score is the accuracy."""

    kind = "classification"
    metric = "accuracy"
    in_percent = True
    higher_is_better = True
    picture = "classes"
    has_classes = True
    inner_losses: ClassVar[Mapping[str, Loss]] = {
        "cross_entropy": _cross_entropy,
        "hinge": _hinge,
        "mse": _squared_to_one_hot,
    }

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(answers.flatten(0, -2), y.flatten(), reduction="none").view_as(y)

    def loss(self, answers: Tensor, y: Tensor) -> Tensor:
        return _cross_entropy(answers, y)

    def scores(self, answers: Tensor, y: Tensor) -> Tensor:
        return (answers.argmax(-1) == y).to(answers.dtype)

    def predictions(self, answers: Tensor, y: Tensor) -> Predictions:
        confidence, predicted = answers.float().softmax(-1).max(-1)
        return Predictions(y, predicted, confidence)
