"""Rules: learners that act in worlds and have nothing to train."""

from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.trials import Trial, TrialLearner
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.problems import Problem
from metashot.worlds import Discrete, Spaces, Worlds


class Rule(TrialLearner):
    """A learner without weights.

    Args:
        backbone: A network, which is not used.
        problem: The problem.
        episodes: The episodes of a trial.
        optimizer: An optimiser, which is not used.
    """

    trains: ClassVar[bool] = False
    has_weights: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, problem: Problem, episodes: Trial, optimizer: Optimization) -> None:
        super().__init__(optimizer, problem, episodes)


class BanditRule(Rule):
    """A rule that chooses arms by how often each has paid and how often it has not."""

    def refuse_spaces(self, spaces: Spaces) -> None:
        if spaces.observations != Discrete(1) or not isinstance(spaces.actions, Discrete):
            raise BadInput(
                f"algo={type(self).__name__.lower()} chooses arms of bandits, and these worlds have observations of "
                f"{spaces.observations} and actions of {spaces.actions}: use data=bandits, or an algorithm such as algo=rl2"
            )


class BanditPlayer:
    """Counts what N trials in each of T worlds have seen of each arm.

    A subclass implements `choose`.

    Args:
        worlds: The worlds.
        trials: N.
    """

    def __init__(self, worlds: Worlds, trials: int) -> None:
        assert isinstance(worlds.family.spaces.actions, Discrete)
        self.worlds = worlds
        self.trials = trials
        shape = len(worlds), trials, worlds.family.spaces.actions.n
        self.successes = torch.zeros(shape, dtype=torch.long, device=worlds.number.device)
        self.failures = torch.zeros_like(self.successes)
        self.episode, self.pulls = -1, 0  # which episode is played, and how many pulls the trial had so far

    def begin(self) -> None:
        self.episode += 1

    @abstractmethod
    def choose(self) -> Tensor:
        """Arms [T, N]."""

    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        return self.choose()

    def saw(self, actions: Tensor, rewards: Tensor, ended: Tensor) -> None:
        paid = rewards == 1
        if not (paid | (rewards == 0)).all():
            raise BadInput(f"{self.worlds.family.name}: arms have to pay 0 or 1")
        pulled = F.one_hot(actions.long(), self.successes.shape[-1])
        self.successes += pulled * paid[..., None]
        self.failures += pulled * ~paid[..., None]
        self.pulls += 1


def first_best(values: Tensor) -> Tensor:
    """The first one of the largest values along the last dimension, on any device."""
    places = torch.arange(values.shape[-1], device=values.device)
    return torch.where(values == values.amax(-1, keepdim=True), places, values.shape[-1]).amin(-1)
