"""Mini-batches of support sets: which examples each inner step sees."""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.randomness import key_of, random_words


def minibatches(numbers: NDArray[np.int64], examples: int, size: int, steps: int) -> Tensor:
    """For each episode number and step the positions of `size` examples: [T, steps, size].

    A task goes through all its examples in an order of its own before it sees one of them again in the next order, and
    these orders depend on the episode's number alone.
    """
    return torch.from_numpy(np.stack([_positions(int(number), examples, size, steps) for number in numbers]))


@functools.lru_cache(maxsize=256)
def _positions(number: int, examples: int, size: int, steps: int) -> NDArray[np.int64]:
    orders = -(-steps * size // examples)
    words = random_words(key_of("minibatches"), np.array([number]), 0, orders * examples)
    order = words.reshape(orders, examples).argsort(axis=1, kind="stable")
    return order.reshape(-1)[: steps * size].reshape(steps, size).astype(np.int64)
