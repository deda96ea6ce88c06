"""Scores of episodes: each number counts once, whatever device answered it and whenever."""

import math

import pytest
import torch

from metashot.episodes import Episode, Examples
from metashot.evaluation.protocol import EpisodeResults, EpisodeScores, QueryAnswers
from metashot.problems import Classification, Regression

ANSWERED = 20


def right(number: int) -> int:
    return (7 * number) % (ANSWERED + 1)


def score(scores: EpisodeScores, numbers: list[int]) -> None:
    """What a device measures on a batch: a function of the episodes' numbers."""
    losses = torch.tensor([0.125 * number for number in numbers])
    non_finite = torch.tensor([number % 2 for number in numbers])
    given = torch.tensor([float(right(number)) for number in numbers])
    scores.update(torch.tensor(numbers), given, ANSWERED, losses, non_finite)


def scores_of(*batches: list[int]) -> EpisodeScores:
    scores = EpisodeScores()
    for numbers in batches:
        score(scores, numbers)
    return scores


def expected(numbers: list[int]) -> torch.Tensor:
    rows = [[right(number) / ANSWERED, 0.125 * number, number % 2, ANSWERED] for number in numbers]
    return torch.tensor(rows, dtype=torch.float64)


def test_scores_are_in_the_order_of_the_numbers() -> None:
    assert torch.equal(scores_of([4, 0], [3], [2, 1]).compute()[:, 1:], expected([0, 1, 2, 3, 4]))


def test_an_episode_that_was_answered_twice_counts_once() -> None:
    assert torch.equal(scores_of([0, 2], [1, 2], [2]).compute()[:, 1:], expected([0, 1, 2]))


@pytest.mark.parametrize("devices", [[[0, 2, 4], [1, 3, 4]], [[0, 3], [1, 4], [2, 4]]], ids=["two", "three"])
def test_devices_brought_together_score_as_one_does(devices: list[list[int]]) -> None:
    merged, *others = [scores_of(numbers[:2], numbers[2:]) if numbers[2:] else scores_of(numbers) for numbers in devices]
    for other in others:
        merged.merge_state(other)
    assert torch.equal(merged.compute()[:, 1:], scores_of([0, 1, 2, 3, 4]).compute()[:, 1:])


def test_torchmetrics_concatenates_the_states_of_all_devices() -> None:
    reductions = EpisodeScores()._reductions
    assert {name: reduction(torch.ones(2, 1)).shape for name, reduction in reductions.items() if reduction} == {
        "numbers": (2, 1),
        "values": (2, 1),
    }


def test_the_next_validation_starts_from_nothing() -> None:
    scores = scores_of([0, 1, 2])
    scores.reset()
    score(scores, [1])
    assert torch.equal(scores.compute()[:, 1:], expected([1]))


def test_numbers_above_single_precision_stay_apart() -> None:
    assert len(scores_of([2**24, 2**24 + 1]).compute()[:, 1:]) == 2


def test_results_carry_their_interval_if_there_is_one() -> None:
    metrics = EpisodeResults(Classification(5), [0.2, 0.4, 0.6, 0.8], [1.0, 2.0, 3.0, 4.0]).metrics("val")
    assert metrics == pytest.approx({"val/accuracy": 0.5, "val/ci95": 0.4108521, "val/loss": 2.5}, abs=1e-7)
    assert EpisodeResults(Classification(5), [0.6], [1.5]).metrics("test") == {"test/accuracy": 0.6, "test/loss": 1.5}


def test_results_are_named_after_what_is_measured() -> None:
    metrics = EpisodeResults(Regression(1), [0.5, 1.5], [0.5, 1.5]).metrics("val")
    assert metrics == pytest.approx({"val/mse": 1.0, "val/ci95": 6.3531024, "val/loss": 1.0})


def answered_episode(numbers: list[int], queries: int) -> tuple[Episode, torch.Tensor]:
    """Episodes of 3 classes whose queries, labels and answers are functions of their numbers."""
    y = torch.tensor([[(number + query) % 3 for query in range(queries)] for number in numbers])
    answers = torch.tensor(
        [[[(number * query + way) % 5 for way in range(3)] for query in range(queries)] for number in numbers]
    )
    classes = torch.tensor([[10 * number, 10 * number + 1, 10 * number + 2] for number in numbers])
    nothing = Examples(torch.zeros(len(numbers), 0), torch.zeros(len(numbers), 0))
    return Episode(nothing, Examples(torch.zeros(len(numbers), queries), y), torch.tensor(numbers), classes), answers.float()


def test_every_query_counts_once_with_the_classes_of_the_split_and_its_confidence() -> None:
    queries = QueryAnswers()
    for numbers, count in (([4, 2], 3), ([7], 5), ([2], 3)):  # the last one was answered twice, as devices do
        queries.update(*answered_episode(numbers, count))
    (number, label, predicted), confidence = queries.compute()
    expected = []
    for one, count in ((2, 3), (4, 3), (7, 5)):
        for query in range(count):
            scores = [math.exp((one * query + way) % 5) for way in range(3)]
            best = scores.index(max(scores))
            expected.append((one, 10 * one + (one + query) % 3, 10 * one + best, max(scores) / sum(scores)))
    assert list(zip(number, label, predicted, strict=True)) == [row[:3] for row in expected]
    assert confidence == pytest.approx([row[3] for row in expected], rel=1e-6)


def test_scores_after_inner_steps_stand_behind_the_final_ones() -> None:
    scores = EpisodeScores()
    on_the_way = torch.tensor([[4.0, 8.0], [2.0, 10.0]])
    given = torch.tensor([8.0, 10.0]), ANSWERED, torch.tensor([1.0, 2.0]), torch.tensor([0, 3])
    scores.update(torch.tensor([5, 3]), *given, on_the_way)
    assert scores.compute().tolist() == [[3.0, 0.5, 2.0, 3.0, 20.0, 0.1, 0.5], [5.0, 0.4, 1.0, 0.0, 20.0, 0.2, 0.4]]


def test_answers_that_are_not_finite_make_no_score_whatever_class_they_were_counted_for() -> None:
    results = EpisodeResults(Classification(5), [0.2, 0.2], [1.0, 2.0], [0, 1], {}, [0, 3], 8)
    assert math.isnan(results.score)
    assert results.ci95 is None
    assert math.isnan(results.loss)
    assert results.what_is_not_finite() == "the answers to 3 of 8 queries, in 1 of 2 episodes, are not finite"
    assert EpisodeResults(Classification(5), [0.2, 0.2], [1.0, 2.0], [0, 1], {}, [0, 0], 8).what_is_not_finite() is None
