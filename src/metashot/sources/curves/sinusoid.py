"""Sinusoids: the regression tasks of Finn, Abbeel, Levine 2017, "Model-agnostic meta-learning", section 5.1.

A task is a sine curve with its own amplitude and phase; its examples are points on the curve. Amplitude, phase and x are
drawn uniformly.
"""

import math

import numpy as np
from numpy.typing import NDArray

from metashot.randomness import uniform_inside
from metashot.sources.curves.ranges import refuse_ranges

_FUNCTION, _SUPPORT, _QUERY = range(3)  # the random streams of an episode

Points = tuple[NDArray[np.float64], NDArray[np.float64]]  # x and y, each [T, N, 1]


class Sinusoid:
    """y = amplitude * sin(x - phase).

    Args:
        amplitude: [least, most].
        phase: [least, most], in units of pi.
        x: [least, most].

    Raises:
        BadInput: if one of these is not a range.
    """

    name = "sinusoid"
    inputs = 1
    outputs = 1
    most_points = 200_000  # of a task: as many as arguments allow

    def __init__(self, amplitude: list[float], phase: list[float], x: list[float]) -> None:
        refuse_ranges({"amplitude": amplitude, "phase": phase, "x": x})
        self.amplitude = amplitude
        self.phase = [math.pi * limit for limit in phase]
        self.x = x

    def draw(self, key: tuple[int, int], numbers: NDArray[np.int64], shots: int, queries: int) -> tuple[Points, Points]:
        """Draw tasks.

        Args:
            key: the key of the random numbers.
            numbers: the numbers of the tasks.
            shots: support points per task.
            queries: query points per task.

        Returns:
            The support points and the query points.
        """
        drawn = uniform_inside(key, numbers, _FUNCTION, 2)
        amplitude, phase = _within(self.amplitude, drawn[:, :1]), _within(self.phase, drawn[:, 1:])

        def points(stream: int, count: int) -> Points:
            x = _within(self.x, uniform_inside(key, numbers, stream, count))  # [T, count]
            return x[..., None], (amplitude * np.sin(x - phase))[..., None]

        return points(_SUPPORT, shots), points(_QUERY, queries)


def _within(limits: list[float], share: NDArray[np.float64]) -> NDArray[np.float64]:
    return limits[0] + (limits[1] - limits[0]) * share
