"""How the answers to each query are judged, against plain re-computations, and how scores are told."""

import math

import numpy as np
import pytest
import torch

from metashot.evaluation.report import plain_score, score_with_interval
from metashot.problems import Classification, DenseLabels, Problem, Regression


def test_classification_is_scored_by_right_answers_and_trained_on_their_cross_entropy() -> None:
    answers = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([[0, 1, 2, 3], [4, 4, 4, 4], [1, 0, 1, 0]])
    problem = Classification(5)
    losses = np.array(
        [
            [math.log(sum(math.exp(a) for a in query)) - query[label] for query, label in zip(task, labels, strict=True)]
            for task, labels in zip(answers.tolist(), y.tolist(), strict=True)
        ]
    )
    np.testing.assert_allclose(problem.losses(answers, y), losses, atol=1e-12)
    assert problem.loss(answers, y).item() == pytest.approx(losses.mean(), abs=1e-12)
    assert problem.scores(answers, y).tolist() == (answers.argmax(-1) == y).double().tolist()
    assert (problem.metric, problem.better(0.9, 0.8), problem.better(0.8, 0.8)) == ("accuracy", True, False)


def test_regression_is_scored_and_trained_by_squared_error() -> None:
    answers, y = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [3.0, 1.0]]])
    problem = Regression(2)
    assert problem.losses(answers, y).tolist() == problem.scores(answers, y).tolist() == [[2.0, 5.0]]
    assert problem.loss(answers, y).item() == 3.5
    assert (problem.metric, problem.better(0.8, 0.9), problem.better(0.8, 0.8)) == ("mse", True, False)


@pytest.mark.parametrize("problem", [Classification(5), Regression(2)])
def test_the_score_of_a_task_is_the_mean_over_its_queries(problem: Classification | Regression) -> None:
    generator = torch.Generator().manual_seed(0)
    answers = torch.randn(3, 4, problem.outputs, generator=generator)
    y = torch.randint(5, (3, 4), generator=generator) if problem.has_classes else torch.randn(3, 4, 2, generator=generator)
    statistics = problem.statistics(answers, y)
    expected = problem.scores(answers, y).double().mean(1)
    torch.testing.assert_close(problem.score_of(statistics.double()), expected)
    assert problem.score(answers, y).item() == pytest.approx(expected.mean().item())
    parts = problem.statistics(answers[:, :1], y[:, :1]) + problem.statistics(answers[:, 1:], y[:, 1:])
    torch.testing.assert_close(parts, statistics)


def test_counts_are_exact_where_answers_have_16_bits() -> None:
    answers = torch.zeros(1, 375, 2, dtype=torch.bfloat16)
    statistics = Classification(2).statistics(answers, torch.zeros(1, 375, dtype=torch.int64))
    assert statistics.tolist() == [[375, 375]]
    assert Classification(2).statistics(answers, torch.arange(375)[None] // 374).tolist() == [[374, 375]]


def test_a_class_is_predicted_by_the_largest_logit_and_as_sure_as_its_softmax() -> None:
    answers, y = torch.tensor([[[0.0, math.log(3.0)], [math.log(4.0), 0.0]]]), torch.tensor([[1, 1]])
    labels, predicted, confidence = Classification(2).predictions(answers, y)
    assert (labels.tolist(), predicted.tolist()) == ([[1, 1]], [[1, 0]])
    assert confidence.flatten().tolist() == pytest.approx([0.75, 0.8])
    assert Regression(2).predictions(answers, answers) is None


@pytest.mark.parametrize(
    ("problem", "score", "with_interval"),
    [
        (Classification(5), "51.25 %", "51.25 % ± 3.00"),
        (DenseLabels(5), "51.25 %", "51.25 % ± 3.00"),
        (Regression(1), "0.5125", "0.5125 ± 0.0300"),
    ],
)
def test_scores_are_told_as_their_problem_says(problem: Problem, score: str, with_interval: str) -> None:
    assert plain_score(problem.metric, 0.5125) == score
    assert score_with_interval(problem.metric, 0.5125, 0.03) == with_interval


@pytest.mark.parametrize("problem", [Classification(5), Regression(1), DenseLabels(5)])
def test_anything_beats_no_score_and_a_score_that_is_no_number(problem: Problem) -> None:
    assert problem.better(0.5, None)
    assert problem.better(0.6, 0.5) == problem.higher_is_better
    assert problem.better(0.5, float("nan"))
    for best in (0.5, None, float("nan")):
        assert not problem.better(float("nan"), best)
        assert not problem.better(float("inf"), best)
