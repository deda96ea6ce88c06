"""The base class of algorithms that answer all queries of a task together, on features that were trained beforehand."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import memberships
from metashot.algorithms.transfer.supervised import SupervisedFeatures
from metashot.backbones.base import Backbone
from metashot.problems import Problem

_NUMBERS_AT_ONCE = 2**20  # features of tasks that are answered at once: what fits a processor's cache is answered faster


class AnswersTogether(SupervisedFeatures):
    """A learner of trained features whose answers are the logarithms of soft assignments of all queries to the classes.

    A subclass implements `assign`. Its tasks do not depend on each other, and the answers of one with a feature that is not
    finite are not finite either.
    """

    def __init__(self, backbone: Backbone, problem: Problem, optimizer: Optimization) -> None:
        super().__init__(backbone, problem, optimizer)
        self.transductive = True

    @abstractmethod
    def assign(self, support: Tensor, members: Tensor, query: Tensor) -> Tensor:
        """Assign the queries of each task to its classes, without gradients.

        Args:
            support: Finite features [T, S, features], in single or double precision.
            members: One-hot labels [T, S, ways].
            query: Finite features [T, Q, features].

        Returns:
            The logarithms of the probabilities [T, Q, ways].
        """

    @torch.no_grad()
    def answer(self, support: Any, query: Tensor) -> Tensor:
        x, asked = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (support.x, query))
        with torch.autocast(query.device.type, enabled=False):
            usable = (x.isfinite().all(-1).all(-1) & asked.isfinite().all(-1).all(-1))[:, None, None]  # [T, 1, 1]
            x, asked = (torch.where(usable, part, 0.0) for part in (x, asked))
            size = self._tasks_together((x.shape[1] + asked.shape[1]) * x.shape[2], query.device)
            parts = zip(*(torch.split(part, size) for part in (x, memberships(support.y, x), asked)), strict=True)
            answers = torch.cat([self.assign(*part) for part in parts])
            return torch.where(usable, answers, torch.nan).to(query.dtype)

    def _tasks_together(self, numbers: int, device: torch.device) -> int:
        """The number of tasks of so many features each that are assigned at once."""
        return max(1, _NUMBERS_AT_ONCE * (1 if device.type == "cpu" else 128) // numbers)
