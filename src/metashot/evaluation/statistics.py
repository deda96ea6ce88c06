"""Statistics over episodes and over training seeds, and of the differences between learners.

Intervals and p-values are Student's t: with few values the normal distribution would make them too narrow, and call
differences significant that are chance. Its distribution function is computed here, so that the core needs no SciPy.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEW_EPISODES = 30  # with fewer, an interval leans on scores being normally distributed, and they are not
FEW_SEEDS = 5  # of training; with fewer, the spread over seeds is itself hardly known
WORST = 0.05  # share of the episodes
_OUTSIDE = 0.05  # share of a distribution outside a 95 % interval
_ROUNDING = 1e-12  # of the largest value: a smaller standard deviation is the rounding of equal values
_LARGE = 30.0  # from here on a ratio of gamma functions is computed from its asymptotic series
_MOST_TERMS = 10_000  # of a continued fraction, which takes a few dozen


class Difference(NamedTuple):
    """How much better one is than another."""

    mean: float
    ci95: float | None  # half-width; None for one value, and where no variance tells
    p: float | None  # how probable so large a difference is where there is none; None where no variance tells


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the half-width of its 95 % interval by Student's t; one value has no interval."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), None
    return float(array.mean()), student_quantile(len(array) - 1) * standard_error(values)


def standard_error(values: Sequence[float]) -> float:
    """Of the mean, from the sample's standard deviation."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.std(ddof=1) / math.sqrt(len(array)))


def paired_difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Of scores of the same episodes, or of the same training seeds, in the same order, by a paired t-test. What makes an
    episode hard for both is not in it, which is why its interval is narrower than one from two separate intervals.

    Where the differences are all equal and not zero there is no variance to judge them by, no interval and no p-value: two
    episodes with equal differences are no proof.
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    differences = a - b
    mean, ci95 = mean_and_interval(differences.tolist())
    if ci95 is None:
        return Difference(mean, None, None)
    if is_constant(differences, max(np.abs(a).max(), np.abs(b).max())):
        return Difference(mean, None, None) if differences.any() else Difference(mean, 0.0, 1.0)
    return Difference(mean, ci95, student_p(mean / standard_error(differences.tolist()), len(differences) - 1))


def welch_difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Of two samples that are not paired and may differ in their variance: Welch 1947, "The generalization of 'Student's'
    problem when several different population variances are involved"."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Difference(mean, None, None)
    largest = max(np.abs(a).max(), np.abs(b).max())
    if is_constant(a, largest) and is_constant(b, largest):
        return Difference(mean, None, None) if mean else Difference(mean, 0.0, 1.0)
    variances = standard_error(one) ** 2, standard_error(other) ** 2
    error = math.sqrt(sum(variances))
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / (len(a) - 1) + variances[1] ** 2 / (len(b) - 1))
    return Difference(mean, student_quantile(freedom) * error, student_p(mean / error, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values after the correction of Holm 1979, "A simple sequentially rejective multiple test procedure": each may be
    compared with the level for all of them together."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction among the p-values that there are."""
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]


def mean_of_worst(scores: Sequence[float], higher_is_better: bool) -> float:
    """The mean of the worst 5 % of the episodes, of at least one."""
    worst_first = sorted(scores, reverse=not higher_is_better)
    return float(np.mean(worst_first[: math.ceil(WORST * len(scores))]))


def student_p(t: float, freedom: float) -> float:
    """How probable a value of Student's t is that lies at least as far from zero, to either side."""
    if math.isnan(t):
        return float("nan")
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))


@cache
def student_quantile(freedom: float, outside: float = _OUTSIDE) -> float:
    """The value of Student's t beyond which, to both sides together, this share of its distribution lies."""
    low, high = 0.0, 1.0
    while student_p(high, freedom) > outside:
        low, high = high, 2 * high
    while True:  # halve until the two are neighbours among the numbers of 64 bits
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        low, high = (middle, high) if student_p(middle, freedom) > outside else (low, middle)


def is_constant(values: NDArray[np.float64] | Sequence[float], largest: float) -> bool:
    """Whether values differ by no more than the rounding of what they were made from."""
    return bool(np.ptp(values) <= _ROUNDING * largest)


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularised incomplete beta function I_x(a, b); `rest` is 1 - x, given apart because small ones matter.

    By its continued fraction, on the side where that converges fast: Abramowitz and Stegun 1964, 26.5.8 and 6.6.3.
    """
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, rest, x)
    logarithms = (math.log(x) if x < 0.5 else math.log1p(-rest)), (math.log(rest) if rest < 0.5 else math.log1p(-x))
    front = math.exp(a * logarithms[0] + b * logarithms[1] - _log_beta(a, b)) / a
    return front * _continued_fraction(a, b, x)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """1 / (1 + d1 / (1 + d2 / (1 + ...))), from the front by the method of Lentz 1976."""
    tiny = 1e-300
    c, d = 1.0, 1.0 / (1 - (a + b) * x / (a + 1) or tiny)
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return value


def _log_beta(a: float, b: float) -> float:
    """Of two numbers one of which is 1/2, as for Student's t. Of a large number the logarithms of gamma functions are so
    large that their difference has few digits."""
    large, small = max(a, b), min(a, b)
    if large < _LARGE or small != 0.5:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    # log of gamma(n) / gamma(n + 1/2); the next term of the series is below 1e-13 here.
    n = large
    ratio = -0.5 * math.log(n) + 1 / (8 * n) - 1 / (192 * n**3) + 1 / (640 * n**5) - 17 / (14336 * n**7)
    return math.lgamma(0.5) + ratio
