"""Episodes: what they are made of, and how an episode's number becomes indices of images."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.randomness import key_of, random_words

_CLASSES, _IMAGES = 0, 1  # the random streams of an episode


@dataclass(frozen=True)
class Examples:
    """Inputs `x` [T, N, ...] and targets `y` [T, N, ...] of T tasks."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Episode:
    """A batch of T few-shot tasks: learn from the support set, answer the queries."""

    support: Examples  # x [T, S, ...], y [T, S]
    query: Examples  # x [T, Q, ...], y [T, Q]
    number: Tensor  # [T]: with the seed and the split, all there is to an episode
    classes: Tensor  # [T, ways]: the class of the split behind each label

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class EpisodeSpec:
    """The shape of an episode: classes, support examples a class, query examples a class."""

    ways: int
    shots: int
    queries: int


@dataclass(frozen=True)
class EpisodeIndices:
    """Where the images of T episodes stand in their bank, ordered by label."""

    support: NDArray[np.int64]  # [T, ways, shots]
    query: NDArray[np.int64]  # [T, ways, queries]
    number: NDArray[np.int64]  # [T]
    classes: NDArray[np.int64]  # [T, ways]


class EpisodeSampler:
    """Turns episode numbers into indices; an episode is a pure function of (seed, split, number).

    Classes and images are ordered by random words that belong to (episode, class) and (episode, label, image), and the
    first ones are taken. More queries therefore keep the support set as it was.
    """

    def __init__(self, spec: EpisodeSpec, images_per_class: NDArray[np.int64], seed: int, split: str) -> None:
        self.spec = spec
        self.images_per_class = images_per_class
        self.first_image = np.concatenate([[0], np.cumsum(images_per_class)[:-1]])  # of each class in its bank
        self.key = key_of(seed, split)
        self._refuse_what_cannot_be_drawn(split)

    def __call__(self, numbers: NDArray[np.int64]) -> EpisodeIndices:
        """The indices of the episodes with these numbers."""
        spec = self.spec
        words = random_words(self.key, numbers, _CLASSES, len(self.images_per_class))
        everywhere = np.asarray(len(self.images_per_class))
        classes = _first_in_random_order(words, everywhere, spec.ways)  # [T, ways]; the position is the label
        largest = int(self.images_per_class.max())
        words = random_words(self.key, numbers, _IMAGES, spec.ways * largest).reshape(*classes.shape, largest)
        images = _first_in_random_order(words, self.images_per_class[classes], spec.shots + spec.queries)
        images += self.first_image[classes][..., None]
        return EpisodeIndices(images[..., : spec.shots], images[..., spec.shots :], numbers, classes)

    def _refuse_what_cannot_be_drawn(self, split: str) -> None:
        spec, available = self.spec, len(self.images_per_class)
        if spec.ways > available:
            raise BadInput(
                f"{spec.ways} ways were asked for, but the {split} split has {available} classes: "
                f"lower data.ways or data.{split}.ways to at most {available}"
            )
        smallest = int(self.images_per_class.min())
        if spec.shots + spec.queries > smallest:
            raise BadInput(
                f"{spec.shots} shots and {spec.queries} queries were asked for, but the smallest class of the {split} split "
                f"has {smallest} images: lower data.shots or data.queries (or data.{split}.*), together at most {smallest}"
            )


def _first_in_random_order(words: NDArray[np.uint64], size: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The positions of the `count` smallest words among the first `size` of the last axis, smallest first."""
    # The position rides in the low half of each word, so that one partial sort of plain numbers is enough.
    position = np.arange(words.shape[-1], dtype=np.uint64)
    ranked = np.where(position < size[..., None], (words << np.uint64(32)) | position, np.uint64(2**64 - 1))
    smallest = np.partition(ranked, count - 1, axis=-1)[..., :count]
    return (np.sort(smallest, axis=-1) & np.uint64(0xFFFFFFFF)).astype(np.int64)


def labels(ways: int, examples: int) -> Tensor:
    """Targets in the order of `EpisodeIndices`: 0 0 0 1 1 1 2 2 2 ..."""
    return torch.arange(ways).repeat_interleave(examples)
