"""Bernoulli bandits, as in Duan et al. 2016, "RL2: fast reinforcement learning via slow reinforcement learning",
arXiv:1611.02779, section 3.1.

A task is the probabilities of k arms, each uniform in [0, 1]. A pull of an arm pays 1 with its probability, and there is
nothing to observe. A trajectory is a number of pulls.
"""

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.arguments import AtLeast, AtMost, Horizon
from metashot.randomness import uniform, uniform_inside
from metashot.sources.worlds.batched import BatchedWorlds
from metashot.worlds import Discrete, Drawing, Spaces, stream_of_environments, stream_of_tasks


class Bandits:
    """Arms that pay with a probability of their own.

    Args:
        arms: k.
        horizon: The number of pulls.
    """

    drawn_as: Drawing = "arms"
    needs = ("gymnasium",)
    name = "bandits"

    def __init__(self, arms: Annotated[int, AtLeast(2), AtMost(10_000)], horizon: Horizon) -> None:
        self.arms = self.described_by = arms
        self.horizon = horizon
        self.spaces = Spaces(Discrete(1), Discrete(arms))

    @property
    def label(self) -> str:
        """What the worlds are, for reports."""
        return f"{self.name}: {self.arms} arms, {self.horizon} pulls"

    def descriptions(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """The probabilities [T, arms]."""
        return uniform_inside(key, numbers, stream_of_tasks(), self.arms)

    def regrets(self, key: tuple[int, int], numbers: NDArray[np.int64], actions: NDArray[np.int64]) -> NDArray[np.float64]:
        """The probability of the best arm minus that of the chosen one: [T, N, H]."""
        chances = self.descriptions(key, numbers)
        chosen = np.take_along_axis(chances[:, None], actions, axis=-1)
        found: NDArray[np.float64] = chances.max(-1)[:, None, None] - chosen
        return found

    def environment(
        self,
        key: tuple[int, int],
        numbers: NDArray[np.int64],
        copies: int,
        round: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> "Arms":
        probabilities = torch.from_numpy(self.descriptions(key, numbers)).to(device).repeat_interleave(copies, 0)
        drawn = uniform(key, numbers[:, None], stream_of_environments(round, copies), self.horizon)  # [T, N, horizon]
        luck = torch.from_numpy(drawn.reshape(-1, self.horizon)).to(device)
        return Arms(self, probabilities, luck, dtype)


class Arms(BatchedWorlds):
    """Bandits with the probabilities [B, arms] of their arms; a pull pays if luck [B, horizon] is below the arm's."""

    def __init__(self, family: Bandits, probabilities: Tensor, luck: Tensor, dtype: torch.dtype) -> None:
        super().__init__(family.spaces, len(luck), family.horizon)
        self.probabilities = probabilities
        self.luck = luck
        self.dtype = dtype
        self.nothing = torch.zeros(len(luck), dtype=torch.long, device=luck.device)

    def start(self) -> Tensor:
        return self.nothing

    def advance(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen = self.probabilities.gather(1, actions.long()[:, None])[:, 0]
        rewards = (self.luck[:, self.elapsed] < chosen).to(self.dtype)
        return self.nothing, rewards, torch.zeros_like(self.nothing, dtype=torch.bool)
