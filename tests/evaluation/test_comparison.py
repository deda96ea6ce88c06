"""Comparisons of checkpoints and those of algorithms are two questions, and no answer to one passes for the other."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metashot.checkpoints.reading import write_checkpoint
from metashot.checkpoints.stored import OURS
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
    shape = {
        "ways": 5,
        "shots": 1,
        "queries": 15,
        "data": "glyphs",
        "split": "test",
        "classes": [],
        "inner_steps": [],
        "measures": {},
    }
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


@pytest.mark.parametrize("key", ["heartbeat", "join_within", "checkpoint_every", "log_every", "devices"])
def test_what_decides_no_result_makes_no_other_experiment(key: str) -> None:
    trainers = [{"max_steps": 60, key: value} for value in (10, 20)]
    given = [scored("maml", seed, 0.9 - seed / 10, trainer=trainer) for seed, trainer in enumerate(trainers)]
    comparison = Comparison.of(given)
    assert comparison.pairs[0].training_seed_only
    assert [seeds.seeds for seeds in comparison.seeds] == [[0, 1]]
    others = [scored("maml", seed, 0.9 - seed / 10, trainer={"max_steps": seed}) for seed in (0, 1)]
    assert not Comparison.of(others).pairs[0].training_seed_only
    assert Comparison.of(others).seeds == []


def start(folder: Path, seed: int, **config: Any) -> str:
    """A checkpoint for `init_from`."""
    path = folder / f"{seed}-{len(list(folder.iterdir()))}.ckpt"
    whole = {"seed": seed, "algo": {"name": "baseline"}} | config
    write_checkpoint({"state_dict": {"x": torch.zeros(1)}, "global_step": 5, OURS: {"config": whole}}, path)
    return str(path)


def test_seeds_of_a_learner_of_two_stages_may_begin_from_runs_of_other_seeds(tmp_path: Path) -> None:
    starts = [start(tmp_path, seed, trainer={"heartbeat": seed}) for seed in range(3)]
    given = [scored("metabaseline", seed, 0.9 - seed / 10, init_from=starts[seed]) for seed in range(3)]
    comparison = Comparison.of(given)
    assert [(seeds.seeds, seeds.checkpoints) for seeds in comparison.seeds] == [([0, 1, 2], [1, 2, 3])]
    assert all(pair.training_seed_only for pair in comparison.pairs)


def test_runs_that_begin_from_other_experiments_are_not_one_algorithm(tmp_path: Path) -> None:
    one = start(tmp_path, 0)
    others = [
        start(tmp_path, 1, algo={"name": "baselinepp"}),
        start(tmp_path, 1, trainer={"max_steps": 9}),
        str(tmp_path / "moved.ckpt"),
        None,
    ]
    for other in others:
        given = [scored("metabaseline", seed, 0.9 - seed / 10, init_from=init) for seed, init in enumerate((one, other))]
        comparison = Comparison.of(given)
        assert comparison.seeds == [], other
        assert not comparison.pairs[0].training_seed_only, other
        assert comparison.pairs[0].p is not None
    moved = [scored("metabaseline", seed, 0.9 - seed / 10, init_from=others[2]) for seed in (0, 1)]
    assert Comparison.of(moved).pairs[0].training_seed_only  # it was one and the same, whatever it was


def test_runs_whose_starts_began_elsewhere_are_told_apart_by_those(tmp_path: Path) -> None:
    first, other = start(tmp_path, 0), start(tmp_path, 0, trainer={"max_steps": 9})
    second = [start(tmp_path, seed, init_from=init) for seed, init in ((0, first), (1, start(tmp_path, 1)), (1, other))]
    runs = [scored("metabaseline", min(place, 1), 0.9 - place / 10, init_from=init) for place, init in enumerate(second)]
    assert Comparison.of(runs[:2]).pairs[0].training_seed_only
    assert not Comparison.of([runs[0], runs[2]]).pairs[0].training_seed_only


def test_checkpoint_of_a_seed_that_is_there_twice_drops_no_algorithm() -> None:
    """The best one and the last one of a run: the first that was given counts."""
    given = [scored("maml", 0, 0.9), scored("maml", 0, 0.5), scored("maml", 1, 0.8)]
    given += [scored("protonet", 0, 0.7), scored("protonet", 1, 0.65), scored("protonet", 1, 0.1)]
    comparison = Comparison.of(given)
    assert [(seeds.algo, seeds.seeds, seeds.checkpoints) for seeds in comparison.seeds] == [
        ("maml", [0, 1], [1, 3]),
        ("protonet", [0, 1], [4, 5]),
    ]
    assert comparison.seeds[0].mean == pytest.approx(0.85)
    (pair,) = comparison.algorithm_pairs
    assert (pair.paired, pair.difference) == (True, pytest.approx(0.175))
    assert Comparison.of(given[:2]).seeds == []  # one training, of which there is nothing to say


def test_seeds_of_one_score_have_no_interval_of_nothing() -> None:
    """Where a test has few episodes; three equal scores do not say that all seeds have that score."""
    for scores in ([0.75] * 3, [0.75, 0.75 + 1e-16, 0.75 - 1e-16]):  # the rounding of equal ones is no spread
        comparison = Comparison.of([scored("maml", seed, score) for seed, score in enumerate(scores)])
        (seeds,) = comparison.seeds
        assert (seeds.mean, seeds.ci95) == (pytest.approx(0.75), None)
        assert comparison.algorithm_rows()[1][2] == "75.00 % (equal values have no interval)"


def test_equal_differences_over_seeds_have_no_interval_and_no_p() -> None:
    given = [scored(algo, seed, score) for algo, score in (("maml", 0.75), ("snail", 0.5)) for seed in range(3)]
    comparison = Comparison.of(given)
    (pair,) = comparison.algorithm_pairs
    assert (pair.difference, pair.ci95, pair.p, pair.significant) == (pytest.approx(0.25), None, None, None)
    row = ["A - B", "+25.00 % (equal values have no interval)", "-", "-", "-", "paired by training seed"]
    assert comparison.algorithm_pair_rows()[1] == row
    (welch,) = Comparison.of(given[1:]).algorithm_pairs
    assert (welch.paired, welch.ci95, welch.p) == (False, None, None)
