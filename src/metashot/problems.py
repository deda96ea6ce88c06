"""What tasks ask for, classes or numbers: how answers are judged, and by which score learners are compared."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]  # of answers to targets, one number


class Problem(ABC):
    """Answers are [..., outputs]."""

    metric: str  # the name of the score
    higher_is_better: bool
    has_classes: ClassVar[bool] = False  # whether outputs stand for the classes of a task
    inner_losses: ClassVar[Mapping[str, Loss]] = {}  # by name: what else a task may minimise on its support set

    # Not a dataclass: Hydra would hand it on as a dictionary.
    def __init__(self, outputs: int) -> None:
        self.outputs = outputs  # numbers in an answer: in classification, the most classes that a task has

    @abstractmethod
    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """The loss of each answer, in the shape of the answers without their last dimension."""

    @abstractmethod
    def scores(self, answers: Tensor, y: Tensor) -> Tensor:
        """The score of each answer, likewise; an episode's score is their mean."""

    def loss(self, answers: Tensor, y: Tensor) -> Tensor:
        return self.losses(answers, y).mean()

    def better(self, score: float, best: float | None) -> bool:
        """Whether a score beats the best one so far. Any finite one beats none at all, and one that is not finite beats
        nothing."""
        if not math.isfinite(score):
            return False
        if best is None or math.isnan(best):
            return True
        return score > best if self.higher_is_better else score < best


def _one_hot(y: Tensor, like: Tensor) -> Tensor:
    # torch's own looks at the values, which vmap cannot do.
    return (y.unsqueeze(-1) == torch.arange(like.shape[-1], device=y.device)).to(like.dtype)


def _cross_entropy(answers: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(answers.flatten(0, -2), y.flatten())


def _squared_to_one_hot(answers: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(answers, _one_hot(y, answers))


def _hinge(answers: Tensor, y: Tensor) -> Tensor:
    """By how much another class's logit comes within 1 of the true one's, on average over the other classes."""
    true = _one_hot(y, answers)
    margins = (1 + answers - (answers * true).sum(-1, keepdim=True)).clamp_min(0)
    return (margins * (1 - true)).sum(-1).mean() / (answers.shape[-1] - 1)


class Classification(Problem):
    """To which class of its task does a query belong? y are labels."""

    metric = "accuracy"
    higher_is_better = True
    has_classes = True
    inner_losses: ClassVar[Mapping[str, Loss]] = {
        "cross_entropy": _cross_entropy,
        "hinge": _hinge,
        "mse": _squared_to_one_hot,
    }

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(answers.flatten(0, -2), y.flatten(), reduction="none").view_as(y)

    def loss(self, answers: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(answers.flatten(0, -2), y.flatten())

    def scores(self, answers: Tensor, y: Tensor) -> Tensor:
        return (answers.argmax(-1) == y).to(answers.dtype)


class Regression(Problem):
    """Which numbers belong to a query? y are as the answers."""

    metric = "mse"
    higher_is_better = False
    inner_losses: ClassVar[Mapping[str, Loss]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        return (answers - y).square().mean(-1)

    def scores(self, answers: Tensor, y: Tensor) -> Tensor:
        return self.losses(answers, y)


PROBLEMS: dict[str, type[Problem]] = {kind.__name__: kind for kind in (Classification, Regression)}
