"""Dense labels: the mean intersection over union of an episode, against torchmetrics and against counts of pixels."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from metashot.bad_input import BadInput
from metashot.evaluation.protocol import EpisodeScores
from metashot.problems import DenseLabels
from metashot.problems.dense import IGNORED

CLASSES, SIDES = 4, (5, 7)


def drawn(tasks: int, queries: int, classes: int = CLASSES, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are right more often than not, and labels of which some are ignored."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (tasks, queries, *SIDES), generator=generator)
    answers = torch.randn(tasks, queries, classes, *SIDES, generator=generator)
    answers += 1.5 * torch.nn.functional.one_hot(y, classes).movedim(-1, 2)
    y[torch.rand(y.shape, generator=generator) < 0.2] = IGNORED
    return answers, y


def mean_iou(answers: Tensor, y: Tensor) -> float:
    """Of one episode [Q, ...], by torchmetrics."""
    metric = MulticlassJaccardIndex(answers.shape[1], average="macro", ignore_index=IGNORED)
    return float(metric(answers.argmax(1), y))


def counted(answers: Tensor, y: Tensor) -> float:
    """Of one episode [Q, ...], pixel by pixel."""
    true, predicted = y.numpy().ravel(), answers.numpy().argmax(1).ravel()
    pixels = [(a, b) for a, b in zip(true.tolist(), predicted.tolist(), strict=True) if a != IGNORED]
    found = []
    for label in range(answers.shape[1]):
        either = sum(label in pair for pair in pixels)
        if either:
            found.append(sum(pair == (label, label) for pair in pixels) / either)
    return sum(found) / len(found)


def scores(problem: DenseLabels, answers: Tensor, y: Tensor) -> list[float]:
    found: list[float] = problem.score_of(problem.statistics(answers, y).double()).tolist()
    return found


def test_a_score_is_the_mean_intersection_over_union_of_its_episode() -> None:
    answers, y = drawn(6, 3)
    found = scores(DenseLabels(CLASSES), answers, y)
    assert found == pytest.approx([counted(*task) for task in zip(answers, y, strict=True)], abs=1e-12)
    assert found == pytest.approx([mean_iou(*task) for task in zip(answers, y, strict=True)], abs=1e-6)
    assert len(set(found)) == 6


def test_it_is_not_the_mean_over_queries() -> None:
    y = torch.zeros(1, 2, 1, 4, dtype=torch.int64)
    y[0, 0] = torch.tensor([1, 0, 0, 0])
    predicted = torch.tensor([[[[1, 0, 0, 0]], [[1, 1, 0, 0]]]])
    answers = torch.nn.functional.one_hot(predicted, 2).movedim(-1, 2).float()
    assert scores(DenseLabels(2), answers, y) == [pytest.approx((1 / 3 + 5 / 7) / 2)]  # each query alone: 1 and 1/4


def test_ignored_pixels_change_neither_score_nor_loss_nor_gradient() -> None:
    problem, (answers, y) = DenseLabels(CLASSES), drawn(2, 3)
    other = torch.where((y == IGNORED).unsqueeze(2), -7 * answers.flip(2), answers)
    assert torch.equal(problem.statistics(other, y), problem.statistics(answers, y))
    assert torch.equal(problem.losses(other, y), problem.losses(answers, y))
    answers.requires_grad_()
    problem.loss(answers, y).backward()
    assert answers.grad is not None
    touched = (answers.grad != 0).any(2)
    assert torch.equal(touched, y != IGNORED)


def test_a_loss_is_the_mean_cross_entropy_of_a_querys_labelled_pixels() -> None:
    problem, (answers, y) = DenseLabels(CLASSES), drawn(2, 3)
    y[1, 2] = IGNORED  # nothing is known of this query
    found = problem.losses(answers, y)
    expected = np.zeros((2, 3))
    logits = answers.double().numpy()
    for task, query in np.ndindex(2, 3):
        of_pixels = [
            math.log(sum(np.exp(logits[task, query, :, row, column]))) - logits[task, query, label, row, column]
            for (row, column), label in np.ndenumerate(y[task, query].numpy())
            if label != IGNORED
        ]
        expected[task, query] = sum(of_pixels) / max(len(of_pixels), 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[1, 2] == 0
    assert problem.loss(answers, y).item() == pytest.approx(expected.mean(), abs=1e-6)


def test_one_task_in_an_inner_loop_has_the_loss_that_it_has_among_others() -> None:
    problem, (answers, y) = DenseLabels(CLASSES), drawn(3, 2)
    gradient = torch.func.grad(problem.loss)
    alone = torch.stack([gradient(*task) for task in zip(answers, y, strict=True)])
    torch.testing.assert_close(torch.func.vmap(gradient)(answers, y), alone)


@pytest.mark.parametrize("absent", ["from labels and predictions", "from labels", "from predictions"])
def test_a_class_counts_where_it_is_labelled_or_predicted(absent: str) -> None:
    answers, y = drawn(1, 3)
    if "labels" in absent:
        y[y == 2] = 0
    if "predictions" in absent:
        answers[:, :, 2] = -100
    (found,) = scores(DenseLabels(CLASSES), answers, y)
    assert found == pytest.approx(counted(answers[0], y[0]), abs=1e-12)
    assert found == pytest.approx(mean_iou(answers[0], y[0]), abs=1e-6)


def test_tasks_of_fewer_classes_have_statistics_of_one_shape_and_the_same_score() -> None:
    answers, y = drawn(2, 3, classes=2)
    own, larger = (DenseLabels(classes).statistics(answers, y) for classes in (2, 9))
    assert (own.shape, larger.shape) == ((2, 4), (2, 18))
    assert torch.equal(DenseLabels(2).score_of(own), DenseLabels(9).score_of(larger))


def test_statistics_of_parts_of_a_task_add_up() -> None:
    problem, (answers, y) = DenseLabels(CLASSES), drawn(2, 5)
    parts = [problem.statistics(answers[:, part], y[:, part]) for part in ([3], [0, 4], [1, 2])]
    for order in permutations(parts):
        assert torch.equal(sum(order, torch.zeros(2, 2 * CLASSES, dtype=torch.int64)), problem.statistics(answers, y))


def test_more_pixels_are_counted_than_single_precision_can_tell_apart() -> None:
    problem = DenseLabels(2)
    intersection = 2**24
    statistics = torch.tensor([[intersection, intersection + 1, 1, 1]])
    kept = EpisodeScores()
    kept.update(torch.tensor([0]), torch.zeros(1, 1, 2, 1, 1), torch.zeros(1), statistics)
    (score,) = problem.score_of(kept.compute().statistics[:, 0]).tolist()
    assert score == (intersection / (intersection + 1) + 1) / 2


def device(numbers: list[int], problem: DenseLabels) -> EpisodeScores:
    """What a device measures: episodes with 2 or 3 queries, of which one in number 3 has an answer that is not finite."""
    kept = EpisodeScores()
    for number in numbers:
        answers, y = drawn(1, 2 + number % 2, seed=number)
        if number == 3:
            answers[0, 1, 2, 3, 4] = float("inf")
        losses = problem.losses(answers, y).mean(1)
        kept.update(torch.tensor([number]), answers, losses, problem.statistics(answers, y))
    return kept


def measured(kept: EpisodeScores, problem: DenseLabels) -> list[NDArray[np.float64]]:
    numbers, losses, non_finite, queries, statistics = kept.compute()
    return [numbers, losses, non_finite, queries, problem.score_of(statistics[:, 0]).numpy()]


def test_devices_brought_together_in_any_order_score_as_one_does() -> None:
    problem = DenseLabels(CLASSES)
    alone = measured(device([0, 1, 2, 3, 4], problem), problem)
    for order in permutations([[0, 3], [1, 4], [2, 4]]):  # the last one is answered twice, as devices do
        merged, *others = [device(numbers, problem) for numbers in order]
        for other in others:
            merged.merge_state(other)
        for found, expected in zip(measured(merged, problem), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_query_with_one_answer_that_is_not_finite_is_noticed() -> None:
    problem = DenseLabels(CLASSES)
    numbers, _, non_finite, queries, _ = device([0, 1, 2, 3], problem).compute()
    assert (numbers.tolist(), non_finite.tolist(), queries.tolist()) == ([0, 1, 2, 3], [0, 0, 0, 1], [2, 3, 2, 3])


def test_a_task_without_a_labelled_pixel_has_no_score() -> None:
    answers, y = drawn(2, 3)
    y[0] = IGNORED
    first, second = scores(DenseLabels(CLASSES), answers, y)
    assert math.isnan(first)
    assert second == pytest.approx(counted(answers[1], y[1]))


@pytest.mark.parametrize("label", [CLASSES, -1, 254])
def test_a_label_of_no_class_is_refused_instead_of_counted_elsewhere(label: int) -> None:
    answers, y = drawn(2, 3)
    y[0, 1, 2, 3] = label
    with pytest.raises(ValueError, match=f"not one of the {CLASSES} classes"):
        DenseLabels(CLASSES).statistics(answers, y)


def test_more_classes_than_a_byte_has_labels_for_are_refused() -> None:
    with pytest.raises(BadInput, match=r"256 classes.*at most 255"):
        DenseLabels(256)


def test_labels_may_be_bytes_as_masks_are() -> None:
    problem, (answers, y) = DenseLabels(CLASSES), drawn(2, 3)
    masks = y.to(torch.uint8)
    assert torch.equal(problem.statistics(answers, masks), problem.statistics(answers, y))
    assert torch.equal(problem.losses(answers, masks), problem.losses(answers, y))
