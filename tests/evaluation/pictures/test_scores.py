"""Pictures of scores: what they show agrees with sums that are written out, and every evaluation has its picture."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from metashot.evaluation.answers import Answers, calibration_error
from metashot.evaluation.pictures.scores import (
    adaptation_picture,
    bin_boldness,
    confusion_picture,
    confusion_shares,
    histogram_edges,
    histogram_picture,
    labelled_steps,
    most_confused,
    reliability_picture,
)
from tests.evaluation.pictures.files import clear_of_the_edges, written

STEPS = [*range(11), 20, 50, 100]


def answers(classes: int, ways: int, episodes: int, queries: int = 3, right: float = 0.6, seed: int = 0) -> Answers:
    generator = np.random.default_rng(seed)
    drawn = [generator.choice(classes, ways, replace=False) for _ in range(episodes)]
    label = np.concatenate([np.repeat(of_episode, queries) for of_episode in drawn])
    guessed = np.concatenate([generator.choice(of_episode, ways * queries) for of_episode in drawn])
    predicted = np.where(generator.random(len(label)) < right, label, guessed)
    return Answers(
        np.repeat(np.arange(episodes) + 7, ways * queries),
        label,
        predicted,
        generator.uniform(1 / ways, 1, len(label)),
        {number + 7: tuple(of_episode.tolist()) for number, of_episode in enumerate(drawn)},
    )


@pytest.mark.parametrize(
    ("steps", "scores", "ci95", "metric"),
    [
        (STEPS, [1 - 0.8 * 0.5**step for step in STEPS], [0.01] * len(STEPS), "accuracy"),
        (list(range(101)), [1 - 0.8 * 0.9**step for step in range(101)], [0.01] * 101, "accuracy"),
        ([0, 1, 5], [3.0, 1.0, 0.5], [0.1, None, 0.1], "mse"),
        ([0], [0.2], [None], "accuracy"),
        ([0, 1, 2], [1.0, float("inf"), float("nan")], [None, float("inf"), float("nan")], "mse"),
        ([0, 1, 2], [1.0, 1e9, 1e30], [0.1, 1e9, 1e31], "mse"),
        ([0, 1], [float("nan")] * 2, [None] * 2, "mse"),
    ],
)
def test_adaptation_is_drawn_whatever_the_steps_and_scores(
    tmp_path: Path, steps: list[int], scores: list[float], ci95: list[float | None], metric: str
) -> None:
    pixels = written(tmp_path, lambda path: adaptation_picture(steps, scores, ci95, metric, path))
    assert clear_of_the_edges(pixels)


@pytest.mark.parametrize("steps", [STEPS, list(range(101)), list(range(6)), [0, 5], [3]])
def test_labelled_steps_are_apart_and_have_the_first_and_the_last(steps: list[int]) -> None:
    uneven = steps == STEPS
    found = labelled_steps(steps, uneven)
    assert found == sorted(set(found))
    assert {steps[0], steps[-1]} <= set(found) <= set(steps)
    positions = [step**0.5 if uneven else step for step in found]
    assert all(b - a >= 0.04 * (positions[-1] - positions[0]) for a, b in pairwise(positions))
    if uneven:
        assert {10, 20, 50} <= set(found)
    if len(steps) == 6:
        assert found == steps


COUNTS = np.random.default_rng(0).binomial(75, 0.9, 600)


@pytest.mark.parametrize(
    ("scores", "metric"),
    [
        (COUNTS / 75, "accuracy"),
        (COUNTS[:1] / 75, "accuracy"),
        (np.ones(100), "accuracy"),
        (np.zeros(3), "mse"),
        (np.array([0.0, 1.0, 1.0]), "accuracy"),
        (np.random.default_rng(0).gamma(2.0, 1.0, 300), "mse"),
        (np.exp(np.random.default_rng(0).normal(0, 6, 300)), "mse"),
        (np.array([0.0, 1e-3, 2.3e-3, 1e30]), "mse"),
        (np.array([1.0, np.nan, np.inf, 2.0]), "mse"),
        (np.array([np.nan]), "mse"),
    ],
)
def test_scores_of_episodes_are_drawn_whatever_they_are(tmp_path: Path, scores: np.ndarray, metric: str) -> None:
    interval = None if len(scores) < 2 else float(scores.std() / 10)
    worst = float(scores.min() if metric == "accuracy" else scores.max())
    pixels = written(tmp_path, lambda path: histogram_picture(scores.tolist(), interval, worst, metric, path))
    assert clear_of_the_edges(pixels)


@pytest.mark.parametrize("queries", [5, 75, 300, 10_000])
def test_each_bin_holds_as_many_possible_accuracies(queries: int) -> None:
    """In a histogram of one of each possible accuracy, all bars but the last one are of the same height."""
    possible = np.arange(queries // 2, queries + 1) / queries
    edges = histogram_edges(possible, False)
    counts = np.histogram(possible, edges)[0]
    assert counts.sum() == len(possible)
    assert len(counts) <= 30
    assert set(counts[:-1].tolist()) == {int(counts[0])}
    assert counts[-1] <= counts[0]
    if len(possible) <= 30:
        assert counts.tolist() == [1] * len(possible)
    # No possible score stands where rounding decides which bin has it.
    assert np.abs(possible[:, None] - edges).min() > 0.4 / queries


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).gamma(2.0, 1.0, 300),
        np.array([0.0, 1e-3, 2.3e-3, 1e30]),
        np.array([3e-12, 4e-12, 5.5e-12]),
        np.array([0.8, 0.8]),
        np.zeros(2),
        np.concatenate([COUNTS / 75, COUNTS / 77]),
    ],
)
def test_bins_hold_every_score(values: np.ndarray) -> None:
    positive = values[values > 0]
    for scores, logarithmic in ((values, False), (positive, True)):
        if len(scores):
            edges = histogram_edges(scores, logarithmic)
            assert 1 <= len(edges) - 1 <= 30
            assert (np.diff(edges) > 0).all()
            assert np.histogram(scores, edges)[0].sum() == len(scores)


@pytest.mark.parametrize(
    "confidence", [None, np.full(30, 1.0), np.full(30, 0.2), np.full(30, np.nan), np.array([0.5] + 29 * [np.nan])]
)
def test_reliability_is_drawn_whatever_the_confidence(tmp_path: Path, confidence: np.ndarray | None) -> None:
    given = answers(8, 5, 2)
    if confidence is not None:
        given.confidence[:] = confidence
    pixels = written(tmp_path, lambda path: reliability_picture(given, calibration_error(given), path))
    assert clear_of_the_edges(pixels)


def test_confusions_of_a_row_are_shares_of_the_same_queries() -> None:
    """Of those whose episodes had another of the classes: the right answers too, so that rows add up to 1 at most."""
    given = answers(classes=8, ways=2, episodes=20)
    chosen = [5, 0, 7, 2]
    shares = confusion_shares(given, chosen)
    never = 0
    for row, of_query in enumerate(chosen):
        others = set(chosen) - {of_query}
        asked = [
            (int(predicted), given.classes[int(number)])
            for number, label, predicted in zip(given.number, given.label, given.predicted, strict=True)
            if label == of_query and others & set(given.classes[int(number)])
        ]
        for column, called in enumerate(chosen):
            possible = any(called in classes for _, classes in asked)
            never += not possible
            confused = sum(predicted == called for predicted, _ in asked)
            assert shares[row, column] == pytest.approx(confused / len(asked) if possible else np.nan, nan_ok=True)
    assert 0 < never < 16  # so that both kinds of cells were compared


def test_a_class_that_is_right_in_all_episodes_but_the_shared_one_has_a_row_of_100_percent_at_most() -> None:
    """Class 0 is right in three episodes without class 1, and always taken for class 1 in the one that has both."""
    number, label = np.array([0, 1, 2, 3]), np.zeros(4, dtype=np.int64)
    classes = {0: (0, 2), 1: (0, 2), 2: (0, 2), 3: (0, 1)}
    given = Answers(number, label, np.array([0, 0, 0, 1]), np.full(4, 0.5), classes)
    assert confusion_shares(given, [0, 1])[0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("wrong", "expected"), [(1, "1 of 1 error is between"), (2, "2 of 2 errors are between")])
def test_the_title_of_the_confusion_matrix_says_whose_queries_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: int, expected: str
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **_: titles.append(text))
    predicted = np.array([1] * wrong + [0] * (4 - wrong))
    given = Answers(np.arange(4), np.zeros(4, np.int64), predicted, np.full(4, 0.5), dict.fromkeys(range(4), (0, 1)))
    written(tmp_path, lambda path: confusion_picture(given, ["a", "b"], path))
    assert titles[0].splitlines()[1:] == [
        f"{expected} these classes",
        "percent of a row's queries in episodes with another of them",
    ]


def test_bins_of_few_queries_are_drawn_palely() -> None:
    boldness = bin_boldness(np.array([4000, 1000, 4]))
    assert boldness.tolist() == pytest.approx([1.0, 0.5, 0.15])


def test_the_most_confused_classes_are_those_of_the_most_frequent_pairs() -> None:
    """Pairs count in both directions, and classes that are only often right do not count."""
    pairs = {(0, 1): 3, (1, 0): 3, (4, 5): 5, (2, 3): 4, (3, 2): 0, (5, 7): 1, (6, 6): 50}
    label, predicted = np.array([pair for pair, times in pairs.items() for _ in range(times)]).T
    number = np.arange(len(label))
    given = Answers(number, label, predicted, np.full(len(label), 0.5), {int(place): tuple(range(8)) for place in number})
    assert set(most_confused(given, 2)) == {0, 1}
    assert set(most_confused(given, 3)) == {0, 1}  # half a pair shows no confusion
    assert set(most_confused(given, 4)) == {0, 1, 4, 5}
    assert set(most_confused(given, 7)) == {0, 1, 2, 3, 4, 5, 7}
    assert set(most_confused(given, 10)) == {0, 1, 2, 3, 4, 5, 7}


@pytest.mark.parametrize(("classes", "ways", "episodes"), [(5, 5, 3), (400, 5, 60), (30, 20, 3), (2, 2, 1)])
def test_confusions_are_drawn_whatever_the_episodes(tmp_path: Path, classes: int, ways: int, episodes: int) -> None:
    names = [f"a_class_with_a_long_name_of_number_{place}" if place % 3 else "字" for place in range(classes)]
    given = answers(classes, ways, episodes, right=0.3)
    pixels = written(tmp_path, lambda path: confusion_picture(given, names, path))
    assert clear_of_the_edges(pixels)


def test_a_learner_that_confuses_nothing_has_a_picture_that_says_so(tmp_path: Path) -> None:
    given = answers(5, 5, 2, right=1.0)
    pixels = written(tmp_path, lambda path: confusion_picture(given, list("abcde"), path))
    assert clear_of_the_edges(pixels)
    assert pixels.shape[0] < 250  # words, and no matrix
