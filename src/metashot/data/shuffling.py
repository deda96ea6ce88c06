"""Batches of shuffled images, for learners that are trained to classify all classes of a split."""

import numpy as np
from numpy.typing import NDArray

from metashot.episodes import EpisodeIndices
from metashot.randomness import key_of, random_words

_ROUND = 32  # the random stream of an epoch, besides those of episodes and augmentation


class ShuffledSampler:
    """Turns batch numbers into indices; a batch is a pure function of (seed, split, number).

    Batches are consecutive slices of an endless sequence of epochs, each of which has all images in an order of its own. A
    batch is an episode of all classes without a support set.

    Args:
        items_per_class: the number of items of each class.
        size: the batch size.
        seed: the seed.
        split: the name of the split.
    """

    def __init__(self, items_per_class: NDArray[np.int64], size: int, seed: int, split: str) -> None:
        self.labels = np.repeat(np.arange(len(items_per_class)), items_per_class)
        self.size = size
        self.key = key_of(seed, split)
        self._orders: dict[int, NDArray[np.int64]] = {}  # of the epochs that the last batches came from

    def groups(self, numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """All batches have the same shape, so there is one group."""
        return [numbers]

    def __call__(self, numbers: NDArray[np.int64]) -> EpisodeIndices:
        place = numbers[:, None] * self.size + np.arange(self.size)  # in the endless sequence: [T, size]
        rounds, place = np.divmod(place, len(self.labels))
        self._orders = {int(each): self._order(int(each)) for each in np.unique(rounds)}
        images = np.empty_like(place)
        for each, order in self._orders.items():
            images[rounds == each] = order[place[rounds == each]]
        none = np.empty((len(numbers), 0), dtype=np.int64)
        classes = np.broadcast_to(np.arange(self.labels[-1] + 1), (len(numbers), self.labels[-1] + 1))
        return EpisodeIndices(none, none, images, self.labels[images], numbers, classes.copy())

    def _order(self, number: int) -> NDArray[np.int64]:
        """The order of the images in one epoch."""
        if number in self._orders:
            return self._orders[number]
        words = random_words(self.key, np.array([number]), _ROUND, len(self.labels))[0]
        return np.argsort(words, kind="stable")
