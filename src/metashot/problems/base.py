"""The interface of a problem: its loss, its score, and how results are reported and drawn.

Each problem is one file. Training, scoring, reports and pictures use this interface and never check which problem it is.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from metashot.bad_input import BadInput

Loss = Callable[[Tensor, Tensor], Tensor]  # (answers, targets) to a scalar
Picture = Literal["classes", "curves", "bands", "masks", "worlds"]  # what an answered episode is drawn as


class Predictions(NamedTuple):
    """The predicted class of each query, for problems with one class per query."""

    labels: Tensor  # [T, Q]: the true labels within the task
    predicted: Tensor  # [T, Q]: the predicted labels within the task
    confidence: Tensor  # [T, Q]: the probability of the predicted class


class Problem(ABC):
    """Base class of problems.

    Answers are [..., Q, *answer] and targets [..., Q, *target], where *answer and *target are the shapes of one answer and
    of one target.

    Args:
        outputs: The size of an answer, or the largest number of classes in a task.
    """

    kind: ClassVar[str]  # in messages, before "problem"
    metric: ClassVar[str]  # the name of the score
    in_percent: ClassVar[bool] = False  # whether the score is a share between 0 and 1, printed in percent
    higher_is_better: ClassVar[bool]
    picture: ClassVar[Picture]
    has_classes: ClassVar[bool] = False  # whether outputs stand for the classes of a task
    inner_losses: ClassVar[Mapping[str, Loss]] = {}  # by name: losses that an inner loop may minimise
    usual_algorithm: ClassVar[str] = "algo=maml"  # one that solves it, for messages
    usual_data: ClassVar[str] = "data=glyphs"  # data that pose it, likewise

    # Not a dataclass, since Hydra would pass it on as a dictionary.
    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    @classmethod
    def described(cls, origin: Mapping[str, Any]) -> Self:
        """The problem of the data that a checkpoint describes."""
        return cls(origin["outputs"])

    @abstractmethod
    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """The loss of each query: [..., Q]."""

    def loss(self, answers: Tensor, y: Tensor) -> Tensor:
        """The mean loss over queries, which training and inner loops minimise."""
        return self.losses(answers, y).mean()

    @abstractmethod
    def statistics(self, answers: Tensor, y: Tensor) -> Tensor:
        """The sums over each task's queries from which its score is computed: [T, K].

        Statistics are additive: those of two disjoint sets of a task's queries add up to those of their union. K is the
        same for all tasks of a problem, for any number of classes and queries.
        """

    @abstractmethod
    def score_of(self, statistics: Tensor) -> Tensor:
        """The score of each task, computed from its statistics: [..., K] to [...]."""

    def score(self, answers: Tensor, y: Tensor) -> Tensor:
        """The mean score over T tasks, a scalar."""
        return self.score_of(self.statistics(answers, y)).mean()

    def measures_of(self, statistics: Tensor) -> dict[str, Tensor]:
        """What else a report says of each task, by name, computed from its statistics [..., K]; by default nothing."""
        return {}

    def with_deviations(self) -> "Problem":
        """The same problem for algorithms whose answers also have standard deviations.

        Raises:
            BadInput: Answers to this problem have none.
        """
        raise BadInput(f"answers to a {self.kind} problem have no standard deviations: choose data of numbers")

    def predictions(self, answers: Tensor, y: Tensor) -> Predictions | None:
        """The predicted class of each query with its confidence; None for problems without one class per query."""
        return None

    def better(self, score: float, best: float | None) -> bool:
        """Whether a score beats the best score so far.

        A finite score beats None and NaN; a non-finite score never beats anything.
        """
        if not math.isfinite(score):
            return False
        if best is None or math.isnan(best):
            return True
        return score > best if self.higher_is_better else score < best


class ScoredByQuery(Problem):
    """A problem in which each query has a score, and a task's score is their mean."""

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
