"""Statistics over episodes."""

import math
from collections.abc import Sequence

import numpy as np


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over episodes and the half-width of its 95 % interval; one episode has no interval."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), None
    return float(array.mean()), float(1.96 * array.std(ddof=1) / math.sqrt(len(array)))
