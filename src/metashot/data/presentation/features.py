"""Feature vectors, and arrays of any shape: unchanged, or standardised with the statistics of the training split."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy, tensor

from metashot.data.bank import Bank
from metashot.data.presentation.presentation import Presentation
from metashot.sources.source import FEATURES

_AT_ONCE = 10_000  # items read at a time


class Features(Presentation):
    """Presents arrays of numbers.

    Args:
        standardise: whether each feature is scaled to mean 0 and standard deviation 1 over the items of the training split;
            a constant feature becomes 0.
    """

    kind: ClassVar[str] = FEATURES
    noun: ClassVar[str] = "features"

    def __init__(self, standardise: bool) -> None:
        self.standardise = standardise
        self.normalisation: tuple[Tensor, Tensor] | None = None  # mean and std of the training split, or those of a learner
        self._is_a_learners = False

    def fit(self, bank: Bank) -> None:
        if not self.standardise or self._is_a_learners:
            return
        count = len(bank.items)
        pieces = [slice(first, first + _AT_ONCE) for first in range(0, count, _AT_ONCE)]

        def mean_of(measured: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
            total = np.zeros(self.item_shape)
            for piece in pieces:
                total += measured(np.asarray(bank.items[piece], dtype=np.float64)).sum(0)
            return np.asarray(total / count)

        mean = mean_of(lambda x: x)
        std = np.sqrt(mean_of(lambda x: (x - mean) ** 2))
        # The rounding error of a constant feature does not count as a deviation.
        std = np.where(std > 1e-6 * np.abs(mean), std, 1.0)
        self.normalisation = from_numpy(mean.astype(np.float32)), from_numpy(std.astype(np.float32))

    def inputs(self, values: Tensor) -> Tensor:
        if self.normalisation is None:
            return values
        mean, std = (constant.to(values) for constant in self.normalisation)
        return (values - mean) / std

    def origin(self) -> dict[str, Any]:
        mean, std = (None, None) if self.normalisation is None else (c.flatten().tolist() for c in self.normalisation)
        return super().origin() | {"mean": mean, "std": std}

    def look_like(self, origin: Mapping[str, Any], name: str) -> str | None:
        change = super().look_like(origin, name)
        constants = origin["mean"], origin["std"]
        self.normalisation = None
        if None not in constants:
            mean, std = (tensor(values).view(self.input_shape) for values in constants)
            self.normalisation = mean, std
        self._is_a_learners = True
        return change
