"""Gaussian-process curves: regression tasks of many shapes, as Garnelo et al. 2018 and Kim et al. 2019 use them.

A task draws one of the kernels with a length scale, an output scale and a period of its own. Its examples are noisy points
of one function that a Gaussian process with this kernel draws.
"""

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import Above, AtMost
from metashot.bad_input import BadInput
from metashot.randomness import normal, uniform_inside
from metashot.sources.curves.ranges import refuse_ranges
from metashot.sources.curves.sinusoid import Points

Kernel = Literal["squared_exponential", "matern52", "periodic"]

_FUNCTION, _SUPPORT, _QUERY, _SUPPORT_VALUES, _QUERY_VALUES = range(5)  # the random streams of an episode
_LEAST_NOISE = 1e-4  # as a share of the output scale: less would be lost in the rounding errors of a factorisation
_NUMBERS_AT_ONCE = 2**22  # of covariances


class GaussianProcess:
    """y = f(x) + noise, with f drawn from a Gaussian process of mean 0.

    With the distance d between two points, the length scale l, the output scale s and the period p, the kernels are
    s^2 exp(-d^2 / 2 l^2), s^2 (1 + a + a^2 / 3) exp(-a) with a = sqrt(5) d / l, and s^2 exp(-2 sin^2(pi d / p) / l^2).

    Args:
        kernels: The kernels, each as likely as the others.
        length_scale: [least, most].
        output_scale: [least, most], the standard deviation of f(x).
        period: [least, most], of the periodic kernel.
        noise: The standard deviation of the noise.
        x: [least, most].

    Raises:
        BadInput: if there are no kernels, one of the ranges cannot be used, or there is too little noise.
    """

    name = "curves"
    inputs = 1
    outputs = 1
    most_points = 2000  # of a task, whose covariances are a square of them

    def __init__(
        self,
        kernels: list[Kernel],
        length_scale: list[float],
        output_scale: list[float],
        period: list[float],
        noise: Annotated[float, Above(0), AtMost(1e6)],
        x: list[float],
    ) -> None:
        if not kernels:
            raise BadInput(
                "data.source.kernels=[] cannot be used; allowed: at least one of squared_exponential, matern52, periodic"
            )
        refuse_ranges({"x": x})
        scales = {"length_scale": length_scale, "output_scale": output_scale, "period": period}
        refuse_ranges(scales, positive=True)
        if noise < _LEAST_NOISE * output_scale[1]:
            raise BadInput(
                f"data.source.noise={noise} cannot be used with data.source.output_scale={output_scale}; allowed: a number "
                f"of at least {_LEAST_NOISE * output_scale[1]:g}"
            )
        self.kernels = kernels
        self.length_scale = length_scale
        self.output_scale = output_scale
        self.period = period
        self.noise = noise
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
        at_once = max(1, _NUMBERS_AT_ONCE // (shots + queries) ** 2)
        parts = [
            self._points(key, numbers[first : first + at_once], shots, queries) for first in range(0, len(numbers), at_once)
        ]
        x, y = (np.concatenate(part)[..., None] for part in zip(*parts, strict=True))
        return (x[:, :shots], y[:, :shots]), (x[:, shots:], y[:, shots:])

    def _points(
        self, key: tuple[int, int], numbers: NDArray[np.int64], shots: int, queries: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x and y, each [T, shots + queries]."""
        counts = ((_SUPPORT, _SUPPORT_VALUES, shots), (_QUERY, _QUERY_VALUES, queries))
        share = np.concatenate([uniform_inside(key, numbers, places, count) for places, _, count in counts], axis=1)
        drawn = np.concatenate([normal(key, numbers, values, count) for _, values, count in counts], axis=1)
        x = self.x[0] + (self.x[1] - self.x[0]) * share
        covariance = self.covariances(x[:, :, None] - x[:, None, :], uniform_inside(key, numbers, _FUNCTION, 4))
        place = np.arange(x.shape[1])
        covariance[:, place, place] += self.noise**2
        return x, correlated(covariance, drawn)

    def covariances(self, difference: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """The covariances of the functions of T tasks.

        Args:
            difference: x - x' of each pair of points [T, N, N].
            drawn: four numbers in (0, 1) for each task [T, 4], which decide its kernel, length scale, output scale and
                period.

        Returns:
            [T, N, N], without noise.
        """
        kernel = (drawn[:, 0] * len(self.kernels)).astype(np.int64)
        length, scale, period = (
            (low + (high - low) * drawn[:, place])[:, None, None]
            for place, (low, high) in enumerate((self.length_scale, self.output_scale, self.period), start=1)
        )
        found = np.empty_like(difference)
        for place, name in enumerate(self.kernels):
            own = kernel == place
            d = np.abs(difference[own])
            if name == "squared_exponential":
                found[own] = np.exp(-0.5 * (d / length[own]) ** 2)
            elif name == "matern52":
                a = math.sqrt(5) * d / length[own]
                found[own] = (1 + a + a**2 / 3) * np.exp(-a)
            else:
                found[own] = np.exp(-2 * (np.sin(np.pi * d / period[own]) / length[own]) ** 2)
        return scale**2 * found


def correlated(covariance: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give independent standard normal numbers a covariance: L drawn, where L L' is the Cholesky factorisation.

    Every number depends only on those before it, and is computed by the same operations in the same order for any number of
    tasks, points and threads, which a library's factorisation does not promise.

    Args:
        covariance: [T, N, N], which is overwritten.
        drawn: [T, N].

    Returns:
        [T, N].
    """
    found = np.zeros_like(drawn)
    for place in range(drawn.shape[1]):
        column = covariance[:, place:, place] / np.sqrt(covariance[:, place, place])[:, None]  # of L
        found[:, place:] += column * drawn[:, place, None]
        covariance[:, place + 1 :, place + 1 :] -= column[:, 1:, None] * column[:, None, 1:]
    return found
