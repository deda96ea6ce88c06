"""UCB1: Auer, Cesa-Bianchi, Fischer 2002, "Finite-time analysis of the multiarmed bandit problem", Machine Learning 47.

The arm with the largest upper confidence bound is pulled: its mean reward + c * sqrt(2 ln t / n) after t pulls, n of them of
this arm.

Where this departs from the paper: each arm begins with one success and one failure, the uniform prior of the other rules,
instead of being pulled once. The paper has c = 1.
"""

import math

from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.rules import BanditPlayer, BanditRule, first_best
from metashot.algorithms.reinforcement.trials import Trial
from metashot.arguments import NotNegative
from metashot.backbones.base import Backbone
from metashot.problems import Problem
from metashot.worlds import Worlds


class UCB1(BanditRule):
    """Pulls the arm with the largest upper confidence bound.

    Args:
        backbone: A network, which is not used.
        problem: The problem.
        episodes: The episodes of a trial.
        exploration: c.
        optimizer: An optimiser, which is not used.
    """

    def __init__(
        self, backbone: Backbone, problem: Problem, episodes: Trial, exploration: NotNegative, optimizer: Optimization
    ) -> None:
        super().__init__(backbone, problem, episodes, optimizer)
        self.exploration = exploration

    def player(self, worlds: Worlds, trials: int) -> "UCB1Player":
        return UCB1Player(worlds, trials, self.exploration)


class UCB1Player(BanditPlayer):
    """Pulls the arm with the largest upper confidence bound."""

    def __init__(self, worlds: Worlds, trials: int, exploration: float) -> None:
        super().__init__(worlds, trials)
        self.exploration = exploration

    def bounds(self) -> Tensor:
        """The upper confidence bounds of the arms: [T, N, arms]."""
        pulled = (self.successes + self.failures + 2).double()
        all_pulls = self.pulls + 2 * pulled.shape[-1]
        return (self.successes + 1) / pulled + self.exploration * (2 * math.log(all_pulls) / pulled).sqrt()

    def choose(self) -> Tensor:
        return first_best(self.bounds())
