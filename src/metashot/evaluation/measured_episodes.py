"""Collects what is measured in each test episode, over devices."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class MeasuredEpisodes(Metric):
    """The measures of each episode, once each: devices repeat the last episodes to evaluate equally many."""

    full_state_update = False
    numbers: list[Tensor]
    measured: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("numbers", "measured"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, numbers: Tensor, measured: Tensor) -> None:
        """Add T tasks: their numbers [T] and their measures [T, ...]."""
        self.numbers.append(numbers)
        self.measured.append(measured.double())

    def compute(self) -> NDArray[np.float64]:
        """The measures of each episode [E, ...], sorted by the episodes' numbers."""
        _, first = np.unique(dim_zero_cat(self.numbers).cpu().numpy(), return_index=True)
        found: NDArray[np.float64] = dim_zero_cat(self.measured).cpu().numpy()[first]
        return found


class EnvironmentSteps(MeasuredEpisodes):
    """The number of steps that policies have taken in environments, those of each world once."""

    def compute(self) -> int:  # type: ignore[override]
        return int(super().compute().sum())
