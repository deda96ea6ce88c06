"""What is computed from the answers to an evaluation's queries agrees with sums that are written out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from metashot.evaluation.answers import Answers, calibration_error, class_accuracies, reliability

NAMES = [f"class {place}" for place in range(9)]


def drawn(episodes: int = 40, ways: int = 5, queries: int = 4, seed: int = 0) -> tuple[Answers, torch.Tensor, torch.Tensor]:
    """Answers, with the probabilities and the labels within tasks that they come from."""
    generator = np.random.default_rng(seed)
    classes = {3 * number: tuple(generator.choice(8, ways, replace=False).tolist()) for number in range(episodes)}
    probabilities = torch.from_numpy(generator.dirichlet(np.full(ways, 0.3), (episodes, ways * queries)))
    labels = torch.arange(ways).repeat_interleave(queries).expand(episodes, -1)
    confidence, predicted = probabilities.max(-1)
    of_split = np.array(list(classes.values()))
    answers = Answers(
        np.repeat(np.array(list(classes)), ways * queries),
        np.take_along_axis(of_split, labels.numpy(), 1).ravel(),
        np.take_along_axis(of_split, predicted.numpy(), 1).ravel(),
        confidence.numpy().ravel(),
        classes,
    )
    return answers, probabilities.flatten(0, 1), labels.flatten()


def written_out(answers: Answers, bins: int) -> float:
    """Guo et al. 2017, equation 5; a bin holds its lower edge, the last one 1 too."""
    error = 0.0
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        last = place == bins - 1
        inside = [i for i, sure in enumerate(answers.confidence) if low <= sure < high or (last and sure == 1)]
        if inside:
            accuracy = sum(bool(answers.label[i] == answers.predicted[i]) for i in inside) / len(inside)
            sure = sum(float(answers.confidence[i]) for i in inside) / len(inside)
            error += len(inside) / len(answers.label) * abs(accuracy - sure)
    return error


def test_an_answer_is_right_where_the_predicted_class_is_the_querys() -> None:
    answers, _, _ = drawn()
    assert answers.right.tolist() == [
        a == b for a, b in zip(answers.label.tolist(), answers.predicted.tolist(), strict=True)
    ]
    assert 0 < answers.right.sum() < len(answers.right)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_the_published_sum_over_bins(bins: int) -> None:
    answers, _, _ = drawn()
    assert calibration_error(answers, bins) == pytest.approx(written_out(answers, bins), abs=1e-9)
    assert calibration_error(answers) == calibration_error(answers, 15)


def test_calibration_error_puts_certain_answers_into_the_last_bin() -> None:
    """Right ones with 1 and wrong ones just below it, which would not cancel out if they were counted apart."""
    confidence = np.array([1.0, 1.0, 0.95, 0.95])
    answers = Answers(np.zeros(4, int), np.array([0, 0, 0, 0]), np.array([1, 0, 0, 0]), confidence, {0: (0, 1)})
    assert calibration_error(answers) == pytest.approx(0.975 - 0.75)
    above = replace(answers, confidence=confidence + 1e-7)  # as rounding leaves sums of probabilities
    assert calibration_error(above) == pytest.approx(0.975 - 0.75, abs=1e-6)


def test_calibration_error_is_that_of_all_probabilities() -> None:
    answers, probabilities, labels = drawn()
    of_all = multiclass_calibration_error(probabilities, labels, num_classes=5, n_bins=15, norm="l1")
    assert calibration_error(answers) == pytest.approx(float(of_all), abs=1e-5)


def test_calibration_error_of_what_is_no_number_is_no_number() -> None:
    answers, _, _ = drawn()
    answers.confidence[7] = np.nan
    assert math.isnan(calibration_error(answers))
    assert reliability(answers).queries.sum() == len(answers.label) - 1


def test_reliability_has_the_bins_of_the_calibration_error() -> None:
    answers, _, _ = drawn()
    answers.confidence[:3] = 1.0, 2 / 15, 0.0  # edges of bins
    found = reliability(answers)
    share = found.queries / found.queries.sum()
    full = found.queries > 0
    assert (share * np.abs(found.accuracy - found.confidence))[full].sum() == pytest.approx(calibration_error(answers))
    for place in range(15):
        last = place == 14
        inside = (answers.confidence >= found.edges[place]) & ((answers.confidence < found.edges[place + 1]) | last)
        assert found.queries[place] == inside.sum()
        if inside.any():
            assert found.accuracy[place] == pytest.approx(answers.right[inside].mean())
            assert found.confidence[place] == pytest.approx(answers.confidence[inside].mean())


def test_each_class_that_has_queries_is_listed_once_in_the_order_of_the_split() -> None:
    answers, _, _ = drawn(episodes=2)
    found = class_accuracies(answers, NAMES)
    places = sorted(set(answers.label.tolist()))
    assert 5 <= len(places) < len(NAMES)
    assert [name for name, _, _ in found] == [NAMES[place] for place in places]
    for place, (_, queries, accuracy) in zip(places, found, strict=True):
        mine = [bool(right) for label, right in zip(answers.label, answers.right, strict=True) if label == place]
        assert queries == len(mine)
        assert accuracy == pytest.approx(sum(mine) / len(mine))
