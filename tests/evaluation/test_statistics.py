"""The mean over episodes and its interval."""

import pytest

from metashot.evaluation.statistics import mean_and_interval


def test_interval_is_1_96_standard_errors_with_the_sample_deviation() -> None:
    # Squared deviations from 0.5: 0.09 + 0.01 + 0.01 + 0.09 = 0.2; 1.96 * sqrt(0.2 / 3 / 4) = 0.25303...
    mean, interval = mean_and_interval([0.2, 0.4, 0.6, 0.8])
    assert mean == pytest.approx(0.5)
    assert interval == pytest.approx(0.2530349, abs=1e-7)


def test_equal_episodes_have_an_interval_of_zero() -> None:
    assert mean_and_interval([0.75] * 10) == (0.75, 0.0)


def test_one_episode_has_no_interval() -> None:
    assert mean_and_interval([0.6]) == (0.6, None)


def test_four_times_the_episodes_halve_the_interval() -> None:
    few, many = mean_and_interval([0.0, 1.0] * 100)[1], mean_and_interval([0.0, 1.0] * 400)[1]
    assert few is not None
    assert many is not None
    assert many == pytest.approx(few / 2, rel=0.01)
