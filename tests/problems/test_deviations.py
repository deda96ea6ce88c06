"""Answers with standard deviations, against scipy's normal distribution; answers without are judged as before."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.problems import Classification, Regression, mean_and_deviation
from metashot.problems.regression import BAND


def drawn(tasks: int, queries: int, outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    answers = torch.randn(tasks, queries, 2 * outputs, generator=generator, dtype=torch.float64)
    return answers, torch.randn(tasks, queries, outputs, generator=generator, dtype=torch.float64)


def test_the_loss_is_the_negative_log_likelihood_and_the_score_the_squared_error_of_the_means() -> None:
    answers, y = drawn(3, 5, 2)
    mean, deviation = answers[..., :2].numpy(), np.exp(answers[..., 2:].numpy())
    problem = Regression(2).with_deviations()
    expected = -stats.norm(mean, deviation).logpdf(y.numpy()).mean(-1)
    np.testing.assert_allclose(problem.losses(answers, y), expected, atol=1e-12)
    assert problem.loss(answers, y).item() == pytest.approx(expected.mean())
    squared = ((mean - y.numpy()) ** 2).mean(-1)
    np.testing.assert_allclose(problem.score_of(problem.statistics(answers, y)), squared.mean(1), atol=1e-12)
    measures = problem.measures_of(problem.statistics(answers, y))
    np.testing.assert_allclose(measures["log_likelihood"], -expected.mean(1), atol=1e-12)
    low, high = stats.norm(mean, deviation).interval(0.95)
    inside = ((low <= y.numpy()) & (y.numpy() <= high)).mean((1, 2))
    np.testing.assert_allclose(measures["coverage"], inside, atol=1e-12)
    assert 0 < inside.mean() < 1


def test_statistics_of_parts_of_a_task_add_up() -> None:
    problem, (answers, y) = Regression(2).with_deviations(), drawn(3, 7, 2)
    parts = problem.statistics(answers[:, :2], y[:, :2]) + problem.statistics(answers[:, 2:], y[:, 2:])
    torch.testing.assert_close(parts, problem.statistics(answers, y))


def test_95_percent_of_normal_numbers_are_in_the_band() -> None:
    y = torch.randn(1, 200_000, 1, generator=torch.Generator().manual_seed(0))
    problem = Regression(1).with_deviations()
    coverage = problem.measures_of(problem.statistics(torch.zeros(1, 200_000, 2), y))["coverage"].item()
    assert coverage == pytest.approx(0.95, abs=0.002)
    assert stats.norm.cdf(BAND) == pytest.approx(0.975, abs=1e-6)


def test_measures_are_sums_in_32_bits_where_answers_have_16() -> None:
    problem = Regression(1).with_deviations()
    answers, y = torch.zeros(1, 1000, 2, dtype=torch.bfloat16), torch.zeros(1, 1000, 1, dtype=torch.bfloat16)
    assert problem.statistics(answers, y).dtype == torch.float32
    assert problem.measures_of(problem.statistics(answers, y))["coverage"].item() == 1


def test_answers_without_deviations_have_no_measures() -> None:
    problem, (answers, y) = Regression(2), drawn(3, 5, 2)
    statistics = problem.statistics(answers[..., :2], y)
    assert statistics.shape == (3, 2)
    assert problem.measures_of(statistics) == {}
    with pytest.raises(BadInput, match="a classification problem have no standard deviations"):
        Classification(5).with_deviations()


def test_means_and_deviations_are_told_apart() -> None:
    mean, deviation = mean_and_deviation(torch.tensor([[1.0, 2.0, 0.0, -1.0]]))
    assert mean.tolist() == [[1, 2]]
    assert deviation[0].tolist() == pytest.approx([1, np.exp(-1)])
