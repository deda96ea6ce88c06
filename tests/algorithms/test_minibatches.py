"""Mini-batches of support sets: what each inner step sees depends on the episode's number alone."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.gradient.minibatches import minibatches
from metashot.backbones.mlp import MLP
from metashot.episodes import Examples
from tests.algorithms.gradient_learners import ENGINES, assert_same, learner, random_episode, trained_plainly


def drawn(numbers: list[int], examples: int, size: int, steps: int) -> NDArray[np.int64]:
    return minibatches(np.array(numbers), examples, size, steps).numpy()


@pytest.mark.parametrize(
    ("examples", "size", "steps"), [(10, 2, 5), (10, 3, 9), (7, 3, 1), (5, 4, 20), (6, 6, 3), (9, 1, 30)]
)
def test_every_example_is_seen_once_before_any_is_seen_again(examples: int, size: int, steps: int) -> None:
    for of_task in drawn([0, 1, 12345678901], examples, size, steps):
        assert of_task.shape == (steps, size)
        seen = of_task.reshape(-1)
        for first in range(0, len(seen), examples):
            order = seen[first : first + examples]
            assert len(set(order)) == len(order)
            assert set(order) <= set(range(examples))
            if len(order) == examples:
                assert set(order) == set(range(examples))


def test_batches_are_a_function_of_the_number_and_neither_of_the_others_nor_of_what_was_drawn_before() -> None:
    together = drawn([5, 9, 5, 2**40], 12, 5, 6)
    np.testing.assert_array_equal(together[0], together[2])
    for position, number in enumerate([5, 9, 5, 2**40]):
        np.testing.assert_array_equal(drawn([number], 12, 5, 6)[0], together[position])
    assert (together[0] != together[1]).any()
    assert (together[1] != together[3]).any()


def test_what_is_drawn_is_not_changed_by_what_is_done_to_it() -> None:
    before = drawn([3], 8, 3, 4).copy()
    minibatches(np.array([3]), 8, 3, 4).zero_()
    np.testing.assert_array_equal(drawn([3], 8, 3, 4), before)


def test_more_steps_begin_as_fewer_do() -> None:
    np.testing.assert_array_equal(drawn([4], 10, 3, 25)[:, :7], drawn([4], 10, 3, 7))


def test_orders_differ_from_one_to_the_next_and_are_even_over_many_episodes() -> None:
    both = drawn(list(range(2000)), 5, 5, 2)
    assert (both[:, 0] != both[:, 1]).any(axis=1).mean() > 0.95
    for step in (0, 1):
        counts = np.stack([np.bincount(both[:, step, place], minlength=5) for place in range(5)])
        assert np.abs(counts - 400).max() < 5 * np.sqrt(400 * 0.8)


def made_with(engine: str, **settings: Any) -> GradientLearner:
    torch.manual_seed(0)
    return learner("maml", MLP((1, 4, 4), [5], "transductive"), engine=ENGINES[engine], steps=4, **settings).train()


@pytest.mark.parametrize("engine", ENGINES)
def test_each_inner_step_is_taken_on_its_batch(engine: str) -> None:
    made, episode = made_with(engine, inner_batch=4), random_episode(3, (1, 4, 4), shots=3)
    numbers = torch.tensor([8, 1, 30])
    found = made.run_inner_loop(episode.support, episode.query.x, numbers).parameters
    for task, batches in enumerate(drawn(numbers.tolist(), 6, 4, 4)):
        steps = [(episode.support.x[task, batch], episode.support.y[task, batch]) for batch in batches]
        expected = trained_plainly(made.network, lambda parameters: torch.optim.SGD(parameters, 0.3), steps)
        assert_same({name: value[task].detach() for name, value in found.items()}, expected)


@pytest.mark.parametrize("size", [4, 100])
def test_a_support_set_that_is_no_larger_than_a_batch_is_seen_whole_in_every_step(size: int) -> None:
    episode = random_episode(2, (1, 4, 4))  # four examples
    answers = [
        made_with("learn2learn", inner_batch=batch)(episode.support, episode.query.x).detach() for batch in (size, None)
    ]
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=0)


def test_without_numbers_a_task_is_answered_the_same_wherever_it_stands() -> None:
    made, episode = made_with("learn2learn", inner_batch=3).eval(), random_episode(3, (1, 4, 4))
    together = made(episode.support, episode.query.x)
    alone = made(Examples(episode.support.x[2:], episode.support.y[2:]), episode.query.x[2:])
    torch.testing.assert_close(alone[0], together[2])
