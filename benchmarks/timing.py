"""Medians of calls that take turns, so that a machine that slows down slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Row(NamedTuple):
    what: str
    milliseconds: float
    megabytes: float | None = None  # at most, where memory is what is measured


def alternate(calls: Mapping[str, Callable[[], Any]], rounds: int) -> list[Row]:
    """The median time of each call over the rounds, after one that is not counted."""
    seconds: dict[str, list[float]] = {what: [] for what in calls}
    for counted in [False] + [True] * rounds:
        for what, call in calls.items():
            start = time.perf_counter()
            call()
            if counted:
                seconds[what].append(time.perf_counter() - start)
    return [Row(what, 1000 * statistics.median(times)) for what, times in seconds.items()]
