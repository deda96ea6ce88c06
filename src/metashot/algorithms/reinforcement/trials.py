"""Trials: several episodes in the same world, between which a learner keeps its memory."""

from abc import abstractmethod
from typing import Annotated, Any, ClassVar

import torch

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.learner import AdaptsBy, Played, PolicyLearner
from metashot.algorithms.reinforcement.playing import Player, play
from metashot.arguments import AtLeast, AtMost
from metashot.problems import Problem
from metashot.worlds import Trajectories, Worlds

Trial = Annotated[int, AtLeast(1), AtMost(1000)]  # episodes
_WATCHED = 10  # episodes from the first one, whose returns are reported beside that of the last one


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

    def adapted(self, state: Any, trajectories: Trajectories) -> Any:
        for place in range(trajectories.rewards.shape[1]):
            player = self.actor(state, 1)
            player.begin()
            (steps,) = trajectories.taken[:, place].sum(1).tolist()
            for step in range(steps):
                seen, chosen, paid = (
                    values[:, place : place + 1, step]
                    for values in (trajectories.observations, trajectories.actions, trajectories.rewards)
                )
                player.act(seen, None)
                player.saw(chosen, paid, torch.full_like(paid, step == steps - 1, dtype=torch.bool))
            state = self.remembered_by(player)
        return state

    def remembered_by(self, player: Any) -> Any:
        """The state of a player in one trajectory of one world."""
        raise self._only_in_batches()

    @property
    def watched_steps(self) -> tuple[int, ...]:
        return tuple(sorted({*range(min(self.episodes, _WATCHED)), self.episodes - 1}))

    def trajectories_to_try(self, shots: int) -> int:
        return max(self.episodes - 1, 1)

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
