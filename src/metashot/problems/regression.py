"""Regression: each query has a vector of numbers as its target, which algorithms predict with or without a deviation."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.problems.base import Loss, Picture, Problem, ScoredByQuery

LOG_LIKELIHOOD, COVERAGE = "log_likelihood", "coverage"  # the measures of answers with deviations
BAND = 1.959964  # standard deviations on either side of the mean, between which 95 % of a normal distribution lie


class Regression(ScoredByQuery):
    """Answers and targets are numbers [T, Q, outputs]. The score is the squared error, averaged over outputs."""

    kind = "regression"
    metric = "mse"
    higher_is_better = False
    usual_data = "data=sinusoid"
    picture: ClassVar[Picture] = "curves"
    inner_losses: ClassVar[Mapping[str, Loss]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        return (answers - y).square().mean(-1)

    def scores(self, answers: Tensor, y: Tensor) -> Tensor:
        return self.losses(answers, y)

    def with_deviations(self) -> Problem:
        return _NormalRegression(self.outputs)


class _NormalRegression(Regression):
    """Answers are normal distributions [T, Q, 2 * outputs]: the means, then the logarithms of the standard deviations.

    The loss is the negative log-likelihood of the targets, averaged over outputs. The score is still the squared error of
    the means. A report also has the log-likelihood, and the coverage: the share of targets within the 95 % band.
    """

    picture = "bands"
    inner_losses: ClassVar[Mapping[str, Loss]] = {}

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        mean, log_deviation = answers.chunk(2, dim=-1)
        distance = (y - mean) / log_deviation.exp()
        return (0.5 * math.log(2 * math.pi) + log_deviation + 0.5 * distance.square()).mean(-1)

    def scores(self, answers: Tensor, y: Tensor) -> Tensor:
        return super().losses(answers.chunk(2, dim=-1)[0], y)

    def statistics(self, answers: Tensor, y: Tensor) -> Tensor:
        """The sums of squared errors, the number of queries, and the sums of log-likelihoods and coverages: [T, 4]."""
        squared = super().statistics(answers, y)
        mean, deviation = mean_and_deviation(answers)
        covered = ((y - mean).abs() <= BAND * deviation).to(answers.dtype).mean(-1)  # [T, Q]
        more = [measured.sum(1, dtype=squared.dtype) for measured in (-self.losses(answers, y), covered)]
        return torch.cat([squared, torch.stack(more, dim=1)], dim=1)

    def score_of(self, statistics: Tensor) -> Tensor:
        return super().score_of(statistics[..., :2])

    def measures_of(self, statistics: Tensor) -> dict[str, Tensor]:
        _, queries, log_likelihoods, covered = statistics.unbind(-1)
        return {LOG_LIKELIHOOD: log_likelihoods / queries, COVERAGE: covered / queries}


def mean_and_deviation(answers: Tensor) -> tuple[Tensor, Tensor]:
    """The means and the standard deviations [..., outputs] of answers [..., 2 * outputs] that have both."""
    mean, log_deviation = answers.chunk(2, dim=-1)
    return mean, log_deviation.exp()
