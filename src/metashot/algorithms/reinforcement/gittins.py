"""The Gittins index for Bernoulli bandits: Gittins 1979, "Bandit processes and dynamic allocation indices", Journal of the
Royal Statistical Society B 41.

The probability of each arm is Beta(1, 1) before anything is seen. The index of an arm is the sure reward of every pull
against which it is just worth pulling the arm once more, and the arm with the largest index is pulled. Indices are found by
calibration: dynamic programming for each of many sure rewards says how much better it is to begin with the arm, and the
index is where this is zero.

With a discount the indices are Gittins', which are optimal for endless discounted pulls. Without one they are those of the
pulls that are left, undiscounted (Bradt, Johnson, Karlin 1956, "On sequential designs for maximizing the sum of n
observations"), which is not exactly optimal, but made for a trial of known length.
"""

import math
from functools import cache
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.rules import BanditPlayer, BanditRule, first_best
from metashot.algorithms.reinforcement.trials import Trial
from metashot.arguments import Above, AtMost
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.problems import Problem
from metashot.worlds import Worlds

_SURE_REWARDS = 256  # between which indices are interpolated
_FORGOTTEN = 1e-4  # the weight of rewards from which on pulls teach nothing that matters
_MOST_PULLS = {True: 2000, False: 200}  # with a discount, and without one


class Gittins(BanditRule):
    """Pulls the arm with the largest index.

    Args:
        backbone: A network, which is not used.
        problem: The problem.
        episodes: The episodes of a trial.
        discount: The discount of the indices; None for the pulls that are left, without a discount.
        optimizer: An optimiser, which is not used.
    """

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        episodes: Trial,
        discount: Annotated[float, Above(0), AtMost(0.995)] | None,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, episodes, optimizer)
        self.discount = discount

    def player(self, worlds: Worlds, trials: int) -> "GittinsPlayer":
        pulls, most = self.episodes * worlds.family.horizon, _MOST_PULLS[self.discount is not None]
        if pulls > most:
            raise BadInput(
                f"a trial of {pulls:,} pulls is too long for algo=gittins with algo.discount={self.discount or 'null'}: at "
                f"most {_MOST_PULLS[True]:,} with a discount, and {_MOST_PULLS[False]:,} with null"
            )
        return GittinsPlayer(worlds, trials, pulls, self.discount)


class GittinsPlayer(BanditPlayer):
    """Looks up the indices of arms."""

    def __init__(self, worlds: Worlds, trials: int, pulls: int, discount: float | None) -> None:
        super().__init__(worlds, trials)
        self.of_all = pulls
        found = indices_of_horizons(pulls) if discount is None else discounted_indices(pulls, discount)[None]
        self.indices = torch.from_numpy(found).to(worlds.number.device)

    @property
    def table(self) -> Tensor:
        """The indices [successes, failures] for the next pull."""
        return self.indices[self.of_all - self.pulls - 1] if len(self.indices) > 1 else self.indices[0]

    def choose(self) -> Tensor:
        return first_best(self.table[self.successes, self.failures])


@cache
def discounted_indices(pulls: int, discount: float) -> NDArray[np.float64]:
    """Gittins indices [successes, failures] for fewer than `pulls` pulls of an arm; other entries are zero."""
    sure = np.linspace(0, 1, _SURE_REWARDS)
    depth = pulls + math.ceil(math.log(_FORGOTTEN) / math.log(discount))
    found = np.zeros((pulls, pulls))
    # With that many pulls the arm is as good as known.
    values = np.maximum(sure, _means(depth)[:, None]) / (1 - discount)  # [successes, sure rewards]
    for pulled in reversed(range(depth)):
        p = _means(pulled)[:, None]
        arm = p * (1 + discount * values[1:]) + (1 - p) * discount * values[:-1]
        settled = sure / (1 - discount)
        if pulled < pulls:
            successes = np.arange(pulled + 1)
            found[successes, pulled - successes] = _crossings(sure, arm - settled)
        values = np.maximum(arm, settled)
    return found


@cache
def indices_of_horizons(pulls: int) -> NDArray[np.float64]:
    """Indices [pulls left - 1, successes, failures] of arms that together with what is left had at most `pulls` pulls."""
    sure = np.linspace(0, 1, _SURE_REWARDS)
    found = np.zeros((pulls, pulls, pulls))
    for whole in range(1, pulls + 1):  # the pulls of the arm and those left
        values = np.zeros((whole + 1, len(sure)))
        for pulled in reversed(range(whole)):
            left = whole - pulled
            p = _means(pulled)[:, None]
            arm = p * (1 + values[1:]) + (1 - p) * values[:-1]
            settled = left * sure
            successes = np.arange(pulled + 1)
            found[left - 1, successes, pulled - successes] = _crossings(sure, arm - settled)
            values = np.maximum(arm, settled)
    return found


def _means(pulled: int) -> NDArray[np.float64]:
    """The posterior means [successes] of an arm that was pulled so often."""
    return (np.arange(pulled + 1) + 1) / (pulled + 2)


def _crossings(sure: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where decreasing gains [rows, sure rewards] are zero."""
    after = np.clip((gains > 0).sum(1), 1, len(sure) - 1)
    rows = np.arange(len(gains))
    above, below = gains[rows, after - 1], gains[rows, after]
    found: NDArray[np.float64] = sure[after - 1] + (sure[after] - sure[after - 1]) * above / (above - below)
    return found
