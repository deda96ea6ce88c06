"""Means over episodes with their intervals, and differences of learners that answered the same episodes."""

import math
import statistics

import numpy as np
import pytest

from metashot.evaluation.statistics import (
    holm,
    holm_of_known,
    mean_and_interval,
    mean_of_worst,
    paired_difference,
    student_p,
    student_quantile,
    welch_difference,
)

# Of Student's t, 2.5 % to each side, by degrees of freedom. The first two have closed forms: tan(0.475 pi), and
# 0.95 sqrt(2 / (1 - 0.95^2)); the others are those of R's qt(0.975, df).
QUANTILES = {
    1: math.tan(0.475 * math.pi),
    2: 0.95 * math.sqrt(2 / (1 - 0.95**2)),
    3: 3.18244630528371,
    5: 2.57058183563631,
    10: 2.22813885198627,
    29: 2.04522964213270,
    59: 2.00099537808827,
    599: 1.96393224894530,
    # From the quantile z of the normal distribution: z + (z^3 + z) / 4 df + (5 z^5 + 16 z^3 + 3 z) / 96 df^2.
    1e5: 1.95998770753496,
}


@pytest.mark.parametrize("freedom", QUANTILES)
def test_quantiles_are_those_of_the_table(freedom: float) -> None:
    assert student_quantile(freedom) == pytest.approx(QUANTILES[freedom], abs=1e-11)
    assert student_p(QUANTILES[freedom], freedom) == pytest.approx(0.05, abs=1e-11)


@pytest.mark.parametrize("t", [1e-6, 0.1, 1.0, 3.0, 50.0])
def test_p_values_are_those_of_the_closed_forms(t: float) -> None:
    assert student_p(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-10)
    assert student_p(-t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-10)
    cosine = 4 / (4 + t * t)  # its square, of the angle whose tangent is t / sqrt(4)
    assert student_p(t, 4) == pytest.approx(1 - math.sqrt(1 - cosine) * (1 + cosine / 2), rel=1e-8)


@pytest.mark.parametrize("freedom", [1.5, 7.3, 30.5, 200.25])
def test_p_values_between_whole_degrees_of_freedom_are_integrals_of_the_density(freedom: float) -> None:
    x, weights = np.polynomial.legendre.leggauss(100)
    x, weights = 0.9 * (x + 1), 0.9 * weights  # between 0 and 1.8
    front = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    density = math.exp(front) * (1 + x * x / freedom) ** (-(freedom + 1) / 2)
    assert student_p(1.8, freedom) == pytest.approx(1 - 2 * float(weights @ density), abs=1e-12)


def test_extreme_values_have_p_values() -> None:
    assert student_p(0.0, 4) == 1.0
    assert student_p(math.inf, 4) == 0.0
    assert math.isnan(student_p(math.nan, 4))
    assert 0 < student_p(30.0, 599) < 1e-100


def test_interval_is_students_with_the_sample_deviation() -> None:
    # Squared deviations from 0.5: 0.09 + 0.01 + 0.01 + 0.09 = 0.2; 3.18245 * sqrt(0.2 / 3 / 4) = 0.41085...
    mean, interval = mean_and_interval([0.2, 0.4, 0.6, 0.8])
    assert mean == pytest.approx(0.5)
    assert interval == pytest.approx(QUANTILES[3] * math.sqrt(0.2 / 12), abs=1e-12)


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


def test_five_episodes_call_no_difference_significant_more_often_than_5_times_of_100() -> None:
    """With the normal distribution it would be 12 times."""
    generator = np.random.default_rng(2)
    significant = covered = 0
    for _ in range(4000):
        one, other = generator.normal(0.5, 0.2, (2, 5))
        found = paired_difference(one.tolist(), other.tolist())
        assert found.p is not None
        assert found.ci95 is not None
        significant += found.p < 0.05
        covered += abs(found.mean) <= found.ci95
    assert significant / 4000 == pytest.approx(0.05, abs=0.014)
    assert significant + covered == 4000  # the interval and the p-value say the same


def test_two_groups_of_seeds_are_called_different_5_times_of_100_whatever_their_spread() -> None:
    generator = np.random.default_rng(3)
    p_values = []
    for _ in range(4000):
        one, other = generator.normal(0.5, 0.02, 4), generator.normal(0.5, 0.08, 8)
        p_values.append(welch_difference(one.tolist(), other.tolist()).p or 0.0)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.014)


def test_p_value_is_that_of_student() -> None:
    differences = [0.1, 0.3, -0.1, 0.2, 0.4, 0.0]
    t = statistics.mean(differences) / (statistics.stdev(differences) / math.sqrt(len(differences)))
    found = paired_difference([0.5 + value for value in differences], [0.5] * len(differences))
    assert found.p == pytest.approx(student_p(t, 5), rel=1e-9)
    assert found.mean == pytest.approx(0.15)


def test_welch_is_students_test_where_samples_are_alike() -> None:
    one, other = [1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0]
    # Both variances are 5/3, so that the degrees of freedom are 6 and t is -1 / sqrt(2 * 5 / 12).
    found = welch_difference(one, other)
    assert found.mean == -1
    assert found.p == pytest.approx(student_p(1 / math.sqrt(10 / 12), 6), rel=1e-12)
    assert found.ci95 == pytest.approx(student_quantile(6) * math.sqrt(10 / 12), rel=1e-12)
    assert welch_difference([1.0], other) == (-2.5, None, None)


def test_learners_that_never_differ_or_always_by_the_same() -> None:
    """Equal differences have no variance to judge them by: they are no proof, however many digits they agree in."""
    assert paired_difference([0.2, 0.4, 0.9], [0.2, 0.4, 0.9]) == (0.0, 0.0, 1.0)
    assert paired_difference([0.5, 1.0], [0.25, 0.75]) == (0.25, None, None)
    assert paired_difference([0.5], [0.25]) == (0.25, None, None)
    rounded = paired_difference([0.8, 0.3], [0.6, 0.1])
    assert 0.8 - 0.6 != 0.3 - 0.1
    assert rounded.p is None
    assert welch_difference([0.5, 0.5], [0.25, 0.25]).p is None


def test_holm_is_of_the_p_values_that_there_are() -> None:
    assert holm_of_known([None, 0.02, None, 0.5]) == [None, 0.04, None, 0.5]


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


@pytest.mark.parametrize("unit", [1e-310, 1e-200, 1e-150, 1e150, 1e300])
def test_differences_of_tiny_and_of_huge_values_are_those_in_another_unit(unit: float) -> None:
    """Their variance is neither zero nor infinite, though their squares are."""
    one, other = [1.0, 2.0, 4.0], [3.0, 5.0, 4.5]
    for difference in (paired_difference, welch_difference):
        usual = difference(one, other)
        assert usual.ci95 is not None
        found = difference([unit * value for value in one], [unit * value for value in other])
        assert found.ci95 is not None
        assert (found.mean, found.ci95) == pytest.approx((unit * usual.mean, unit * usual.ci95), rel=1e-9, abs=0)
        assert found.p == pytest.approx(usual.p, rel=1e-9)
