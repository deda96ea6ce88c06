"""Statistics over episodes and training seeds, and tests of the differences between learners.

Intervals and p-values use Student's t: with few values, the normal distribution would give intervals that are too narrow
and p-values that are too small. The distribution function of t is computed here, so that the core does not need SciPy.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEW_EPISODES = 30  # with fewer, an interval relies on scores being normally distributed, and they are not
FEW_SEEDS = 5  # training seeds; with fewer, the estimate of their spread is itself uncertain
WORST = 0.05  # share of the episodes that count as the worst
_OUTSIDE = 0.05  # share of a distribution outside a 95 % interval
_ROUNDING = 1e-12  # relative to the largest value: a smaller range is the rounding error of equal values
_LARGE = 30.0  # from here on, a ratio of gamma functions is computed from its asymptotic series
_MOST_TERMS = 10_000  # bound on the terms of a continued fraction, which needs a few dozen


class Difference(NamedTuple):
    """A difference of means, with its interval and p-value."""

    mean: float
    ci95: float | None  # half-width of the 95 % interval; None for one value, and for a difference without variance
    p: float | None  # two-sided p-value; None where `ci95` is None, or where nothing is tested


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the half-width of its 95 % interval by Student's t; a single value has no interval (None)."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), None
    return float(array.mean()), student_quantile(len(array) - 1) * standard_error(values)


def standard_error(values: Sequence[float]) -> float:
    """The standard error of the mean, from the sample standard deviation."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.std(ddof=1) / math.sqrt(len(array)))


def paired_difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """The mean difference of paired scores, by a paired t-test.

    An episode that is hard for both cancels out, so the interval is narrower than one derived from two separate intervals.
    Where all differences are equal and not zero, there is no interval and no p-value: with zero variance the test is
    undefined, and two episodes with equal differences prove nothing.

    Args:
        one: The scores of one learner, by episode or by training seed.
        other: The scores of another learner on the same episodes or seeds, in the same order.

    Returns:
        The mean of `one` minus `other`, with its interval and p-value.
    """
    a, b, unit = _in_a_unit(one, other)
    differences = a - b
    mean, ci95 = mean_and_interval(differences.tolist())
    if ci95 is None:
        return Difference(mean * unit, None, None)
    if is_constant(differences, max(np.abs(a).max(), np.abs(b).max())):
        return Difference(mean * unit, None, None) if differences.any() else Difference(mean, 0.0, 1.0)
    p = student_p(mean / standard_error(differences.tolist()), len(differences) - 1)
    return Difference(mean * unit, ci95 * unit, p)


def welch_difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """The difference of the means of two unpaired samples, whose variances may differ, by Welch's t-test.

    Welch 1947, "The generalization of 'Student's' problem when several different population variances are involved".
    """
    a, b, unit = _in_a_unit(one, other)
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Difference(mean * unit, None, None)
    largest = max(np.abs(a).max(), np.abs(b).max())
    if is_constant(a, largest) and is_constant(b, largest):
        return Difference(mean * unit, None, None) if mean else Difference(mean, 0.0, 1.0)
    variances = standard_error(a.tolist()) ** 2, standard_error(b.tolist()) ** 2
    error = math.sqrt(sum(variances))
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / (len(a) - 1) + variances[1] ** 2 / (len(b) - 1))
    return Difference(mean * unit, student_quantile(freedom) * error * unit, student_p(mean / error, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple testing: Holm 1979, "A simple sequentially rejective multiple test procedure".

    Each corrected value may be compared with the significance level for all tests together.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of the p-values that are not None."""
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]


def mean_of_worst(scores: Sequence[float], higher_is_better: bool) -> float:
    """The mean score of the worst 5 % of the episodes, at least one."""
    worst_first = sorted(scores, reverse=not higher_is_better)
    return float(np.mean(worst_first[: math.ceil(WORST * len(scores))]))


def student_p(t: float, freedom: float) -> float:
    """The two-sided p-value of Student's t; `freedom` is the degrees of freedom."""
    if math.isnan(t):
        return float("nan")
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))


@cache
def student_quantile(freedom: float, outside: float = _OUTSIDE) -> float:
    """The critical value of Student's t: the share `outside` of its distribution lies beyond it, on both sides together."""
    low, high = 0.0, 1.0
    while student_p(high, freedom) > outside:
        low, high = high, 2 * high
    while True:  # bisect until the two are adjacent 64-bit floats
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        low, high = (middle, high) if student_p(middle, freedom) > outside else (low, middle)


def is_constant(values: NDArray[np.float64] | Sequence[float], largest: float) -> bool:
    """Whether values differ by no more than rounding, relative to the `largest` value that they were computed from."""
    return bool(np.ptp(values) <= _ROUNDING * largest)


def _in_a_unit(one: Sequence[float], other: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Two samples in a unit of the size of their largest value, and that unit, a power of two, which changes no digit.

    Squares of values such as 1e-200 would be zero otherwise, and so would their variance.
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    # Within the powers of two that are floats themselves.
    power = min(max(math.frexp(max(np.abs(a).max(), np.abs(b).max()))[1], -1000), 1000)
    return np.ldexp(a, -power), np.ldexp(b, -power), math.ldexp(1.0, power)


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularised incomplete beta function I_x(a, b); `rest` is 1 - x, passed separately to keep small values exact.

    Uses the continued fraction on the side where it converges fast: Abramowitz and Stegun 1964, 26.5.8 and 6.6.3.
    """
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, rest, x)
    logarithms = (math.log(x) if x < 0.5 else math.log1p(-rest)), (math.log(rest) if rest < 0.5 else math.log1p(-x))
    front = math.exp(a * logarithms[0] + b * logarithms[1] - _log_beta(a, b)) / a
    return front * _continued_fraction(a, b, x)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """1 / (1 + d1 / (1 + d2 / (1 + ...))), evaluated forwards by the method of Lentz 1976."""
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
    """The logarithm of the beta function, accurate where one argument is 1/2, as for Student's t.

    For a large argument, the difference of log-gamma values would lose digits, so a series is used.
    """
    large, small = max(a, b), min(a, b)
    if large < _LARGE or small != 0.5:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    # log(gamma(n) / gamma(n + 1/2)); the next term of the series is below 1e-13 here.
    n = large
    ratio = -0.5 * math.log(n) + 1 / (8 * n) - 1 / (192 * n**3) + 1 / (640 * n**5) - 17 / (14336 * n**7)
    return math.lgamma(0.5) + ratio
