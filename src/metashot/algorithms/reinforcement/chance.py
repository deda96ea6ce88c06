"""Acting by chance, which every learner has to be better than: uniform over choices and between finite bounds, and normal
where there are none."""

import torch
from torch import Tensor

from metashot.algorithms.reinforcement.rules import Rule
from metashot.problems import Returns
from metashot.worlds import Box, Spaces, Worlds


class Chance(Rule):
    """Acts by chance."""

    def player(self, worlds: Worlds, trials: int) -> "ChancePlayer":
        return ChancePlayer(worlds.family.spaces, self.problem)


class ChancePlayer:
    """Acts by chance.

    Args:
        spaces: What can be done.
        problem: How actions are drawn.
    """

    def __init__(self, spaces: Spaces, problem: Returns) -> None:
        self.problem = problem
        self.bounded: Tensor | None = None
        if isinstance(spaces.actions, Box):
            self.bounded = torch.tensor([spaces.actions.low, spaces.actions.high]).isfinite().all(0)

    def begin(self) -> None:
        """Nothing is remembered."""

    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        if self.bounded is None:
            return self.problem.sample(noise.new_zeros(*noise.shape[:-1], self.problem.outputs), noise)
        # -1 and 1 stand for bounds.
        return torch.where(self.bounded.to(noise.device), 2 * torch.special.ndtr(noise) - 1, noise)

    def saw(self, actions: Tensor, rewards: Tensor, ended: Tensor) -> None:
        """Nothing is learned."""
