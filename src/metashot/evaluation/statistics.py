"""Statistics over episodes, and of the differences between learners that answered the same ones."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_NORMAL = 1.96  # standard deviations to each side, which hold 95 % of a normal distribution
WORST = 0.05  # share of the episodes


class Difference(NamedTuple):
    """How much better one learner is than another, from their differences on each episode."""

    mean: float
    ci95: float | None  # half-width; one episode has no interval
    p: float | None  # how probable so large a difference is where there is none


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over episodes and the half-width of its 95 % interval; one episode has no interval."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float(array.mean()), None
    return float(array.mean()), float(_NORMAL * array.std(ddof=1) / math.sqrt(len(array)))


def paired_difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Of scores of the same episodes in the same order. What makes an episode hard for both is not in it, which is why its
    interval is narrower than one from two separate intervals."""
    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    mean, ci95 = mean_and_interval(differences.tolist())
    if ci95 is None:
        return Difference(mean, None, None)
    if ci95 == 0:
        return Difference(mean, ci95, 1.0 if mean == 0 else 0.0)
    return Difference(mean, ci95, math.erfc(abs(mean) * _NORMAL / ci95 / math.sqrt(2)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values after the correction of Holm 1979, "A simple sequentially rejective multiple test procedure": each may be
    compared with the level for all of them together."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def mean_of_worst(scores: Sequence[float], higher_is_better: bool) -> float:
    """The mean of the worst 5 % of the episodes, of at least one."""
    worst_first = sorted(scores, reverse=not higher_is_better)
    return float(np.mean(worst_first[: math.ceil(WORST * len(scores))]))
