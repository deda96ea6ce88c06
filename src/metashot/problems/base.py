"""What every kind of problem says of itself: how answers are judged, and how its scores are told and drawn.

A problem is one file. Whoever trains, scores, reports or draws asks the problem, and never which one it is.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]  # of answers to targets, one number
Picture = Literal["classes", "curves", "masks"]  # what an answered episode is drawn as


class Predictions(NamedTuple):
    """The predicted class of each query, where a problem asks for one."""

    labels: Tensor  # [T, Q]: within the task
    predicted: Tensor  # [T, Q]: likewise
    confidence: Tensor  # [T, Q]: the probability of the predicted class


class Problem(ABC):
    """Answers are [..., Q, *answer] and targets [..., Q, *target], in the shapes of one answer and of one target.

    Args:
        outputs: numbers in an answer, or the most classes that a task has.
    """

    kind: ClassVar[str]  # in messages, before "problem"
    metric: ClassVar[str]  # the name of the score
    in_percent: ClassVar[bool] = False  # whether the score is a share between 0 and 1, which people read in percent
    higher_is_better: ClassVar[bool]
    picture: ClassVar[Picture]
    has_classes: ClassVar[bool] = False  # whether outputs stand for the classes of a task
    inner_losses: ClassVar[Mapping[str, Loss]] = {}  # by name: what else a task may minimise on its support set

    # Not a dataclass: Hydra would hand it on as a dictionary.
    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    @abstractmethod
    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """The loss of each query: [..., Q]."""

    def loss(self, answers: Tensor, y: Tensor) -> Tensor:
        """The mean loss over queries, which training and inner loops minimise."""
        return self.losses(answers, y).mean()

    @abstractmethod
    def statistics(self, answers: Tensor, y: Tensor) -> Tensor:
        """What the scores of T tasks are made of: [T, K], sums over the queries of a task.

        The statistics of some of a task's queries and those of the others add up to those of all. K is the same for all
        tasks of a problem, whatever their numbers of classes and queries.
        """

    @abstractmethod
    def score_of(self, statistics: Tensor) -> Tensor:
        """The score of each task, from the sums of its statistics: [..., K] to [...]."""

    def score(self, answers: Tensor, y: Tensor) -> Tensor:
        """The mean score over T tasks, one number."""
        return self.score_of(self.statistics(answers, y)).mean()

    def predictions(self, answers: Tensor, y: Tensor) -> Predictions | None:
        """The predicted class of each query with its confidence; nothing where a query is not asked for one class."""
        return None

    def better(self, score: float, best: float | None) -> bool:
        """Whether a score beats the best one so far. Any finite one beats none at all, and one that is not finite beats
        nothing."""
        if not math.isfinite(score):
            return False
        if best is None or math.isnan(best):
            return True
        return score > best if self.higher_is_better else score < best


class ScoredByQuery(Problem):
    """A problem in which every query has a score of its own, and a task the mean of them."""

    @abstractmethod
    def scores(self, answers: Tensor, y: Tensor) -> Tensor:
        """The score of each query: [..., Q]."""

    def statistics(self, answers: Tensor, y: Tensor) -> Tensor:
        scores = self.scores(answers, y)  # [T, Q]
        # In 16 bits, counts above 256 would be rounded.
        sums = scores.sum(1, dtype=torch.promote_types(scores.dtype, torch.float32))
        return torch.stack([sums, torch.full_like(sums, scores.shape[1])], dim=1)

    def score_of(self, statistics: Tensor) -> Tensor:
        sums, queries = statistics.unbind(-1)
        return sums / queries

    def score(self, answers: Tensor, y: Tensor) -> Tensor:
        return self.scores(answers, y).mean()
