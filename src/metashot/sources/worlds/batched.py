"""Environments that are a few formulas: a gymnasium vector environment that steps all of its worlds at once in torch."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metashot.sources.worlds.requiring import not_installed
from metashot.worlds import Box, Space, Spaces

try:
    import gymnasium
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ModuleNotFoundError as error:
    raise not_installed("gymnasium") from error


def gymnasium_space(space: Space) -> gymnasium.Space[Any]:
    """The same space in gymnasium's terms."""
    if isinstance(space, Box):
        low, high = (np.array(bound, dtype=np.float32).reshape(space.shape) for bound in (space.low, space.high))
        return gymnasium.spaces.Box(low, high, dtype=np.float32)
    return gymnasium.spaces.Discrete(space.n, start=space.start)


class BatchedWorlds(VectorEnv[Tensor, Tensor, Tensor]):
    """B environments with tensors of B rows for observations, rewards and ends.

    The random numbers of every step are drawn when they are created, so that what happens does not depend on how many
    environments there are. They are not reset by themselves; steps after the end of a trajectory mean nothing.

    A subclass sets what a step needs and implements `start` and `advance`.

    Args:
        spaces: What is observed and done in each of them.
        count: B.
        horizon: The number of steps after which a trajectory ends.
    """

    def __init__(self, spaces: Spaces, count: int, horizon: int) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.num_envs = count
        self.horizon = horizon
        self.single_observation_space, self.single_action_space = map(gymnasium_space, spaces)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self.elapsed = 0

    @abstractmethod
    def start(self) -> Tensor:
        """The first observations [B, ...]."""

    @abstractmethod
    def advance(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take step `elapsed`: observations [B, ...], rewards [B] and whether trajectories have reached an end [B]."""

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin all trajectories again, with the same random numbers: the seed is that of the worlds."""
        self.elapsed = 0
        return self.start(), {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        if self.elapsed >= self.horizon:
            raise gymnasium.error.ResetNeeded(f"the trajectories have taken all of their {self.horizon} steps")
        observations, rewards, terminated = self.advance(torch.as_tensor(actions))
        self.elapsed += 1
        truncated = torch.full_like(terminated, self.elapsed >= self.horizon)
        return observations, rewards, terminated, truncated, {}
