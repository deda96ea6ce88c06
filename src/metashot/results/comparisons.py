"""Which differences between learners hold, on the test episodes that they share, after Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from metashot.evaluation.statistics import holm_of_known, paired_difference
from metashot.results.storage import Result

LEVEL = 0.05  # for all pairs of a group together


@dataclass(frozen=True)
class Ranked:
    """A result among others on the same episodes.

    Attributes:
        name: What it is called there.
        result: The result.
        better_than: The places, from 1, of those that it differs from and is better than.
        not_told_from: The places of those from which no difference was shown.
    """

    name: str
    result: Result
    better_than: tuple[int, ...]
    not_told_from: tuple[int, ...]


def ranked(results: dict[str, Result], higher_is_better: bool = True) -> list[Ranked]:
    """Compare results on the same episodes, the best one first.

    Args:
        results: Results on the same episodes, by name.
        higher_is_better: Whether a higher score is a better one.

    Returns:
        Each result with those that it is better than, by paired t-tests of all pairs after Holm's correction.
    """
    order = sorted(results.items(), key=lambda item: item[1].score, reverse=higher_is_better)
    pairs = list(combinations(range(len(order)), 2))
    tested = [paired_difference(order[one][1].scores, order[other][1].scores).p for one, other in pairs]
    holds = {pair for pair, p in zip(pairs, holm_of_known(tested), strict=True) if p is not None and p < LEVEL}
    found = []
    for place, (name, result) in enumerate(order):
        others = [other for other in range(len(order)) if other != place]
        told = [other for other in others if tuple(sorted((place, other))) in holds]
        found.append(
            Ranked(
                name,
                result,
                tuple(other + 1 for other in told if other > place),
                tuple(other + 1 for other in others if other not in told),
            )
        )
    return found


def on_the_same_episodes(results: dict[str, Result]) -> list[dict[str, Result]]:
    """Groups of results whose test episodes are the same, of two or more results each."""
    groups: dict[tuple[str, int], dict[str, Result]] = {}
    for name, result in results.items():
        groups.setdefault((result.episodes, len(result.scores)), {})[name] = result
    return [group for group in groups.values() if len(group) > 1]


def in_short(places: Sequence[int]) -> str:
    """Places as text, with runs of them joined, as in `2, 4–7`."""
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return ", ".join(
        str(run[0]) if len(run) == 1 else f"{run[0]}{', ' if len(run) == 2 else chr(8211)}{run[-1]}" for run in runs
    )
