"""Trials: several episodes in the same world, between which a learner keeps its memory."""

from abc import abstractmethod
from typing import Annotated, ClassVar, Protocol

import torch

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.learner import AdaptsBy, Played, PolicyLearner
from metashot.algorithms.reinforcement.playing import Actor, play
from metashot.arguments import AtLeast, AtMost
from metashot.problems import Problem
from metashot.worlds import Trajectories, Worlds

Trial = Annotated[int, AtLeast(1), AtMost(1000)]  # episodes
_WATCHED = 10  # episodes from the first one, whose returns are reported beside that of the last one


class Player(Actor, Protocol):
    """An actor with a memory, who plays the episodes of N trials in each of T worlds."""

    def begin(self) -> None:
        """An episode begins. What was seen in earlier ones is still remembered."""


class TrialLearner(PolicyLearner):
    """A learner that adapts by what it remembers of a trial.

    A subclass implements `player`.

    Args:
        optimizer: The optimiser of training and its schedule.
        problem: The problem.
        episodes: The episodes of a trial.
    """

    adapts_by: ClassVar[AdaptsBy] = "trials"

    def __init__(self, optimizer: Optimization, problem: Problem, episodes: int) -> None:
        super().__init__(optimizer, problem)
        self.episodes = episodes

    @abstractmethod
    def player(self, worlds: Worlds, trials: int) -> Player:
        """A player who remembers nothing, for N trials in each of T worlds."""

    @property
    def watched_steps(self) -> tuple[int, ...]:
        return tuple(sorted({*range(min(self.episodes, _WATCHED)), self.episodes - 1}))

    def played(self, worlds: Worlds, trials: int) -> list[Trajectories]:
        """The trajectories of each episode of N trials; the memory begins empty and is kept between episodes."""
        player, found = self.player(worlds, trials), []
        for episode in range(self.episodes):
            player.begin()
            found.append(play(worlds, player, self.problem, trials, episode))
        return found

    def acted(self, worlds: Worlds) -> Played:
        played = self.played(worlds, worlds.queries)
        returns = torch.stack([episode.returns for episode in played], 1)  # [T, episodes, N]
        steps = torch.stack([episode.steps for episode in played]).sum(0)  # [T]
        return Played(returns[:, list(self.watched_steps)], steps, returns.sum(1), played[-1])

    def shown(self, worlds: Worlds) -> dict[int, Trajectories]:
        played = self.played(worlds, worlds.queries)
        return {episode: played[episode] for episode in self.watched_steps}
