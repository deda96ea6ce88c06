"""The point robot of Finn, Abbeel, Levine 2017, "Model-agnostic meta-learning", section 5.3.

A task is a goal, uniform in a square around the start. The robot sees its position and moves by at most `largest_move` along
each axis; a trajectory ends within 0.01 of the goal along each axis.

The paper says that the reward is the negative squared distance to the goal; the authors' code and all that followed it take
the negative distance, which is the default here.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.arguments import Horizon, Positive
from metashot.randomness import uniform_inside
from metashot.sources.worlds.batched import BatchedWorlds
from metashot.worlds import Box, Drawing, Map, Spaces, stream_of_tasks

_NEAR = 0.01


class Navigation:
    """Goals in a square.

    Args:
        horizon: The most steps of a trajectory.
        side: The side of the square that goals are drawn from.
        largest_move: The largest move along an axis.
        reward: The reward is minus the distance to the goal, or minus its square.
    """

    name = "navigation"
    needs = ("gymnasium",)
    described_by = 2
    drawn_as: Drawing = "paths"

    def __init__(
        self, horizon: Horizon, side: Positive, largest_move: Positive, reward: Literal["distance", "squared"]
    ) -> None:
        self.horizon = horizon
        self.side = side
        self.largest_move = largest_move
        self.reward = reward
        everywhere = (-np.inf, -np.inf), (np.inf, np.inf)
        self.spaces = Spaces(Box((2,), *everywhere), Box((2,), (-largest_move,) * 2, (largest_move,) * 2))

    @property
    def label(self) -> str:
        """What the worlds are, for reports."""
        return (
            f"{self.name}: goals in a square of {self.side:g}, moves up to {self.largest_move:g}, reward by {self.reward}, "
            f"horizon {self.horizon}"
        )

    def descriptions(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """The goals [T, 2]."""
        goals: NDArray[np.float64] = self.side * (uniform_inside(key, numbers, stream_of_tasks(), 2) - 0.5)
        return goals

    def map(self, key: tuple[int, int], numbers: NDArray[np.int64], observations: Tensor) -> Map:
        """Where the robots were, and their goals.

        Args:
            key: The key of the random numbers.
            numbers: The numbers [T] of the tasks.
            observations: What was seen in their trajectories [T, N, H, 2], or more where a policy is told the goal.
        """
        goals = torch.from_numpy(self.descriptions(key, numbers))
        return Map(observations[..., :2], goals.to(observations), self.side)

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
    ) -> "PointRobots":
        goals = torch.from_numpy(self.descriptions(key, numbers)).to(device, dtype)
        return PointRobots(self, goals.repeat_interleave(copies, 0))


class PointRobots(BatchedWorlds):
    """Robots that start at the origin, each with its goal [B, 2]."""

    def __init__(self, family: Navigation, goals: Tensor) -> None:
        super().__init__(family.spaces, len(goals), family.horizon)
        self.goals = goals
        self.squared = family.reward == "squared"
        self.largest_move = family.largest_move

    def start(self) -> Tensor:
        self.positions = torch.zeros_like(self.goals)
        return self.positions

    def advance(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.positions = self.positions + actions.to(self.goals).clamp(-self.largest_move, self.largest_move)
        difference = self.positions - self.goals
        squares = difference.square().sum(-1)
        rewards = -squares if self.squared else -squares.sqrt()
        return self.positions, rewards, (difference.abs() < _NEAR).all(-1)
