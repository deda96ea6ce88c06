"""Shuffled images: every round through them shows each of them once, and a batch depends on its number alone."""

import numpy as np
import pytest

from metashot.data.shuffling import ShuffledSampler

COUNTS = np.array([3, 1, 5, 2])  # images of each class, 11 in all
LABELS = [0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 3]


def sampler(size: int = 4, seed: int = 0, split: str = "train") -> ShuffledSampler:
    return ShuffledSampler(COUNTS, size, seed, split)


@pytest.mark.parametrize("size", [1, 4, 11, 30])
def test_each_round_shows_every_image_once(size: int) -> None:
    row = sampler(size)(np.arange(66 // size + 1)).query.reshape(-1)
    for first in range(0, 66 - 11 + 1, 11):
        assert sorted(row[first : first + 11].tolist()) == list(range(11))


def test_rounds_have_orders_of_their_own() -> None:
    rounds = sampler(11)(np.arange(6)).query.tolist()
    assert len({tuple(order) for order in rounds}) == 6
    assert list(range(11)) not in rounds


def test_labels_are_those_of_the_images_and_there_is_no_support_set() -> None:
    batch = sampler()(np.array([2, 7]))
    assert batch.query_y.tolist() == [[LABELS[image] for image in row] for row in batch.query.tolist()]
    assert batch.support.shape == batch.support_y.shape == (2, 0)
    assert batch.number.tolist() == [2, 7]
    assert batch.classes.tolist() == [[0, 1, 2, 3]] * 2


def test_a_batch_depends_on_its_number_alone() -> None:
    numbers = np.array([5, 0, 1_000_003, 6])
    together = sampler()(numbers)
    other = sampler()
    for place in (2, 0, 3, 1):
        alone = other(numbers[place : place + 1])
        assert alone.query[0].tolist() == together.query[place].tolist()
        assert alone.query_y[0].tolist() == together.query_y[place].tolist()


def test_seed_and_split_shuffle_differently() -> None:
    orders = {tuple(each(np.array([0])).query[0]) for each in (sampler(11), sampler(11, seed=1), sampler(11, split="val"))}
    assert len(orders) == 3


def test_images_come_in_an_order_that_has_nothing_to_do_with_their_classes() -> None:
    big = ShuffledSampler(np.full(50, 200), 10_000, 0, "train")
    labels = big(np.array([0])).query_y[0]
    first_half = np.bincount(labels[:5000], minlength=50)
    assert abs(first_half - 100).max() < 40  # a hypergeometric count with a standard deviation of 5
    assert abs(np.corrcoef(labels[:-1], labels[1:])[0, 1]) < 0.05
