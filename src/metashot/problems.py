"""What tasks ask for, classes or numbers: how answers are judged, and by which score learners are compared."""

import math
from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor


class Problem(ABC):
    """Answers are [..., outputs]."""

    metric: str  # the name of the score
    higher_is_better: bool

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


class Classification(Problem):
    """To which class of its task does a query belong? y are labels."""

    metric = "accuracy"
    higher_is_better = True

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

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        return (answers - y).square().mean(-1)

    def scores(self, answers: Tensor, y: Tensor) -> Tensor:
        return self.losses(answers, y)


PROBLEMS: dict[str, type[Problem]] = {kind.__name__: kind for kind in (Classification, Regression)}
