"""Regression: each query has a vector of numbers as its target."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from metashot.problems.base import Loss, ScoredByQuery


class Regression(ScoredByQuery):
    """Answers and targets are numbers [T, Q, outputs]. The score is the squared error, averaged over outputs."""

    kind = "regression"
    metric = "mse"
    higher_is_better = False
    picture = "curves"
    inner_losses: ClassVar[Mapping[str, Loss]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        return (answers - y).square().mean(-1)

    def scores(self, answers: Tensor, y: Tensor) -> Tensor:
        return self.losses(answers, y)
