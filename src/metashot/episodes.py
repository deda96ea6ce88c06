"""Episodes: their tensors, their shapes, and the sampler that turns an episode's number into image indices."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.randomness import distinct_numbers, key_of, random_words

# The random streams of an episode. Augmentation has its own.
_CLASSES, _IMAGES, _SHAPE, _SUPPORT_SHARES, _QUERY_SHARES, _STRANGERS = range(6)
LARGE = 2**14  # the most classes, and the most images of a class, that are all sorted to choose a few

Names = tuple[tuple[Hashable, ...], ...]  # what the labels of each task stand for: [T][ways]
Amount = int | tuple[int, int]  # a fixed number, or the smallest and the largest of a number drawn for each episode


@dataclass(frozen=True)
class Examples:
    """Inputs `x` [T, N, ...] and targets `y` [T, N, ...] of T tasks."""

    x: Tensor
    y: Tensor
    names: Names | None = field(default=None, kw_only=True)  # of a support set's classes; None where they have none


@dataclass(frozen=True)
class Episode:
    """A batch of T few-shot tasks: adapt to the support set, answer the queries."""

    support: Examples  # x [T, S, ...], y [T, S]
    query: Examples  # x [T, Q, ...], y [T, Q]
    number: Tensor  # [T]; seed, split and number determine an episode completely
    classes: Tensor  # [T, ways], the class in the split that each label stands for; [T, 0] in regression
    embedded: bool = False  # whether x are features instead of images
    strangers: Tensor | None = None  # inputs [T, U, ...] of other classes than the task's, which a learner should not know

    def __len__(self) -> int:
        return len(self.number)

    def parts(self, size: int) -> Iterator["Episode"]:
        """The same tasks, at most `size` at a time."""
        if size >= len(self):
            yield self
            return
        for first in range(0, len(self), size):
            tasks = slice(first, first + size)
            support, query = (
                Examples(some.x[tasks], some.y[tasks], names=None if some.names is None else some.names[tasks])
                for some in (self.support, self.query)
            )
            strangers = None if self.strangers is None else self.strangers[tasks]
            yield Episode(support, query, self.number[tasks], self.classes[tasks], self.embedded, strangers)


Batch = list[Episode]  # the episodes of a step, grouped into one `Episode` for each shape


@dataclass(frozen=True)
class EpisodeSpec:
    """The shape of an episode.

    With `unequal_support` a support set still has ways times shots examples, but the shares of the classes, of at least one
    example each, follow a symmetric Dirichlet distribution with this concentration: at 1 all shares are equally likely,
    larger values give more equal shares. `unequal_queries` is the same for queries, of which a class may have none.
    """

    ways: Amount  # classes
    shots: Amount  # support examples per class
    queries: Amount  # queries per class
    unequal_support: float | None = None
    unequal_queries: float | None = None

    def description(self) -> str:
        """The shape in a few words, such as `5-way 1-shot 15 queries`."""
        ways, shots, queries = map(format_amount, (self.ways, self.shots, self.queries))
        parts = [f"{ways}-way", f"{shots}-shot", f"{queries} queries"]
        parts += ["unequal support"] if self.unequal_support else []
        parts += ["unequal queries"] if self.unequal_queries else []
        return " ".join(parts)

    def shapes(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ways, shots and queries of each episode: [T, 3].

        Args:
            key: The key of the episodes' random numbers.
            numbers: The numbers [T] of the episodes.
        """
        amounts = (self.ways, self.shots, self.queries)
        low = np.array([amount[0] if isinstance(amount, tuple) else amount for amount in amounts], dtype=np.uint64)
        high = np.array([maximum(amount) for amount in amounts], dtype=np.uint64)
        words = random_words(key, numbers, _SHAPE, len(amounts))
        return (low + (words * (high - low + np.uint64(1)) >> np.uint64(32))).astype(np.int64)

    def groups(self, key: tuple[int, int], numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Group episode numbers by the shape of their episodes, in the order in which shapes first occur."""
        if not any(isinstance(amount, tuple) for amount in (self.ways, self.shots, self.queries)):
            return [numbers]
        _, first, group_of = np.unique(self.shapes(key, numbers), axis=0, return_index=True, return_inverse=True)
        return [numbers[group_of.reshape(-1) == group] for group in np.argsort(first)]


def format_amount(amount: Amount) -> str:
    """An amount as text, such as `5` or `5-20`."""
    return f"{amount[0]}-{amount[1]}" if isinstance(amount, tuple) else str(amount)


def maximum(amount: Amount) -> int:
    """The largest number that can be drawn."""
    return amount[1] if isinstance(amount, tuple) else amount


@dataclass(frozen=True)
class EpisodeIndices:
    """The positions of the images of T episodes of one shape in their bank, ordered by label."""

    support: NDArray[np.int64]  # [T, S]
    support_y: NDArray[np.int64]  # [T, S]
    query: NDArray[np.int64]  # [T, Q]
    query_y: NDArray[np.int64]  # [T, Q]
    number: NDArray[np.int64]  # [T]
    classes: NDArray[np.int64]  # [T, ways]


class EpisodeSampler:
    """Turns episode numbers into indices; an episode is a pure function of (seed, split, number).

    Classes and images are sorted by random words addressed by (episode, class) and (episode, label, image), and the first
    ones are chosen. Of more than `LARGE` classes, or more than `LARGE` images in the largest class, random numbers are drawn
    instead until enough are distinct, which costs the same from however many. Either way, the support set does not depend
    on the number of queries.

    Args:
        spec: The shape of episodes.
        images_per_class: The number of images [classes] of each class in the bank.
        seed: The seed.
        split: The name of the split.
        class_names: The names of the classes, for messages.

    Raises:
        BadInput: The split has too few classes, or a class too few images, for such episodes.
    """

    def __init__(
        self,
        spec: EpisodeSpec,
        images_per_class: NDArray[np.int64],
        seed: int,
        split: str,
        class_names: Sequence[str] = (),
    ) -> None:
        self.spec = spec
        self.images_per_class = images_per_class
        self.first_image = np.concatenate([[0], np.cumsum(images_per_class)[:-1]])  # of each class in its bank
        self.key = key_of(seed, split)
        self._check_spec(split, class_names)
        self.largest = int(images_per_class.max())
        self.many_classes, self.many_images = len(images_per_class) > LARGE, self.largest > LARGE

    @property
    def sampling(self) -> str:
        """How classes and images are chosen, in a word or two: it depends on the size of the split alone."""
        drawn = [name for name, many in (("classes", self.many_classes), ("images", self.many_images)) if many]
        return f"distinct {' and '.join(drawn)}" if drawn else "sorted"

    def groups(self, numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Group episode numbers by the shape of their episodes, in the order in which shapes first occur."""
        return self.spec.groups(self.key, numbers)

    def __call__(self, numbers: NDArray[np.int64]) -> EpisodeIndices:
        """The indices of the episodes with these numbers, which must have the same shape (see `groups`)."""
        ways, shots, queries = self._shapes(numbers[:1])[0].tolist()
        classes = self._classes(numbers, ways)  # [T, ways]; the position is the label
        sizes = self.images_per_class[classes]
        support_counts, query_counts = self._counts(numbers, sizes, shots, queries)  # [T, ways]
        images = self._images(numbers, sizes, int((support_counts + query_counts).max()))  # [T, ways, most]
        images += self.first_image[classes][..., None]
        support_y, place = _by_label(support_counts, ways * shots)
        query_y, query_place = _by_label(query_counts, ways * queries)
        query_place += np.take_along_axis(support_counts, query_y, axis=1)  # behind the support examples of the class
        tasks = np.arange(len(numbers))[:, None]
        support, query = images[tasks, support_y, place], images[tasks, query_y, query_place]
        return EpisodeIndices(support, support_y, query, query_y, numbers, classes)

    def strangers(self, numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """The positions of images of other classes than those of the episodes with these numbers.

        Args:
            numbers: Numbers of episodes of the same shape.
            count: The number of other classes, each with as many images as a class has queries.

        Returns:
            [T, count * queries]; the episodes themselves do not depend on `count`.
        """
        ways, _, queries = self._shapes(numbers[:1])[0].tolist()
        others = self._classes(numbers, ways + count)[:, ways:]  # [T, count]: more classes begin with the same ones
        images = self._images(numbers, self.images_per_class[others], queries, _STRANGERS)
        places: NDArray[np.int64] = images + self.first_image[others][..., None]
        return places.reshape(len(numbers), -1)

    def refuse_strangers(self, split: str, count: int) -> None:
        """Raise `BadInput` where episodes leave fewer than `count` other classes."""
        ways, available = maximum(self.spec.ways), len(self.images_per_class)
        if ways + count > available:
            raise BadInput(
                f"strangers={count} cannot be drawn: the {split} split has {available} classes, of which an episode takes "
                f"{ways}; allowed: at most {available - ways}, or fewer data.{split}.ways"
            )

    def _classes(self, numbers: NDArray[np.int64], ways: int) -> NDArray[np.int64]:
        total = len(self.images_per_class)
        if self.many_classes:
            return distinct_numbers(self.key, numbers, _CLASSES, np.full((len(numbers), 1), total), ways)[:, 0]
        words = random_words(self.key, numbers, _CLASSES, total)
        return _first_in_random_order(words, np.asarray(total), ways)

    def _images(
        self, numbers: NDArray[np.int64], sizes: NDArray[np.int64], most: int, stream: int = _IMAGES
    ) -> NDArray[np.int64]:
        """Positions in classes of these sizes [T, ways]: [T, ways, most]."""
        if self.many_images:
            return distinct_numbers(self.key, numbers, stream, sizes, most)
        words = random_words(self.key, numbers, stream, sizes.shape[1] * self.largest)
        return _first_in_random_order(words.reshape(*sizes.shape, self.largest), sizes, most)

    def _shapes(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ways, shots and queries of each episode: [T, 3]."""
        return self.spec.shapes(self.key, numbers)

    def _counts(
        self, numbers: NDArray[np.int64], sizes: NDArray[np.int64], shots: int, queries: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of support examples and of queries in each class of each episode, both [T, ways]."""
        support, query = np.full_like(sizes, shots), np.full_like(sizes, queries)
        spec, ways = self.spec, sizes.shape[1]
        if spec.unequal_support is not None:
            room = sizes - 1 - (queries if spec.unequal_queries is None else 0)
            words = random_words(self.key, numbers, _SUPPORT_SHARES, ways * (shots - 1))
            support = 1 + _unequal_counts(words, room, spec.unequal_support)
        if spec.unequal_queries is not None:
            words = random_words(self.key, numbers, _QUERY_SHARES, ways * queries)
            query = _unequal_counts(words, sizes - support, spec.unequal_queries)
        return support, query

    def _check_spec(self, split: str, class_names: Sequence[str]) -> None:
        spec, available = self.spec, len(self.images_per_class)
        ways, shots, queries = maximum(spec.ways), maximum(spec.shots), maximum(spec.queries)
        if ways > available:
            raise BadInput(
                f"{ways} ways were asked for, but the {split} split has {available} classes: "
                f"set data.{split}.ways (or data.ways, if data.{split}.ways is not set) to at most {available}"
            )
        smallest = int(self.images_per_class.min())
        if shots + queries > smallest:
            name = f" ({class_names[int(self.images_per_class.argmin())]})" if class_names else ""
            raise BadInput(
                f"{shots} shots and {queries} queries were asked for, but the smallest class of the {split} split{name} "
                f"has {smallest} examples: lower data.shots or data.queries (or data.{split}.*), together at most {smallest}"
            )


def _first_in_random_order(words: NDArray[np.uint64], size: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The positions of the `count` smallest words among the first `size` along the last axis, smallest first."""
    # Each position is packed into the low half of its word, so that a partial sort of plain integers yields positions.
    position = np.arange(words.shape[-1], dtype=np.uint64)
    ranked = np.where(position < size[..., None], (words << np.uint64(32)) | position, np.uint64(2**64 - 1))
    smallest = np.partition(ranked, count - 1, axis=-1)[..., :count]
    return (np.sort(smallest, axis=-1) & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _by_label(counts: NDArray[np.int64], total: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The label of each example and its position within the class, both [T, total], for counts [T, ways] of equal total."""
    ends = np.cumsum(counts, axis=1)
    position = np.arange(total)
    label = (position[None, :, None] >= ends[:, None, :]).sum(-1)  # [T, total]
    place = position - np.take_along_axis(ends - counts, label, axis=1)
    return label, place


def _unequal_counts(words: NDArray[np.uint64], room: NDArray[np.int64], concentration: float) -> NDArray[np.int64]:
    """Distribute N examples over classes by shares from a symmetric Dirichlet distribution.

    This is drawn as Polya's urn, which has the same distribution: the probability that an example goes to a class is
    proportional to the concentration plus the number of examples already there.

    Args:
        words: Random words [T, N], one for each example.
        room: The largest number of examples [T, classes] in each class.
        concentration: The concentration of the distribution.

    Returns:
        The number of examples [T, classes] in each class.
    """
    counts = np.zeros_like(room)
    rows = np.arange(len(room))
    for draw in words.T:
        weights = np.where(counts < room, concentration + counts, 0.0)
        edges = np.cumsum(weights, axis=1)
        point = (draw / 2.0**32 * edges[:, -1])[:, None]
        counts[rows, (point >= edges).sum(1)] += 1
    return counts
