"""Pairs of calls that are timed in turn, so that a slowdown of the machine affects both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

Call = Callable[[], Any]


@dataclass(frozen=True)
class Pair:
    """The same work, done twice."""

    work: str
    against: str
    ours: Call
    theirs: Call
    rounds: int
    repeats: int = 1  # of ours in a round, where it takes too little time to be measured once


@dataclass(frozen=True)
class Compared:
    """What both took. A ratio above 1 means that metashot is faster, or takes less memory."""

    work: str
    against: str
    ours: float  # the median
    theirs: float
    unit: str
    ratio: float  # the median of the rounds' ratios
    low: float  # their quartiles
    high: float
    rounds: int

    def content(self) -> dict[str, Any]:
        return asdict(self)


def timed(pair: Pair) -> Compared:
    """Time a pair, first the one and then the other in each round, after a round that is not counted."""
    ours, theirs = [], []
    for counted in [False] + [True] * pair.rounds:
        seconds = _seconds(pair.ours, pair.repeats), _seconds(pair.theirs)
        if counted:
            ours.append(seconds[0])
            theirs.append(seconds[1])
    return summarised(pair.work, pair.against, [1000 * s for s in ours], [1000 * s for s in theirs], "ms")


def summarised(work: str, against: str, ours: list[float], theirs: list[float], unit: str) -> Compared:
    """Compare what was measured in the same rounds."""
    ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    medians = statistics.median(ours), statistics.median(theirs)
    return Compared(work, against, *medians, unit, statistics.median(ratios), low, high, len(ratios))


def _seconds(call: Call, repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
