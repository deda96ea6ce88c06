"""Scores of episodes: each number counts once, whatever device answered it and whenever."""

import math

import pytest
import torch

from metashot.episodes import Episode, Examples
from metashot.evaluation.measured_episodes import EnvironmentSteps
from metashot.evaluation.protocol import EpisodeResults, EpisodeScores, QueryAnswers
from metashot.problems import Classification, Predictions, Regression

ANSWERED = 20


def right(number: int) -> int:
    return (7 * number) % (ANSWERED + 1)


def score(scores: EpisodeScores, numbers: list[int]) -> None:
    """What a device measures on a batch: a function of the episodes' numbers."""
    losses = torch.tensor([0.125 * number for number in numbers])
    answers = torch.zeros(len(numbers), ANSWERED, 5)
    for task, number in enumerate(numbers):
        answers[task, : number % 2, 3] = float("nan")
    statistics = torch.tensor([[float(right(number)), float(ANSWERED)] for number in numbers])
    scores.update(torch.tensor(numbers), answers, losses, statistics)


def scores_of(*batches: list[int]) -> EpisodeScores:
    scores = EpisodeScores()
    for numbers in batches:
        score(scores, numbers)
    return scores


def collected(scores: EpisodeScores) -> list[tuple[float, ...]]:
    """Number, loss, non-finite answers, queries and score of each episode."""
    found = scores.compute()
    columns = found.numbers, found.losses, found.non_finite, found.queries
    at_end = Classification(5).score_of(found.statistics[:, 0])
    return list(zip(*(column.tolist() for column in (*columns, at_end)), strict=True))


def expected(numbers: list[int]) -> list[tuple[float, ...]]:
    return [(number, 0.125 * number, number % 2, ANSWERED, right(number) / ANSWERED) for number in numbers]


def test_scores_are_in_the_order_of_the_numbers() -> None:
    assert collected(scores_of([4, 0], [3], [2, 1])) == expected([0, 1, 2, 3, 4])


def test_an_episode_that_was_answered_twice_counts_once() -> None:
    assert collected(scores_of([0, 2], [1, 2], [2])) == expected([0, 1, 2])


@pytest.mark.parametrize("devices", [[[0, 2, 4], [1, 3, 4]], [[0, 3], [1, 4], [2, 4]]], ids=["two", "three"])
def test_devices_brought_together_score_as_one_does(devices: list[list[int]]) -> None:
    merged, *others = [scores_of(numbers[:2], numbers[2:]) if numbers[2:] else scores_of(numbers) for numbers in devices]
    for other in others:
        merged.merge_state(other)
    assert collected(merged) == collected(scores_of([0, 1, 2, 3, 4]))


def test_torchmetrics_concatenates_the_states_of_all_devices() -> None:
    reductions = EpisodeScores()._reductions
    assert {name: reduction(torch.ones(2, 1)).shape for name, reduction in reductions.items() if reduction} == dict.fromkeys(
        ("numbers", "losses", "counts", "statistics"), (2, 1)
    )


def test_the_next_validation_starts_from_nothing() -> None:
    scores = scores_of([0, 1, 2])
    scores.reset()
    score(scores, [1])
    assert collected(scores) == expected([1])


def test_numbers_above_single_precision_stay_apart() -> None:
    assert scores_of([2**24, 2**24 + 1]).compute().numbers.tolist() == [2**24, 2**24 + 1]


def test_results_carry_their_interval_if_there_is_one() -> None:
    metrics = EpisodeResults(Classification(5), [0.2, 0.4, 0.6, 0.8], [1.0, 2.0, 3.0, 4.0]).metrics("val")
    assert metrics == pytest.approx({"val/accuracy": 0.5, "val/ci95": 0.4108521, "val/loss": 2.5}, abs=1e-7)
    assert EpisodeResults(Classification(5), [0.6], [1.5]).metrics("test") == {"test/accuracy": 0.6, "test/loss": 1.5}


def test_results_are_named_after_what_is_measured() -> None:
    metrics = EpisodeResults(Regression(1), [0.5, 1.5], [0.5, 1.5]).metrics("val")
    assert metrics == pytest.approx({"val/mse": 1.0, "val/ci95": 6.3531024, "val/loss": 1.0})


def predicted_episode(numbers: list[int], queries: int) -> tuple[Episode, Predictions]:
    """Episodes of 3 classes whose queries, labels and predictions are functions of their numbers."""
    y = torch.tensor([[(number + query) % 3 for query in range(queries)] for number in numbers])
    answers = torch.tensor(
        [[[(number * query + way) % 5 for way in range(3)] for query in range(queries)] for number in numbers]
    )
    classes = torch.tensor([[10 * number, 10 * number + 1, 10 * number + 2] for number in numbers])
    nothing = Examples(torch.zeros(len(numbers), 0), torch.zeros(len(numbers), 0))
    predictions = Classification(3).predictions(answers.float(), y)
    return Episode(nothing, Examples(torch.zeros(len(numbers), queries), y), torch.tensor(numbers), classes), predictions


def test_every_query_counts_once_with_the_classes_of_the_split_and_its_confidence() -> None:
    queries = QueryAnswers()
    for numbers, count in (([4, 2], 3), ([7], 5), ([2], 3)):  # the last one was answered twice, as devices do
        queries.update(*predicted_episode(numbers, count))
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
    after_steps = torch.tensor([[[4.0, 20.0], [8.0, 20.0]], [[2.0, 20.0], [10.0, 20.0]]])
    given = torch.zeros(2, ANSWERED, 5), torch.tensor([1.0, 2.0]), torch.tensor([[8.0, 20.0], [10.0, 20.0]])
    scores.update(torch.tensor([5, 3]), *given, after_steps)
    found = scores.compute()
    assert found.numbers.tolist() == [3, 5]
    assert Classification(5).score_of(found.statistics).tolist() == [[0.5, 0.1, 0.5], [0.4, 0.2, 0.4]]


def test_answers_that_are_not_finite_make_no_score_whatever_class_they_were_counted_for() -> None:
    results = EpisodeResults(Classification(5), [0.2, 0.2], [1.0, 2.0], [0, 1], {}, [0, 3], 8)
    assert math.isnan(results.score)
    assert results.ci95 is None
    assert math.isnan(results.loss)
    assert results.first_non_finite() == "the answers to 3 of 8 queries, in 1 of 2 episodes, are not finite"
    assert EpisodeResults(Classification(5), [0.2, 0.2], [1.0, 2.0], [0, 1], {}, [0, 0], 8).first_non_finite() is None


@pytest.mark.parametrize("devices", [[[0, 1], [2, 0]], [[2], [1], [0]]])
def test_steps_in_a_world_that_two_devices_played_count_once(devices: list[list[int]]) -> None:
    taken = {0: 10, 1: 200, 2: 3000}
    merged = EnvironmentSteps()
    for numbers in devices:
        one = EnvironmentSteps()
        one.update(torch.tensor(numbers), torch.tensor([taken[number] for number in numbers]))
        merged.merge_state(one)
    assert merged.compute() == 3210
