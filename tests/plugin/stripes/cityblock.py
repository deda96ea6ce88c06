"""Prototypes that are compared by the sum of absolute differences."""

from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.arguments import Positive
from metashot.backbones.base import Backbone
from metashot.problems import Problem

from .prototypes import WithPrototypes


class CityBlock(WithPrototypes):
    """`algo=cityblock`."""

    def __init__(self, backbone: Backbone, problem: Problem, temperature: Positive, optimizer: Optimization) -> None:
        super().__init__(backbone, problem, optimizer)
        self.temperature = temperature

    def answer(self, prototypes: Tensor, query: Tensor) -> Tensor:
        return -(query.unsqueeze(2) - prototypes.unsqueeze(1)).abs().sum(-1) / self.temperature  # [T, Q, ways]
