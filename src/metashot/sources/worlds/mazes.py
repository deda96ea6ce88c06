"""Tabular Markov decision processes, as in Duan et al. 2016, "RL2: fast reinforcement learning via slow reinforcement
learning", arXiv:1611.02779, section 3.2.

A task draws the transition probabilities of each state and action from a flat Dirichlet distribution, and the mean reward of
each from a normal distribution with mean 1 and variance 1. Rewards are normal around their means, with variance 1. A
trajectory starts in state 0.
"""

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.arguments import AtLeast, AtMost, Horizon
from metashot.randomness import normal, uniform_inside
from metashot.sources.worlds.batched import BatchedWorlds
from metashot.worlds import Discrete, Spaces, stream_of_environments, stream_of_tasks

_NOISE = 1 << 30  # added to a stream of environments for the noise of rewards


class Mazes:
    """Random transitions and rewards.

    Args:
        states: The number of states.
        choices: The number of actions.
        horizon: The steps of a trajectory.
    """

    name = "mazes"
    needs = ("gymnasium",)

    def __init__(
        self,
        states: Annotated[int, AtLeast(2), AtMost(100)],
        choices: Annotated[int, AtLeast(2), AtMost(50)],
        horizon: Horizon,
    ) -> None:
        self.states = states
        self.choices = choices
        self.horizon = horizon
        self.described_by = states * choices * (states + 1)
        self.spaces = Spaces(Discrete(states), Discrete(choices))

    @property
    def label(self) -> str:
        """What the worlds are, for reports."""
        return f"{self.name}: {self.states} states, {self.choices} actions, horizon {self.horizon}"

    def descriptions(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """The mean rewards, and then the transition probabilities: [T, S * A + S * A * S]."""
        rewards, transitions = self.drawn(key, numbers)
        return np.concatenate([rewards.reshape(len(numbers), -1), transitions.reshape(len(numbers), -1)], axis=1)

    def drawn(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The mean rewards [T, S, A] and the transition probabilities [T, S, A, S]."""
        states, choices, stream = self.states, self.choices, stream_of_tasks()
        rewards = 1 + normal(key, numbers, stream, states * choices).reshape(-1, states, choices)
        # Shares of exponential numbers have a flat Dirichlet distribution.
        shares = -np.log(uniform_inside(key, numbers, stream + 1, states * choices * states))
        shares = shares.reshape(-1, states, choices, states)
        return rewards, shares / shares.sum(-1, keepdims=True)

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
    ) -> "Processes":
        tasks, streams = numbers[:, None], stream_of_environments(round, copies)
        luck = uniform_inside(key, tasks, streams, self.horizon).reshape(-1, self.horizon)
        noise = normal(key, tasks, streams + _NOISE, self.horizon).reshape(-1, self.horizon)
        drawn, shares = self.drawn(key, numbers)
        rewards, edges = (torch.from_numpy(part).to(device) for part in (drawn, shares.cumsum(-1)))
        place = torch.arange(len(numbers), device=device).repeat_interleave(copies)
        lucky = [torch.from_numpy(part).to(device) for part in (luck, noise)]
        return Processes(self, rewards, edges, place, lucky[0], lucky[1], dtype)


class Processes(BatchedWorlds):
    """Processes of T tasks.

    Args:
        family: Their family.
        rewards: The mean rewards [T, S, A].
        edges: The cumulative transition probabilities [T, S, A, S].
        place: The task of each of the B processes [B].
        luck: What decides each transition [B, horizon].
        noise: What is added to each reward [B, horizon].
        dtype: The precision of rewards.
    """

    def __init__(
        self,
        family: Mazes,
        rewards: Tensor,
        edges: Tensor,
        place: Tensor,
        luck: Tensor,
        noise: Tensor,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(family.spaces, len(place), family.horizon)
        self.rewards = rewards
        self.edges = edges
        self.place = place
        self.luck = luck
        self.noise = noise
        self.dtype = dtype

    def start(self) -> Tensor:
        self.now = torch.zeros_like(self.place)
        return self.now

    def advance(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        where = self.place, self.now, actions.long()
        rewards = (self.rewards[where] + self.noise[:, self.elapsed]).to(self.dtype)
        passed = self.luck[:, self.elapsed, None] >= self.edges[where]
        self.now = passed.sum(-1).clamp(max=self.edges.shape[-1] - 1)
        return self.now, rewards, torch.zeros_like(self.now, dtype=torch.bool)
