"""Worlds whose trajectories end at different steps, and then return garbage; gymnasium is not needed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.randomness import key_of, uniform
from metashot.worlds import Box, Discrete, Spaces, Worlds, stream_of_environments

NUMBER = Box((1,), (-np.inf,), (np.inf,))

CHOICES = Spaces(NUMBER, Discrete(2))


@dataclass
class Ending:
    """The observation is a random number, and so is the reward, which is larger for choice 1.

    Attributes:
        garbage: What environments return after the end of a trajectory.
        early: Whether trajectories end before the horizon.
    """

    garbage: float = 0.0
    early: bool = True
    horizon: int = 5
    name: str = "ending"
    described_by: int = 1
    spaces: Spaces = CHOICES

    def descriptions(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        return numbers[:, None].astype(float)

    def regrets(self, key: tuple[int, int], numbers: NDArray[np.int64], actions: NDArray[np.int64]) -> None:
        """Nothing is known of the best actions."""

    def environment(
        self,
        key: tuple[int, int],
        numbers: NDArray[np.int64],
        copies: int,
        round: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> "EndingEnvironment":
        size = 2 * self.horizon + 2
        drawn = uniform(key, numbers[:, None], stream_of_environments(round, copies), size).reshape(-1, size)
        return EndingEnvironment(self, torch.from_numpy(drawn).to(device, dtype))


class EndingEnvironment:
    def __init__(self, family: Ending, drawn: Tensor) -> None:
        self.family = family
        self.observations, self.rewards = drawn[:, : family.horizon + 1], drawn[:, family.horizon + 1 : -1]
        self.lengths = 1 + (drawn[:, -1] * family.horizon).long() if family.early else torch.full((len(drawn),), 10**6)
        self.elapsed = 0

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        return self.observations[:, :1], {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        gone = self.elapsed >= self.lengths
        rewards = torch.where(gone, self.family.garbage, self.rewards[:, self.elapsed] + actions)
        self.elapsed += 1
        seen = torch.where(gone, self.family.garbage, self.observations[:, self.elapsed])[:, None]
        ended = self.elapsed == self.lengths  # and no longer afterwards: what comes then means nothing
        return seen, rewards, ended, torch.full_like(ended, self.elapsed >= self.family.horizon), {}


def worlds(family: Any, tasks: int = 4, queries: int = 3, first: int = 0, dtype: torch.dtype = torch.float64) -> Worlds:
    return Worlds(family, key_of("a test"), torch.arange(first, first + tasks), 1, queries, dtype=dtype)
