"""Mini-batches of support sets: the examples of each inner step."""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.randomness import key_of, random_words


def minibatches(numbers: NDArray[np.int64], examples: int, size: int, steps: int) -> Tensor:
    """Choose the support examples of each inner step.

    A task runs through all its examples in random order before any of them is repeated in the next order. The orders depend
    on the episode's number alone.

    Args:
        numbers: The numbers [T] of the episodes.
        examples: The size S of a support set.
        size: The number of examples in a mini-batch.
        steps: The number of inner steps.

    Returns:
        Positions [T, steps, size] in the support sets.
    """
    return torch.from_numpy(np.stack([_positions(int(number), examples, size, steps) for number in numbers]))


@functools.lru_cache(maxsize=256)
def _positions(number: int, examples: int, size: int, steps: int) -> NDArray[np.int64]:
    orders = -(-steps * size // examples)
    words = random_words(key_of("minibatches"), np.array([number]), 0, orders * examples)
    order = words.reshape(orders, examples).argsort(axis=1, kind="stable")
    return order.reshape(-1)[: steps * size].reshape(steps, size).astype(np.int64)
