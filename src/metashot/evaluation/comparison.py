"""Comparison of several checkpoints that were scored on the same episodes. It answers two separate questions.

Which of *these checkpoints* is better on other episodes? Their scores are paired by episode, and the randomness is that of
the episodes. Which *algorithm* is better when it is trained again? This needs checkpoints of several training seeds for
each algorithm, and the randomness is that of the seeds; the test episodes are shared and treated as fixed. One answer never
stands in for the other: two checkpoints that differ only in their training seed may well differ significantly, which says
nothing about an algorithm.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from metashot.bad_input import BadInput
from metashot.checkpoints.stored import BEST, configuration_of_checkpoint
from metashot.configuration import differences
from metashot.evaluation.documents import as_csv, episode_rows, linked
from metashot.evaluation.markdown import table
from metashot.evaluation.report import ONE_EPISODE, ONE_WORLD, plain_score, score_with_interval
from metashot.evaluation.statistics import (
    FEW_SEEDS,
    Difference,
    holm_of_known,
    is_constant,
    mean_and_interval,
    paired_difference,
    standard_error,
    welch_difference,
)
from metashot.evaluation.testing import Evaluation

OF_CHECKPOINTS = "which of these checkpoints is better, on other episodes"
OF_ALGORITHMS = "which of these algorithms is better, trained again with another seed"
AFTER_UPDATES = "return after updates, or after earlier episodes of a trial"
SEED_ONLY = "differ in training seed only"
EQUAL = "equal values have no interval"
LEVEL = 0.05  # significance level for all pairs together
# Keys in which runs of the same experiment may differ.
_NOT_THE_EXPERIMENT = (
    *("seed", "pictures", "curve", "allow_seen_classes", "logger.", "engine."),
    *("data.root", "data.banks", "data.test.", "data.tasks_per_evaluation_step"),
    *("trainer.accelerator", "trainer.devices", "trainer.nodes", "trainer.strategy", "trainer.log_every"),
    *("trainer.heartbeat", "trainer.join_within", "trainer.checkpoint_every"),
)


@dataclass(frozen=True)
class Scored:
    """A checkpoint, the configuration that it was trained with, and its evaluation."""

    path: Path
    config: dict[str, Any]
    evaluation: Evaluation


@dataclass(frozen=True)
class Pair:
    """The score of checkpoint `one` minus that of checkpoint `other`; checkpoints are numbered from 1."""

    one: int
    other: int
    difference: float
    ci95: float | None
    p: float | None
    p_corrected: float | None  # by Holm
    significant: bool | None
    training_seed_only: bool  # the same experiment with two seeds, where no test is made


@dataclass(frozen=True)
class Seeds:
    """The checkpoints of one experiment with several training seeds, and their mean score."""

    algo: str
    checkpoints: list[int]  # numbered from 1
    seeds: list[int]
    mean: float
    standard_deviation: float
    standard_error: float  # standard error of the mean over training seeds
    ci95: float | None

    @property
    def few_seeds(self) -> bool:
        """Whether there are too few training seeds to estimate their spread."""
        return len(self.seeds) < FEW_SEEDS

    def content(self) -> dict[str, Any]:
        """The values as plain containers, as in report.json."""
        return asdict(self) | {"few_seeds": self.few_seeds}


@dataclass(frozen=True)
class AlgorithmPair:
    """The mean score of algorithm `one` minus that of `other`; algorithms with several seeds are numbered from 1."""

    one: int
    other: int
    difference: float
    ci95: float | None
    p: float | None
    p_corrected: float | None  # by Holm
    significant: bool | None
    paired: bool  # True: paired by training seed, since both have the same seeds; False: Welch's t-test


@dataclass(frozen=True)
class Comparison:
    """The scores of several checkpoints and all pairwise differences; made by `Comparison.of`."""

    scored: list[Scored]
    pairs: list[Pair]
    seeds: list[Seeds]
    algorithm_pairs: list[AlgorithmPair]

    @classmethod
    def of(cls, scored: list[Scored]) -> "Comparison":
        """Compare checkpoints.

        Args:
            scored: Checkpoints that were scored on the same episodes.

        Returns:
            The comparison, with p-values after Holm's correction.
        """
        seeds = list(_seeds(scored))
        return cls(scored, _pairs(scored), seeds, _algorithm_pairs(scored, seeds))

    @property
    def metric(self) -> str:
        return self.scored[0].evaluation.report.metric

    @property
    def noun(self) -> str:
        """The plural noun for tasks."""
        return self.scored[0].evaluation.report.noun

    def _asked(self) -> str:
        """What was asked of all of them; policies that take updates also say how many trajectories they try."""
        reports = [one.evaluation.report for one in self.scored]
        return next((report for report in reports if report.takes_updates), reports[0]).asked()

    @property
    def _question(self) -> str:
        return OF_CHECKPOINTS.replace("episodes", self.noun)

    def content(self) -> dict[str, Any]:
        """The values as plain containers, as in report.json."""
        return {
            "checkpoints": [one.evaluation.report.content() for one in self.scored],
            "of_checkpoints": {"question": self._question, "pairs": [asdict(pair) for pair in self.pairs]},
            "of_algorithms": {
                "question": OF_ALGORITHMS,
                "algorithms": [seeds.content() for seeds in self.seeds],
                "pairs": [asdict(pair) for pair in self.algorithm_pairs],
            },
        }

    def lines(self) -> str:
        """The comparison as text for a terminal."""
        parts = [self._asked(), *aligned(self.score_rows())]
        if rows := self.rows_after_updates():
            parts += [AFTER_UPDATES, *aligned(rows)]
        if self.pairs:
            parts += [f"{self._question}: differences, paired by {self.noun[:-1]}", *aligned(self.pair_rows())]
            parts.append(f"{OF_ALGORITHMS}: {self._of_algorithms()}")
        if self.seeds:
            parts += aligned(self.algorithm_rows())
        if self.algorithm_pairs:
            parts += ["differences of these algorithms, over training seeds:", *aligned(self.algorithm_pair_rows())]
        return "\n".join(parts)

    def for_people(self, pictures: Sequence[Path] = ()) -> str:
        """The comparison as Markdown, with links to pictures."""
        report = self.scored[0].evaluation.report
        parts = [f"# {len(self.scored)} checkpoints on {report.data}", self._asked(), _table(self.score_rows())]
        if rows := self.rows_after_updates():
            parts += [f"## {_sentence(AFTER_UPDATES)}", _table(rows)]
        if self.pairs:
            question = f"{_sentence(self._question)}? Differences, paired by {self.noun[:-1]}:"
            parts += ["## These checkpoints", question]
            parts.append(_table(self.pair_rows()))
            parts += ["## These algorithms", f"{_sentence(OF_ALGORITHMS)}? {_sentence(self._of_algorithms())}."]
        if self.seeds:
            parts.append(_table(self.algorithm_rows()))
        if self.algorithm_pairs:
            parts.append(_table(self.algorithm_pair_rows()))
        if pictures:
            parts += ["## Pictures", *map(linked, pictures)]
        return "\n\n".join(parts) + "\n"

    def _of_algorithms(self) -> str:
        """What the comparison of algorithms is based on, or what it lacks."""
        if not self.seeds:
            return "not tested; it takes checkpoints of each with several training seeds, and all else equal"
        if not self.algorithm_pairs:
            return f"not compared; give checkpoints of another algorithm with several training seeds, too{self._few_seeds()}"
        return f"on the same test {self.noun}, which count as given{self._few_seeds()}"

    def _few_seeds(self) -> str:
        """The warning about algorithms with few training seeds."""
        named = zip(self._letters(), self.seeds, strict=True)
        few = [f"{letter} has {len(seeds.seeds)} training seeds" for letter, seeds in named if seeds.few_seeds]
        warning = f" (fewer than {FEW_SEEDS}: too few for the interval or p to be trusted)"
        return f"; {', '.join(few)}{warning}" if few else ""

    def score_rows(self) -> list[list[str]]:
        head = f"{self.metric} (95 % interval over {self.noun})"
        if self.noun == "worlds":
            rows = [["", "algorithm", head, "tried before", "steps in training", "training seed", "checkpoint"]]
            return [*rows, *(self._row_of_policy(place, one) for place, one in enumerate(self.scored, 1))]
        external = any(one.evaluation.report.external_data for one in self.scored)
        more = ["external data"] if external else []
        rows = [["", "algorithm", head, "transductive", *more, "seen classes", "training seed", "checkpoint"]]
        for place, one in enumerate(self.scored, 1):
            report = one.evaluation.report
            score = score_with_interval(report.metric, report.score, report.ci95)
            data = [report.external_data or "none"] if external else []
            columns = [str(report.transductive).lower(), *data, report.seen_in_short(), str(report.training_seed)]
            rows.append([str(place), report.algo, score, *columns, str(one.path)])
        return rows

    def _row_of_policy(self, place: int, one: Scored) -> list[str]:
        report = one.evaluation.report
        assert report.acting is not None
        score = score_with_interval(report.metric, report.score, report.ci95, without=ONE_WORLD)
        steps = f"{report.acting.environment_steps_in_training:,}"
        return [str(place), report.algo, score, str(report.tried), steps, str(report.training_seed), str(one.path)]

    def rows_after_updates(self) -> list[list[str]]:
        """The scores of policies after each number of updates; empty if none takes any."""
        reports = [one.evaluation.report for one in self.scored]
        columns = sorted({at.steps for report in reports for at in report.inner_steps if report.acting})
        if len(columns) < 2:
            return []
        rows = [["", "algorithm", *map(str, columns)]]
        for place, report in enumerate(reports, 1):
            scores = {at.steps: score_with_interval(report.metric, at.score, at.ci95) for at in report.inner_steps}
            rows.append([str(place), report.algo, *(scores.get(column, "-") for column in columns)])
        return rows

    def pair_rows(self) -> list[list[str]]:
        rows = [["", "difference (95 % interval)", "p", "p after Holm", f"significant at {LEVEL:.0%}"]]
        one_task = ONE_WORLD if self.noun == "worlds" else ONE_EPISODE
        without = one_task if self.scored[0].evaluation.report.episodes == 1 else EQUAL
        for pair in self.pairs:
            tested = [SEED_ONLY] if pair.training_seed_only else [_significance(pair.significant)]
            rows.append([f"{pair.one} - {pair.other}", *self._difference(pair, without), *tested])
        return rows

    def algorithm_rows(self) -> list[list[str]]:
        head = f"mean {self.metric} (95 % interval over training seeds)"
        rows = [["", "algorithm", head, "standard error", "standard deviation", "training seeds", "checkpoints"]]
        for letter, seeds in zip(self._letters(), self.seeds, strict=True):
            spreads = [plain_score(self.metric, spread) for spread in (seeds.standard_error, seeds.standard_deviation)]
            places = [", ".join(map(str, numbers)) for numbers in (seeds.seeds, seeds.checkpoints)]
            mean = score_with_interval(self.metric, seeds.mean, seeds.ci95, without=EQUAL)
            rows.append([letter, seeds.algo, mean, *spreads, *places])
        return rows

    def algorithm_pair_rows(self) -> list[list[str]]:
        rows = [["", "difference (95 % interval)", "p", "p after Holm", f"significant at {LEVEL:.0%}", "test"]]
        letters = self._letters()
        for pair in self.algorithm_pairs:
            name = f"{letters[pair.one - 1]} - {letters[pair.other - 1]}"
            test = "paired by training seed" if pair.paired else "Welch's t"
            rows.append([name, *self._difference(pair, EQUAL), _significance(pair.significant), test])
        return rows

    def _difference(self, pair: Pair | AlgorithmPair, without: str) -> list[str]:
        sign = "+" if pair.difference > 0 else ""
        p_values = ["-" if p is None else f"{p:.2g}" for p in (pair.p, pair.p_corrected)]
        return [sign + score_with_interval(self.metric, pair.difference, pair.ci95, without=without), *p_values]

    def _letters(self) -> list[str]:
        """The letters that stand for algorithms in tables, where numbers stand for checkpoints."""
        return [f"{chr(ord('A') + place % 26)}{place // 26 or ''}" for place in range(len(self.seeds))]

    def episodes_csv(self) -> str:
        """A CSV table with one row per episode: its number, what was measured of each checkpoint, and its classes."""
        tables = [episode_rows(one.evaluation) for one in self.scored]
        ends = [3 + len(one.evaluation.results.measures) for one in self.scored]  # behind them are the classes
        columns = [
            f"{name}_{place}"
            for place, (table, end) in enumerate(zip(tables, ends, strict=True), 1)
            for name in table[0][1:end]
        ]
        rows: list[Sequence[str | int | float]] = [["number", *columns, *tables[0][0][ends[0] :]]]
        for of_episode in zip(*(rows for _, rows in tables), strict=True):
            measured = (value for row, end in zip(of_episode, ends, strict=True) for value in row[1:end])
            rows.append([of_episode[0][0], *measured, *of_episode[0][ends[0] :]])
        return as_csv(rows)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table as lines with aligned columns, for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    return table(head, others)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _significance(significant: bool | None) -> str:
    return "-" if significant is None else "yes" if significant else "no"


def _pairs(scored: Sequence[Scored]) -> list[Pair]:
    places = list(combinations(range(len(scored)), 2))
    found, seed_only = [], []
    for one, other in places:
        results = scored[one].evaluation.results, scored[other].evaluation.results
        assert results[0].numbers == results[1].numbers
        of_both = scored[one].config, scored[other].config
        seed_only.append(_one_experiment(*of_both) and of_both[0].get("seed") != of_both[1].get("seed"))
        difference = paired_difference(results[0].scores, results[1].scores)
        found.append(difference._replace(p=None) if seed_only[-1] else difference)
    return [
        Pair(one + 1, other + 1, *difference, p, None if p is None else p < LEVEL, only)
        for (one, other), difference, p, only in zip(places, found, _corrected(found), seed_only, strict=True)
    ]


def _algorithm_pairs(scored: Sequence[Scored], algorithms: Sequence[Seeds]) -> list[AlgorithmPair]:
    places = list(combinations(range(len(algorithms)), 2))
    found, paired = [], []
    for one, other in places:
        a, b = (_by_seed(scored, algorithms[place]) for place in (one, other))
        paired.append(a.keys() == b.keys())
        if paired[-1]:
            found.append(paired_difference([*a.values()], [b[seed] for seed in a]))
        else:
            found.append(welch_difference([*a.values()], [*b.values()]))
    return [
        AlgorithmPair(one + 1, other + 1, *difference, p, None if p is None else p < LEVEL, by_seed)
        for (one, other), difference, p, by_seed in zip(places, found, _corrected(found), paired, strict=True)
    ]


def _by_seed(scored: Sequence[Scored], of: Seeds) -> dict[int, float]:
    return {seed: scored[place - 1].evaluation.report.score for seed, place in zip(of.seeds, of.checkpoints, strict=True)}


def _corrected(found: Sequence[Difference]) -> list[float | None]:
    return holm_of_known([difference.p for difference in found])


def _seeds(scored: Sequence[Scored]) -> Iterator[Seeds]:
    """Each experiment with more than one training seed."""
    left = list(range(len(scored)))
    while left:
        first = scored[left[0]]
        of_first = [place for place in left if _one_experiment(first.config, scored[place].config)]
        left = [place for place in left if place not in of_first]
        # Several checkpoints with one seed, such as the best and the last, come from one training run: one of them counts.
        same = list({scored[place].config["seed"]: place for place in reversed(of_first)}.values())[::-1]
        seeds = [int(scored[place].config["seed"]) for place in same]
        if len(seeds) > 1:
            scores = [scored[place].evaluation.report.score for place in same]
            mean, ci95 = mean_and_interval(scores)
            if is_constant(scores, max(map(abs, scores))):  # equal scores do not estimate the spread over seeds
                ci95 = None
            spread = statistics.stdev(scores), standard_error(scores)
            yield Seeds(first.evaluation.report.algo, [place + 1 for place in same], seeds, mean, *spread, ci95)


def _one_experiment(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs differ at most in keys that do not affect results, in their seed, or in the seed of the run that
    they were initialised from."""
    changes = [key for key, _, _ in differences(one, other) if not key.startswith(_NOT_THE_EXPERIMENT)]
    if changes != ["init_from"]:
        return not changes
    starts = [_start_of(config) for config in (one, other)]
    return None not in starts and _one_experiment(*starts)  # type: ignore[arg-type]


def _start_of(config: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration of the run that this one was initialised from; None where its checkpoint is gone."""
    given = config.get("init_from")
    if not isinstance(given, str):
        return None
    try:
        return configuration_of_checkpoint(given, "init_from", BEST)
    except BadInput:  # the checkpoint was moved: the two runs then count as different experiments
        return None
