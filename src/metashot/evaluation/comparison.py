"""Several checkpoints that were scored on the same episodes: their scores, the differences of each pair, and seeds apart.

Two kinds of chance are never mixed: an interval is that of the mean over episodes, for one checkpoint as it is; what other
training seeds would have given is a standard deviation over checkpoints.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from metashot.configuration import differences
from metashot.evaluation.documents import as_csv, episode_rows, table
from metashot.evaluation.report import plain_score, score_with_interval
from metashot.evaluation.statistics import holm, paired_difference
from metashot.evaluation.testing import Evaluation

LEVEL = 0.05  # of significance, for all pairs together
# What makes no other experiment of a run.
_NOT_THE_EXPERIMENT = (
    *("seed", "pictures", "curve", "logger.", "engine.", "data.root", "data.banks", "data.tasks_per_evaluation_step"),
    *("trainer.accelerator", "trainer.devices", "trainer.nodes", "trainer.strategy", "trainer.log_every"),
)


@dataclass(frozen=True)
class Scored:
    """A checkpoint, how it was trained, and how it did."""

    path: Path
    config: dict[str, Any]
    evaluation: Evaluation


@dataclass(frozen=True)
class Pair:
    """How much better `one` is than `other`, both by their place among the checkpoints, from 1."""

    one: int
    other: int
    difference: float
    ci95: float | None
    p: float | None
    p_corrected: float | None  # by Holm
    significant: bool | None


@dataclass(frozen=True)
class Seeds:
    """Checkpoints of one experiment with several training seeds."""

    algo: str
    checkpoints: list[int]  # their places, from 1
    seeds: list[int]
    mean: float
    standard_deviation: float


@dataclass(frozen=True)
class Comparison:
    scored: list[Scored]
    pairs: list[Pair]
    seeds: list[Seeds]

    @classmethod
    def of(cls, scored: list[Scored]) -> "Comparison":
        return cls(scored, _pairs(scored), list(_seeds(scored)))

    @property
    def metric(self) -> str:
        return self.scored[0].evaluation.report.metric

    def content(self) -> dict[str, Any]:
        """As plain containers."""
        return {
            "checkpoints": [one.evaluation.report.content() for one in self.scored],
            "differences": [asdict(pair) for pair in self.pairs],
            "seeds": [asdict(seeds) for seeds in self.seeds],
        }

    def lines(self) -> str:
        report = self.scored[0].evaluation.report
        parts = [report.asked()]
        parts += aligned(self.score_rows())
        if self.pairs:
            parts += ["differences, paired by episode:", *aligned(self.pair_rows())]
        parts += [f"{seeds.algo}: {_over_seeds(self.metric, seeds)}" for seeds in self.seeds]
        return "\n".join(parts)

    def for_people(self) -> str:
        """The comparison as Markdown."""
        report = self.scored[0].evaluation.report
        parts = [f"# {len(self.scored)} checkpoints on {report.data}", report.asked()]
        head, *rows = self.score_rows()
        parts.append(table(head, rows))
        if self.pairs:
            head, *rows = self.pair_rows()
            parts += ["## Differences, paired by episode", table(head, rows)]
        if self.seeds:
            rows = [[seeds.algo, _over_seeds(self.metric, seeds)] for seeds in self.seeds]
            parts += ["## Training seeds", table(["algorithm", "over seeds"], rows)]
        return "\n\n".join(parts) + "\n"

    def score_rows(self) -> list[list[str]]:
        rows = [["", "algorithm", f"{self.metric} (95 % interval over episodes)", "transductive", "seed", "checkpoint"]]
        for place, one in enumerate(self.scored, 1):
            report = one.evaluation.report
            score = score_with_interval(report.metric, report.score, report.ci95)
            transductive, seed = str(report.transductive).lower(), str(one.config.get("seed"))
            rows.append([str(place), report.algo, score, transductive, seed, str(one.path)])
        return rows

    def pair_rows(self) -> list[list[str]]:
        rows = [["", "difference (95 % interval)", "p", "p after Holm", f"significant at {LEVEL:.0%}"]]
        for pair in self.pairs:
            sign = "+" if pair.difference > 0 else ""
            said = [sign + score_with_interval(self.metric, pair.difference, pair.ci95)]
            said += ["-" if p is None else f"{p:.2g}" for p in (pair.p, pair.p_corrected)]
            said.append("-" if pair.significant is None else "yes" if pair.significant else "no")
            rows.append([f"{pair.one} - {pair.other}", *said])
        return rows

    def episodes_csv(self) -> str:
        """A row an episode: its number, the score and the loss of each checkpoint, its classes."""
        tables = [episode_rows(one.evaluation) for one in self.scored]
        metric = self.metric
        columns = ["number", *(f"{name}_{place}" for place in range(1, len(tables) + 1) for name in (metric, "loss"))]
        columns += tables[0][0][3:]
        rows: list[Sequence[str | int | float]] = [columns]
        for of_episode in zip(*(rows for _, rows in tables), strict=True):
            number, *_ = of_episode[0]
            rows.append([number, *(value for row in of_episode for value in row[1:3]), *of_episode[0][3:]])
        return as_csv(rows)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _pairs(scored: Sequence[Scored]) -> list[Pair]:
    places = list(combinations(range(len(scored)), 2))
    found = []
    for one, other in places:
        results = scored[one].evaluation.results, scored[other].evaluation.results
        assert results[0].numbers == results[1].numbers
        found.append(paired_difference(results[0].scores, results[1].scores))
    known = [difference.p for difference in found if difference.p is not None]
    corrected: list[float | None] = [*holm(known)] if len(known) == len(found) else [None] * len(found)
    return [
        Pair(one + 1, other + 1, *difference, p, None if p is None else p < LEVEL)
        for (one, other), difference, p in zip(places, found, corrected, strict=True)
    ]


def _seeds(scored: Sequence[Scored]) -> Iterator[Seeds]:
    """Each experiment that more than one training seed is there of."""
    left = list(range(len(scored)))
    while left:
        first = scored[left[0]]
        same = [place for place in left if _one_experiment(first.config, scored[place].config)]
        left = [place for place in left if place not in same]
        seeds = [int(scored[place].config["seed"]) for place in same]
        if len(set(seeds)) == len(seeds) > 1:
            scores = [scored[place].evaluation.report.score for place in same]
            algo = first.evaluation.report.algo
            yield Seeds(algo, [place + 1 for place in same], seeds, statistics.mean(scores), statistics.stdev(scores))


def _one_experiment(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(key.startswith(_NOT_THE_EXPERIMENT) for key, _, _ in differences(one, other))


def _over_seeds(metric: str, seeds: Seeds) -> str:
    mean, deviation = plain_score(metric, seeds.mean), plain_score(metric, seeds.standard_deviation)
    named = ", ".join(map(str, seeds.seeds))
    return f"mean {mean}, standard deviation {deviation} over {len(seeds.seeds)} training seeds ({named})"
