"""Means over episodes with their intervals, and differences of learners that answered the same episodes."""

import math
import statistics

import numpy as np
import pytest

from metashot.evaluation.statistics import holm, mean_and_interval, mean_of_worst, paired_difference


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


def test_paired_interval_covers_the_true_difference_95_times_of_100() -> None:
    """Two learners of different skill on episodes that are hard or easy for both."""
    generator = np.random.default_rng(0)
    repetitions, episodes, true = 4000, 100, 0.03
    covered = covered_apart = 0
    for _ in range(repetitions):
        difficulty = generator.normal(0.7, 0.1, episodes)
        one = difficulty + true + generator.normal(0, 0.05, episodes)
        other = difficulty + generator.normal(0, 0.05, episodes)
        difference = paired_difference(one.tolist(), other.tolist())
        assert difference.ci95 is not None
        covered += abs(difference.mean - true) <= difference.ci95
        apart = math.hypot(*(mean_and_interval(scores.tolist())[1] or 0.0 for scores in (one, other)))
        covered_apart += abs(difference.mean - true) <= apart
        assert difference.ci95 < apart
    # Four standard errors of a share of 95 % among so many repetitions are 1.4 %.
    assert covered / repetitions == pytest.approx(0.95, abs=0.014)
    assert covered_apart / repetitions > 0.99  # two separate intervals are wider than they have to be


def test_no_difference_is_called_significant_5_times_of_100() -> None:
    generator = np.random.default_rng(1)
    p_values = []
    for _ in range(4000):
        one, other = generator.normal(0.5, 0.2, (2, 60))
        p = paired_difference(one.tolist(), other.tolist()).p
        assert p is not None
        p_values.append(p)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.014)
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.032)


def test_p_value_is_that_of_the_normal_distribution() -> None:
    differences = [0.1, 0.3, -0.1, 0.2, 0.4, 0.0]
    z = statistics.mean(differences) / (statistics.stdev(differences) / math.sqrt(len(differences)))
    found = paired_difference([0.5 + value for value in differences], [0.5] * len(differences))
    assert found.p == pytest.approx(2 * (1 - statistics.NormalDist().cdf(abs(z))), rel=1e-9)
    assert found.mean == pytest.approx(0.15)


def test_learners_that_never_differ_or_always_by_the_same() -> None:
    assert paired_difference([0.2, 0.4, 0.9], [0.2, 0.4, 0.9]) == (0.0, 0.0, 1.0)
    assert paired_difference([0.5, 1.0], [0.25, 0.75]) == (0.25, 0.0, 0.0)
    assert paired_difference([0.5], [0.25]) == (0.25, None, None)


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests_and_keeps_their_order() -> None:
    # 0.01 * 4; 0.02 * 3; 0.03 * 2, which is not above the one before; 0.5 * 1.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.6, 0.9]) == pytest.approx([1.0, 1.0, 1.0])
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_worst_episodes_are_the_twentieth_that_are_hardest() -> None:
    scores = [place / 100 for place in range(100)]
    assert mean_of_worst(scores, higher_is_better=True) == pytest.approx(0.02)
    assert mean_of_worst(scores, higher_is_better=False) == pytest.approx(0.97)
    assert mean_of_worst([0.3, 0.9], higher_is_better=True) == 0.3  # at least one
    assert mean_of_worst([0.0] + [1.0] * 20, higher_is_better=True) == 0.5  # of 21, two
