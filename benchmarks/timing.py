"""Median times of interleaved calls, so that a slowdown of the machine affects all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Row(NamedTuple):
    what: str
    milliseconds: float
    megabytes: float | None = None  # peak memory, where it is measured


def alternate(calls: Mapping[str, Callable[[], Any]], rounds: int) -> list[Row]:
    """Time the calls in turn, after one warm-up round.

    Args:
        calls: the functions to time, by name.
        rounds: the number of timed rounds.

    Returns:
        The median time of each call.
    """
    seconds: dict[str, list[float]] = {what: [] for what in calls}
    for counted in [False] + [True] * rounds:
        for what, call in calls.items():
            start = time.perf_counter()
            call()
            if counted:
                seconds[what].append(time.perf_counter() - start)
    return [Row(what, 1000 * statistics.median(times)) for what, times in seconds.items()]
