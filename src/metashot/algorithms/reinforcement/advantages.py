"""Advantages of actions: generalised advantage estimates over a linear baseline.

The baseline is the one of Duan, Chen, Houthooft, Schulman, Abbeel 2016, "Benchmarking deep reinforcement learning for
continuous control", arXiv:1604.06778, fitted to the trajectories of each task; the estimates are those of Schulman, Moritz,
Levine, Jordan, Abbeel 2016, "High-dimensional continuous control using generalized advantage estimation", arXiv:1506.02438.
"""

import torch
from torch import Tensor

from metashot.worlds import Trajectories

_RIDGE = 1e-5
_LEAST = 1e-8
_FARTHEST = 10  # where observations are cut off, as in the authors' code


def discounted_sums(values: Tensor, factor: float) -> Tensor:
    """The sum of each value [..., H] and of those after it, which are discounted by powers of a factor."""
    found = torch.empty_like(values)
    total = torch.zeros_like(values[..., 0])
    for step in reversed(range(values.shape[-1])):
        total = values[..., step] + factor * total
        found[..., step] = total
    return found


def linear_baseline(trajectories: Trajectories, discount: float) -> Tensor:
    """The values [T, N, H] that a linear function of observations and time predicts, fitted in each world."""
    inputs = trajectories.observations.shape[-1]
    seen = trajectories.observations[..., : inputs - trajectories.described]  # the rest is constant in a world
    seen = seen.double().clamp(-_FARTHEST, _FARTHEST)
    tasks, _, horizon, _ = seen.shape
    time = torch.arange(horizon, dtype=seen.dtype, device=seen.device).div(100).expand(seen.shape[:3])[..., None]
    ones = torch.ones_like(time)
    features = torch.cat([seen, seen.square(), time, time.square(), time**3, ones], -1)
    taken = trajectories.taken[..., None].to(seen.dtype)
    weighted = (features * taken).flatten(1, 2)  # [T, N * H, F]
    returns = (discounted_sums(trajectories.rewards.double(), discount)[..., None] * taken).flatten(1, 2)
    square = weighted.mT @ weighted + _RIDGE * torch.eye(features.shape[-1], dtype=seen.dtype, device=seen.device)
    # Observations that are too large make it singular, and the values non-finite, which is noticed where they are used.
    weights, singular = torch.linalg.solve_ex(square, weighted.mT @ returns)  # [T, F, 1]
    weights = torch.where(singular[:, None, None] > 0, torch.nan, weights)
    values: Tensor = (features.view(tasks, -1, features.shape[-1]) @ weights).view(seen.shape[:3]) * taken[..., 0]
    return values.to(trajectories.rewards)


def generalised_advantages(rewards: Tensor, values: Tensor, discount: float, trace: float) -> Tensor:
    """Advantages [..., H] of steps with these rewards and values; after the last one nothing is expected.

    Args:
        rewards: [..., H]
        values: The values [..., H] before each step.
        discount: gamma.
        trace: lambda.
    """
    after = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], -1)
    return discounted_sums(rewards + discount * after - values, discount * trace)


def normalised(advantages: Tensor, taken: Tensor) -> Tensor:
    """Advantages [T, ...] with mean 0 and standard deviation 1 over the steps that were taken in each world."""
    flat, mask = advantages.flatten(1), taken.flatten(1).to(advantages.dtype)
    count = mask.sum(1, keepdim=True).clamp(min=1)
    mean = (flat * mask).sum(1, keepdim=True) / count
    deviation = (((flat - mean) * mask).square().sum(1, keepdim=True) / count).sqrt()
    return ((flat - mean) / (deviation + _LEAST) * mask).view_as(advantages)
