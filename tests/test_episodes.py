"""An episode is a pure function of seed, split and number, and drawn fairly."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from metashot.bad_input import BadInput
from metashot.data.module import EpisodicDataModule, SplitOptions
from metashot.episodes import EpisodeIndices, EpisodeSampler, EpisodeSpec, labels
from tests.data.small_source import SmallSource

EQUAL = np.full(30, 20)
UNEQUAL = np.array([7, 20, 600, 7, 33, 20])
SPEC = EpisodeSpec(ways=5, shots=2, queries=4)

# Episodes 0, 1 and 123456789012 of (seed 7, "test") with 3 ways, 1 shot and 2 queries of classes of 7, 20, 600, 7, 33 and 20
# images. Stored once. A change here means that nobody can repeat a published number any more.
FROZEN: dict[int, dict[str, Any]] = {
    0: {
        "classes": [1, 0, 4],
        "support": [[20], [4], [665]],
        "query": [[23, 12], [0, 1], [662, 648]],
    },
    1: {
        "classes": [5, 2, 3],
        "support": [[675], [486], [631]],
        "query": [[679, 683], [122, 330], [632, 633]],
    },
    123456789012: {
        "classes": [0, 5, 1],
        "support": [[5], [680], [26]],
        "query": [[6, 3], [677, 685], [16, 18]],
    },
}


def sampler(
    spec: EpisodeSpec = SPEC, sizes: NDArray[np.int64] = EQUAL, seed: int = 0, split: str = "test"
) -> EpisodeSampler:
    return EpisodeSampler(spec, sizes, seed, split)


def episode(indices: EpisodeIndices, place: int) -> list[list[Any]]:
    return [array[place].tolist() for array in (indices.support, indices.query, indices.number, indices.classes)]


def episodes(numbers: list[int], **named: Any) -> list[list[list[Any]]]:
    indices = sampler(**named)(np.array(numbers))
    return [episode(indices, place) for place in range(len(numbers))]


def chi_square_is_ordinary(counts: NDArray[np.int64]) -> bool:
    """Whether counts that should be equal are: five standard deviations above the statistic's mean at most."""
    expected = counts.mean()
    assert expected > 20
    freedom = counts.size - 1
    return bool(((counts - expected) ** 2 / expected).sum() < freedom + 5 * np.sqrt(2 * freedom))


@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("batch", [1, 3, 8, 24])
def test_episode_does_not_depend_on_batch_size(batch: int, sizes: NDArray[np.int64]) -> None:
    spec = EpisodeSpec(ways=5, shots=2, queries=5)
    together = episodes(list(range(24)), spec=spec, sizes=sizes)
    batches = [
        one for first in range(0, 24, batch) for one in episodes(list(range(first, first + batch)), spec=spec, sizes=sizes)
    ]
    assert batches == together


def test_episode_does_not_depend_on_the_order_in_which_numbers_are_asked_for() -> None:
    numbers = [3, 10**12, 0, 7, 3]
    in_order = {number: episodes([number])[0] for number in sorted(numbers)}
    assert episodes(numbers) == [in_order[number] for number in numbers]


def test_episode_does_not_depend_on_what_was_drawn_before() -> None:
    one = sampler()
    before = episode(one(np.array([4])), 0)
    one(np.arange(100))
    assert episode(one(np.array([4])), 0) == before


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_devices_share_the_episodes_of_a_step_without_changing_them(devices: int) -> None:
    steps = []
    loaders = [iter(data_module(devices, rank).train_dataloader()) for rank in range(devices)]
    for _ in range(5):
        shares = [next(loader) for loader in loaders]
        assert {len(share) for share in shares} == {8 // devices}
        steps.append(np.concatenate(shares).tolist())
    assert steps == [list(range(first, first + 8)) for first in range(0, 40, 8)]


def data_module(devices: int, rank: int) -> EpisodicDataModule:
    as_for_all = SplitOptions(None, None, None, episodes=1)
    data = EpisodicDataModule("small", SmallSource(), "", 5, 1, 3, as_for_all, as_for_all, as_for_all, 8, 4, 0)
    data.trainer = SimpleNamespace(world_size=devices, global_rank=rank)  # type: ignore[assignment]
    return data


def test_another_seed_split_or_number_is_another_episode() -> None:
    given = [
        episodes([5], seed=0, split="test")[0],
        episodes([5], seed=1, split="test")[0],
        episodes([5], seed=0, split="val")[0],
        episodes([6], seed=0, split="test")[0],
        episodes([5 + 2**32], seed=0, split="test")[0],
    ]
    assert all(a[0] != b[0] and a[3] != b[3] for a, b in pairwise(given))
    assert len({str(one[:2]) for one in given}) == len(given)


@pytest.mark.parametrize("number", FROZEN)
def test_episodes_are_those_that_everybody_else_gets(number: int) -> None:
    indices = sampler(EpisodeSpec(3, 1, 2), UNEQUAL, seed=7)(np.array([number]))
    drawn = {name: getattr(indices, name)[0].tolist() for name in ("classes", "support", "query")}
    assert drawn == FROZEN[number], "the sampler draws other episodes: this breaks everybody's reproducibility"


@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
def test_support_and_query_share_no_image(sizes: NDArray[np.int64]) -> None:
    indices = sampler(EpisodeSpec(5, 3, 4), sizes)(np.arange(300))
    drawn = np.concatenate([indices.support, indices.query], axis=-1).reshape(300, -1)
    assert drawn.shape == (300, 5 * 7)
    assert all(len(set(one)) == len(one) for one in drawn.tolist())


def test_classes_of_an_episode_are_distinct() -> None:
    indices = sampler(EpisodeSpec(6, 1, 1), UNEQUAL)(np.arange(300))
    assert all(sorted(classes) == list(range(6)) for classes in indices.classes.tolist())


@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL, np.array([600, 7])], ids=["equal", "unequal", "two"])
def test_every_image_is_one_of_its_class(sizes: NDArray[np.int64]) -> None:
    indices = sampler(EpisodeSpec(2, 3, 4), sizes)(np.arange(500))
    first = np.cumsum(sizes) - sizes
    for drawn in (indices.support, indices.query):
        position = drawn - first[indices.classes][..., None]
        assert (position >= 0).all()
        assert (position < sizes[indices.classes][..., None]).all()


def test_all_classes_are_drawn_about_equally_often() -> None:
    classes = sampler(EpisodeSpec(5, 1, 1))(np.arange(6000)).classes
    assert chi_square_is_ordinary(np.bincount(classes.ravel(), minlength=30))


@pytest.mark.parametrize("role", ["support", "query"])
def test_all_images_of_a_class_are_drawn_about_equally_often(role: str) -> None:
    sizes = np.array([7, 20, 60, 33])
    drawn = getattr(sampler(EpisodeSpec(4, 1, 2), sizes)(np.arange(6000)), role)
    counts = np.bincount(drawn.ravel(), minlength=sizes.sum())
    for of_one_class in np.split(counts, np.cumsum(sizes)[:-1]):
        assert chi_square_is_ordinary(of_one_class)


def test_every_class_has_every_label_about_equally_often() -> None:
    classes = sampler(EpisodeSpec(5, 1, 1))(np.arange(6000)).classes
    for label in range(5):
        assert chi_square_is_ordinary(np.bincount(classes[:, label], minlength=30))
    in_order = (np.diff(classes, axis=1) > 0).all(1).mean()
    assert in_order < 0.02  # one in 5! is ascending by chance


def test_more_queries_keep_the_support_set() -> None:
    few = sampler(EpisodeSpec(5, 2, 1))(np.arange(50))
    many = sampler(EpisodeSpec(5, 2, 18))(np.arange(50))
    assert np.array_equal(few.support, many.support)
    assert np.array_equal(few.query, many.query[..., :1])
    assert np.array_equal(few.classes, many.classes)


def test_episodes_are_the_documented_shapes() -> None:
    indices = sampler()(np.arange(9))
    assert indices.support.shape == (9, 5, 2)
    assert indices.query.shape == (9, 5, 4)
    assert indices.classes.shape == (9, 5)
    assert indices.number.tolist() == list(range(9))
    assert {a.dtype for a in (indices.support, indices.query, indices.classes)} == {np.dtype(np.int64)}


def test_labels_are_in_the_order_of_the_indices() -> None:
    assert labels(3, 2).tolist() == [0, 0, 1, 1, 2, 2]


def test_too_many_ways_name_the_numbers_and_the_key() -> None:
    with pytest.raises(BadInput, match=r"7 ways .* val split has 6 classes.*data\.ways or data\.val\.ways"):
        sampler(EpisodeSpec(7, 1, 1), UNEQUAL, split="val")


def test_too_many_images_name_the_numbers_and_the_keys() -> None:
    with pytest.raises(BadInput, match=r"3 shots and 5 queries .* has 7 images.*data\.shots or data\.queries"):
        sampler(EpisodeSpec(5, 3, 5), UNEQUAL)


def test_as_many_as_there_are_is_enough() -> None:
    indices = sampler(EpisodeSpec(ways=3, shots=2, queries=5), np.array([7, 7, 7]))(np.arange(20))
    drawn = np.concatenate([indices.support, indices.query], axis=-1).reshape(20, -1)
    assert np.array_equal(np.sort(drawn), np.tile(np.arange(21), (20, 1)))
