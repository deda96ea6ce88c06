"""Returns: a learner acts in a world, and is judged by the sum of the rewards of a trajectory.

The outputs of a policy are logits where actions are choices, and otherwise the means of normal distributions followed by
the logarithms of their standard deviations.
"""

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.problems.base import Picture, Problem

Actions = Literal["discrete", "continuous"]

_LEAST_LOG_DEVIATION = math.log(1e-6)
_WITH_TRIALS = 3  # statistics of a learner whose memory lasts for a trial


class Returns(Problem):
    """Answers are the returns [T, N] of the trajectories that judge a policy; there are no targets.

    Args:
        outputs: The outputs of a policy.
        actions: Whether actions are choices, or vectors of numbers.
    """

    kind = "reinforcement-learning"
    metric = "return"
    higher_is_better = True
    picture: ClassVar[Picture] = "worlds"
    usual_algorithm: ClassVar[str] = "algo=maml_rl"
    usual_data: ClassVar[str] = "data=navigation"

    def __init__(self, outputs: int, actions: Actions) -> None:
        super().__init__(outputs)
        self.actions = actions

    @classmethod
    def described(cls, origin: Mapping[str, Any]) -> Self:
        return cls(origin["outputs"], origin["actions"])

    @property
    def action_size(self) -> int:
        """How many numbers an action has."""
        return 1 if self.actions == "discrete" else self.outputs // 2

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        return -answers

    def statistics(self, answers: Tensor, y: Tensor) -> Tensor:
        """The sum of returns and their number: [T, 2]."""
        sums = answers.sum(1, dtype=torch.float64)
        return torch.stack([sums, torch.full_like(sums, answers.shape[1])], dim=1)

    def statistics_of_trials(self, answers: Tensor, trials: Tensor) -> Tensor:
        """As `statistics`, with the sum of the returns of whole trials [T, N]: [T, 3]."""
        return torch.cat([self.statistics(answers, trials), trials.sum(1, dtype=torch.float64)[:, None]], dim=1)

    def score_of(self, statistics: Tensor) -> Tensor:
        return statistics[..., 0] / statistics[..., 1]

    def measures_of(self, statistics: Tensor) -> dict[str, Tensor]:
        if statistics.shape[-1] < _WITH_TRIALS:
            return {}
        return {"trial_return": statistics[..., 2] / statistics[..., 1]}

    def sample(self, outputs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions, which are drawn with noise.

        Args:
            outputs: [..., outputs]
            noise: [..., action_size]: numbers in (0, 1) for choices, otherwise standard normal ones.
                None for the most likely actions.

        Returns:
            Choices [...], or [..., action_size].
        """
        if noise is None:
            return self.mode(outputs)
        if self.actions == "discrete":
            edges = _cumulative(outputs.softmax(-1))
            # Rounded, noise may be 1 and the last edge below it; what has no probability is not chosen all the same.
            level = noise.clamp(max=1 - torch.finfo(edges.dtype).eps) * edges[..., -1:]
            return torch.where(edges[..., -1].isnan(), -1, (level >= edges).sum(-1))  # no choice of a diverged policy
        mean, log_deviation = _normal(outputs)
        return mean + log_deviation.exp() * noise

    def mode(self, outputs: Tensor) -> Tensor:
        """The most likely actions."""
        if self.actions == "discrete":
            return torch.where(outputs.isnan().any(-1), -1, outputs.argmax(-1))
        return _normal(outputs)[0]

    def log_probabilities(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """[...], for outputs [..., outputs] and actions as `sample` returns them."""
        if self.actions == "discrete":
            return F.log_softmax(outputs, -1).gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)
        mean, log_deviation = _normal(outputs)
        distance = (actions - mean) / log_deviation.exp()
        return -(0.5 * distance.square() + log_deviation + 0.5 * math.log(2 * math.pi)).sum(-1)

    def divergences(self, old: Tensor, new: Tensor) -> Tensor:
        """The Kullback-Leibler divergences KL(old || new) of policies with these outputs: [...]."""
        if self.actions == "discrete":
            before, after = F.log_softmax(old, -1), F.log_softmax(new, -1)
            return (before.exp() * (before - after)).sum(-1)
        (mean, log_deviation), (new_mean, new_log_deviation) = _normal(old), _normal(new)
        ratio = (2 * (log_deviation - new_log_deviation)).exp()
        distance = ((mean - new_mean) / new_log_deviation.exp()).square()
        return (0.5 * (ratio + distance - 1) + new_log_deviation - log_deviation).sum(-1)

    def entropies(self, outputs: Tensor) -> Tensor:
        """[...]"""
        if self.actions == "discrete":
            logs = F.log_softmax(outputs, -1)
            return -(logs.exp() * logs).sum(-1)
        return (_normal(outputs)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def _cumulative(shares: Tensor) -> Tensor:
    """The sums [..., n] of each share and those before it."""
    if not shares.is_cuda:
        return shares.cumsum(-1)
    return torch.stack([*accumulate(shares.unbind(-1))], -1)  # as on a CPU, where cumulative sums are deterministic


def _normal(outputs: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_deviation = outputs.chunk(2, dim=-1)
    return mean, log_deviation.clamp(min=_LEAST_LOG_DEVIATION)
