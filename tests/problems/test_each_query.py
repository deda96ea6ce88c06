"""How answers are judged, against plain re-computations."""

import math

import numpy as np
import pytest
import torch

from metashot.problems import Classification, Regression


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


@pytest.mark.parametrize("problem", [Classification(5), Regression(1)])
def test_anything_beats_no_score_and_a_score_that_is_no_number(problem: Classification | Regression) -> None:
    assert problem.better(0.5, None)
    assert problem.better(0.5, float("nan"))
    for best in (0.5, None, float("nan")):
        assert not problem.better(float("nan"), best)
        assert not problem.better(float("inf"), best)
