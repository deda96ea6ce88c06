"""Comparisons of checkpoints and those of algorithms are two questions, and no answer to one passes for the other."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metashot.evaluation.comparison import OF_ALGORITHMS, OF_CHECKPOINTS, SEED_ONLY, Comparison, Scored
from metashot.evaluation.protocol import EpisodeResults
from metashot.evaluation.report import Report
from metashot.evaluation.statistics import student_p
from metashot.evaluation.testing import Evaluation
from metashot.problems import Classification

EPISODES = 40


def scored(algo: str, seed: int, score: float, **config: Any) -> Scored:
    """A checkpoint with that mean score over episodes that are hard or easy for all."""
    difficulty = np.random.default_rng(0).normal(0, 0.05, EPISODES)
    own = np.random.default_rng([seed, len(algo)]).normal(0, 0.01, EPISODES)
    scores = score + (difficulty - difficulty.mean()) + (own - own.mean())
    results = EpisodeResults(Classification(5), scores.tolist(), [1.0] * EPISODES, list(range(EPISODES)))
    unsaid = dict.fromkeys(Report.__dataclass_fields__)
    known = {"metric": "accuracy", "score": results.score, "ci95": results.ci95, "episodes": EPISODES, "algo": algo}
    shape = {"ways": 5, "shots": 1, "queries": 15, "data": "glyphs", "split": "test", "classes": [], "inner_steps": []}
    report = Report(**unsaid | known | shape | {"episode_seed": 0, "training_seed": seed})  # type: ignore[arg-type]
    whole = {"seed": seed, "algo": {"name": algo}, "data": {"test": {"seed": 0}}} | config
    return Scored(Path(f"{algo}{seed}"), whole, Evaluation(report, results, None, ()))


def test_two_checkpoints_that_differ_in_their_training_seed_alone_are_called_that_and_nothing_else() -> None:
    other = {"pictures": "none", "data": {"test": {"seed": 3}}}  # which train nothing else
    comparison = Comparison.of([scored("maml", 0, 0.9), scored("maml", 1, 0.8, **other)])
    (pair,) = comparison.pairs
    assert pair.training_seed_only
    assert (pair.p, pair.p_corrected, pair.significant) == (None, None, None)
    assert pair.difference == pytest.approx(0.1)
    line = next(line for line in comparison.lines().splitlines() if line.startswith("1 - 2"))
    assert line.endswith(SEED_ONLY)
    assert " yes" not in comparison.lines()


def test_checkpoints_of_one_run_are_compared_with_each_other() -> None:
    """The best and the last one, of one seed."""
    (pair,) = Comparison.of([scored("maml", 0, 0.9), scored("maml", 0, 0.8)]).pairs
    assert not pair.training_seed_only
    assert Comparison.of([scored("maml", 0, 0.9), scored("protonet", 1, 0.8)]).pairs[0].significant


def test_algorithms_are_paired_by_training_seed_where_they_have_the_same_ones() -> None:
    one, other = [0.90, 0.88, 0.93], [0.87, 0.86, 0.89]
    given = [scored("maml", seed, score) for seed, score in enumerate(one)]
    given += [scored("protonet", seed, other[seed]) for seed in (2, 0, 1)]
    (pair,) = Comparison.of(given).algorithm_pairs
    differences = np.array(one) - np.array(other)
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(3))
    assert pair.paired
    assert pair.difference == pytest.approx(0.03)
    assert pair.p == pytest.approx(student_p(t, 2))
    assert pair.p_corrected == pair.p


def test_algorithms_with_other_training_seeds_are_compared_as_welch_does() -> None:
    one, other = {0: 0.90, 1: 0.88, 2: 0.93}, {0: 0.87, 5: 0.80}
    given = [scored("maml", *item) for item in one.items()] + [scored("protonet", *item) for item in other.items()]
    comparison = Comparison.of(given)
    (pair,) = comparison.algorithm_pairs
    errors = [np.var(list(scores.values()), ddof=1) / len(scores) for scores in (one, other)]
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / 2 + errors[1] ** 2 / 1)
    assert not pair.paired
    assert pair.p == pytest.approx(student_p(pair.difference / math.sqrt(sum(errors)), freedom))
    first = comparison.seeds[0]
    assert first.standard_error == pytest.approx(np.std(list(one.values()), ddof=1) / math.sqrt(3))


def test_episodes_make_no_algorithm_better_than_its_seeds_do() -> None:
    """Every pair of checkpoints differs significantly, and the algorithms do not."""
    given = [scored("maml", 0, 0.9), scored("maml", 1, 0.7), scored("protonet", 0, 0.8), scored("protonet", 1, 0.75)]
    comparison = Comparison.of(given)
    assert all(pair.significant for pair in comparison.pairs if not pair.training_seed_only)
    (pair,) = comparison.algorithm_pairs
    assert pair.significant is False


def test_what_is_asked_is_said_everywhere() -> None:
    comparison = Comparison.of([scored("maml", 0, 0.9), scored("protonet", 0, 0.8)])
    content = comparison.content()
    assert content["of_checkpoints"]["question"] == OF_CHECKPOINTS
    assert content["of_algorithms"] == {"question": OF_ALGORITHMS, "algorithms": [], "pairs": []}
    for text in (comparison.lines(), comparison.for_people()):
        for question in (OF_CHECKPOINTS, OF_ALGORITHMS):
            assert question[1:] in text
        assert "several training seeds" in text  # what is missing for the second one
    assert Comparison.of([scored("maml", 0, 0.9)]).lines().count("which") == 0


@pytest.mark.parametrize("count", [2, 4, 5])
def test_few_training_seeds_are_said_to_be_few(count: int) -> None:
    scores = [0.9, 0.88, 0.93, 0.91, 0.9]
    of_one = [scored("maml", seed, scores[seed]) for seed in range(count)]
    of_both = [*of_one, *(scored("protonet", seed, scores[seed] - 0.1 - 0.01 * seed) for seed in range(count))]
    warning = "(fewer than 5: too few for the interval or p to be trusted)"
    for given, who in ((of_one, ["A"]), (of_both, ["A", "B"])):
        said = ", ".join(f"{letter} has {count} training seeds" for letter in who)
        comparison = Comparison.of(given)
        for text in (comparison.lines(), comparison.for_people()):
            assert (f"; {said} {warning}" in text) == (count < 5)
            assert ("too few" in text) == (count < 5)
        for algorithm in comparison.content()["of_algorithms"]["algorithms"]:
            assert algorithm["few_seeds"] == (count < 5)
