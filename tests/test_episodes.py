"""An episode is a pure function of seed, split and number, and drawn fairly."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from metashot.bad_input import BadInput
from metashot.episodes import LARGE, EpisodeIndices, EpisodeSampler, EpisodeSpec
from tests.data.test_module import data_module

EQUAL = np.full(30, 20)
UNEQUAL = np.array([7, 20, 600, 7, 33, 20])
SPEC = EpisodeSpec(ways=5, shots=2, queries=4)

# Episodes 0, 1 and 123456789012 of (seed 7, "test") with 3 ways, 1 shot and 2 queries of classes of 7, 20, 600, 7, 33 and 20
# images. Stored once. A change here means that nobody can repeat a published number any more.
FROZEN: dict[int, dict[str, Any]] = {
    0: {
        "classes": [1, 0, 4],
        "support": [20, 4, 665],
        "query": [23, 12, 0, 1, 662, 648],
    },
    1: {
        "classes": [5, 2, 3],
        "support": [675, 486, 631],
        "query": [679, 683, 122, 330, 632, 633],
    },
    123456789012: {
        "classes": [0, 5, 1],
        "support": [5, 680, 26],
        "query": [6, 3, 677, 685, 16, 18],
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
    loaders = [iter(data_module(devices=devices, rank=rank, tasks_per_step=8).train_dataloader()) for rank in range(devices)]
    for _ in range(5):
        shares = [next(loader) for loader in loaders]
        assert {len(share) for share in shares} == {8 // devices}
        steps.append(np.concatenate(shares).tolist())
    assert steps == [list(range(first, first + 8)) for first in range(0, 40, 8)]


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
    for drawn, y in ((indices.support, indices.support_y), (indices.query, indices.query_y)):
        classes = np.take_along_axis(indices.classes, y, axis=1)
        position = drawn - first[classes]
        assert (position >= 0).all()
        assert (position < sizes[classes]).all()


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
    assert np.array_equal(few.query, many.query.reshape(50, 5, 18)[..., 0])
    assert np.array_equal(few.classes, many.classes)


def test_episodes_are_the_documented_shapes() -> None:
    indices = sampler()(np.arange(9))
    assert indices.support.shape == indices.support_y.shape == (9, 10)
    assert indices.query.shape == indices.query_y.shape == (9, 20)
    assert indices.classes.shape == (9, 5)
    assert indices.number.tolist() == list(range(9))
    arrays = (indices.support, indices.support_y, indices.query, indices.query_y, indices.classes)
    assert {array.dtype for array in arrays} == {np.dtype(np.int64)}


def test_labels_are_in_order() -> None:
    indices = sampler(EpisodeSpec(3, 2, 1))(np.arange(4))
    assert indices.support_y.tolist() == [[0, 0, 1, 1, 2, 2]] * 4
    assert indices.query_y.tolist() == [[0, 1, 2]] * 4


def test_too_many_ways_name_the_numbers_and_the_key() -> None:
    with pytest.raises(BadInput, match=r"7 ways .* val split has 6 classes.*set data\.val\.ways \(or data\.ways"):
        sampler(EpisodeSpec(7, 1, 1), UNEQUAL, split="val")


def test_too_many_images_name_the_numbers_and_the_keys() -> None:
    with pytest.raises(BadInput, match=r"3 shots and 5 queries .* has 7 examples.*data\.shots or data\.queries"):
        sampler(EpisodeSpec(5, 3, 5), UNEQUAL)


def test_as_many_as_there_are_is_enough() -> None:
    indices = sampler(EpisodeSpec(ways=3, shots=2, queries=5), np.array([7, 7, 7]))(np.arange(20))
    drawn = np.concatenate([indices.support, indices.query], axis=-1).reshape(20, -1)
    assert np.array_equal(np.sort(drawn), np.tile(np.arange(21), (20, 1)))


def test_too_many_images_name_the_smallest_class() -> None:
    with pytest.raises(BadInput, match=r"smallest class of the test split \(small one\) has 7 examples"):
        EpisodeSampler(EpisodeSpec(5, 3, 5), np.array([20] * 5 + [7]), 0, "test", [*"abcde", "small one"])


RANGES = EpisodeSpec(ways=(2, 6), shots=(1, 3), queries=(1, 4))
SHARES = EpisodeSpec(ways=5, shots=3, queries=4, unequal_support=1.0, unequal_queries=0.5)
BOTH = EpisodeSpec(ways=(2, 6), shots=(1, 3), queries=4, unequal_support=0.3, unequal_queries=2.0)
BEYOND = {"ranges": RANGES, "shares": SHARES, "both": BOTH}


def all_episodes(spec: EpisodeSpec, numbers: list[int], sizes: NDArray[np.int64]) -> dict[int, list[list[Any]]]:
    """By number, whatever groups they come in."""
    one = sampler(spec, sizes)
    found = {}
    for group in one.groups(np.array(numbers)):
        indices = one(group)
        names = ("support", "support_y", "query", "query_y", "classes")
        for place, number in enumerate(group.tolist()):
            found[number] = [getattr(indices, name)[place].tolist() for name in names]
    return found


@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("spec", BEYOND.values(), ids=BEYOND)
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_variable_and_unequal_episodes_do_not_depend_on_batch_or_order(
    batch: int, spec: EpisodeSpec, sizes: NDArray[np.int64]
) -> None:
    together = all_episodes(spec, list(range(48)), sizes)
    assert sorted(together) == list(range(48))
    apart: dict[int, list[list[Any]]] = {}
    for first in reversed(range(0, 48, batch)):
        apart |= all_episodes(spec, list(range(first, first + batch))[::-1], sizes)
    assert apart == together


@pytest.mark.parametrize("sizes", [EQUAL, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("spec", BEYOND.values(), ids=BEYOND)
def test_variable_and_unequal_episodes_are_whole(spec: EpisodeSpec, sizes: NDArray[np.int64]) -> None:
    first = np.cumsum(sizes) - sizes
    for support, support_y, query, query_y, classes in all_episodes(spec, list(range(200)), sizes).values():
        assert len(set(support + query)) == len(support + query)
        assert set(support_y) == set(range(len(classes)))
        assert set(query_y) <= set(support_y)
        for images, y in ((support, support_y), (query, query_y)):
            assert y == sorted(y)
            of_class = np.array(classes)[y]
            assert (np.array(images) >= first[of_class]).all()
            assert (np.array(images) < (first + sizes)[of_class]).all()


def test_each_shape_of_a_range_is_drawn_about_equally_often() -> None:
    one = sampler(RANGES, UNEQUAL)
    groups = one.groups(np.arange(6000))
    counts = {}
    for group in groups:
        indices = one(group[:1])
        ways = indices.classes.shape[1]
        counts[ways, indices.support.shape[1] // ways, indices.query.shape[1] // ways] = len(group)
    assert set(counts) == {(w, s, q) for w in range(2, 7) for s in range(1, 4) for q in range(1, 5)}
    assert chi_square_is_ordinary(np.array(list(counts.values())))


def test_a_range_of_one_number_draws_the_episodes_of_that_number() -> None:
    fixed, ranged = EpisodeSpec(5, 2, 4), EpisodeSpec((5, 5), (2, 2), (4, 4))
    assert all_episodes(ranged, list(range(20)), EQUAL) == all_episodes(fixed, list(range(20)), EQUAL)


@pytest.mark.parametrize("concentration", [0.2, 1.0, 5.0])
def test_unequal_shares_are_those_of_a_dirichlet_distribution(concentration: float) -> None:
    """The number of queries of a class is beta-binomial: its mean and its variance are known."""
    ways, queries = 5, 10
    spec = EpisodeSpec(ways, 1, queries, unequal_queries=concentration)
    indices = sampler(spec, np.full(30, 200))(np.arange(4000))
    counts = (indices.query_y[..., None] == np.arange(ways)).sum(1)  # [T, ways]
    total = ways * queries
    assert (counts.sum(1) == total).all()
    share, sum_of_all = 1 / ways, ways * concentration
    variance = total * share * (1 - share) * (total + sum_of_all) / (1 + sum_of_all)
    assert np.allclose(counts.mean(0), queries, atol=5 * np.sqrt(variance / 4000))
    assert np.allclose(counts.var(0), variance, rtol=0.15)


def test_unequal_support_has_every_class_and_the_same_total() -> None:
    indices = sampler(EpisodeSpec(5, 4, 2, unequal_support=0.5), EQUAL)(np.arange(500))
    counts = (indices.support_y[..., None] == np.arange(5)).sum(1)
    assert (counts.sum(1) == 20).all()
    assert counts.min() == 1
    assert counts.max() > 8
    assert (indices.query_y == np.repeat(np.arange(5), 2)).all()


def test_unequal_shares_take_no_more_than_a_class_has() -> None:
    sizes = np.array([6, 6, 6, 40, 6])
    indices = sampler(EpisodeSpec(5, 3, 3, unequal_support=0.1, unequal_queries=0.1), sizes)(np.arange(500))
    drawn = np.concatenate([indices.support_y, indices.query_y], axis=1)
    counts = (drawn[..., None] == np.arange(5)).sum(1)
    assert (counts <= sizes[indices.classes]).all()
    assert (counts == sizes[indices.classes]).any()


def test_unequal_queries_leave_the_support_set_as_it_was() -> None:
    equal = sampler(EpisodeSpec(5, 2, 4))(np.arange(50))
    unequal = sampler(EpisodeSpec(5, 2, 4, unequal_queries=0.5))(np.arange(50))
    assert np.array_equal(equal.support, unequal.support)
    assert not np.array_equal(equal.query_y, unequal.query_y)


MANY = {
    "classes": np.full(20_000, 20),
    "images": np.array([20, 20_000, 300, 20, 20]),
    "classes and images": np.append(np.full(20_000, 20), 30_000),
}
# Episodes 0 and 123456789012 of (seed 7, "test"), as above: 3 ways, 1 shot, 2 queries.
FROZEN_OF_MANY: dict[str, dict[int, dict[str, Any]]] = {
    "classes": {
        0: {
            "classes": [5134, 15890, 10014],
            "support": [102693, 317816, 200298],
            "query": [102696, 102685, 317806, 317813, 200292, 200281],
        },
        123456789012: {
            "classes": [7338, 1108, 7904],
            "support": [146771, 22166, 158094],
            "query": [146777, 146765, 22160, 22175, 158093, 158082],
        },
    },
    "images": {
        0: {
            "classes": [1, 0, 4],
            "support": [6527, 11, 20358],
            "query": [17956, 4068, 1, 16, 20341, 20352],
        },
        123456789012: {
            "classes": [0, 1, 3],
            "support": [15, 6651, 20325],
            "query": [9, 3, 2890, 18542, 20324, 20335],
        },
    },
    "classes and images": {
        0: {
            "classes": [10931, 6551, 1929],
            "support": [218627, 131031, 38598],
            "query": [218636, 218628, 131021, 131036, 38581, 38592],
        },
        123456789012: {
            "classes": [3274, 16437, 13796],
            "support": [65495, 328751, 275925],
            "query": [65489, 65483, 328750, 328742, 275924, 275935],
        },
    },
}


@pytest.mark.parametrize("name", MANY)
def test_of_many_as_of_few_nothing_is_drawn_twice(name: str) -> None:
    sizes = MANY[name]
    spec = EpisodeSpec(ways=3, shots=5, queries=15)
    made = sampler(spec=spec, sizes=sizes)
    assert made.sampling == f"distinct {name}"
    indices = made(np.arange(200))
    first = np.concatenate([[0], np.cumsum(sizes)])
    assert all(len(set(row)) == 3 for row in indices.classes.tolist())
    for images, labels in ((indices.support, indices.support_y), (indices.query, indices.query_y)):
        classes = np.take_along_axis(indices.classes, labels, axis=1)
        assert (images >= first[classes]).all()
        assert (images < first[classes + 1]).all()
    for one, other in zip(indices.support, indices.query, strict=True):
        assert len({*one.tolist(), *other.tolist()}) == 60


@pytest.mark.parametrize("name", MANY)
def test_an_episode_of_many_depends_on_its_number_alone_and_its_support_on_no_query(name: str) -> None:
    given: dict[str, Any] = {"sizes": MANY[name], "seed": 7}
    together = episodes([3, 2**40, 8], **given)
    assert [episodes([number], **given)[0] for number in (3, 2**40, 8)] == together
    more = sampler(spec=EpisodeSpec(ways=5, shots=2, queries=18), **given)(np.array([3, 2**40, 8]))
    assert more.support.tolist() == [support for support, *_ in together]
    assert episodes([3], sizes=MANY[name], seed=8) != together[:1]


def test_classes_and_images_of_many_are_drawn_fairly() -> None:
    classes = np.concatenate([sampler(sizes=MANY["classes"])(np.arange(4000) + 4000 * part).classes for part in range(10)])
    assert chi_square_is_ordinary(np.bincount(classes.ravel() // 250, minlength=80))  # 200,000 draws, 250 classes together
    spec = EpisodeSpec(ways=3, shots=1, queries=19)
    made = sampler(spec=spec, sizes=MANY["images"][:3])(np.arange(2000))
    places = np.concatenate([made.support, made.query], axis=1)
    of_large = places[(places >= 20) & (places < 20_020)] - 20
    assert len(of_large) == 2000 * 20
    assert chi_square_is_ordinary(np.bincount(of_large // 250, minlength=80))
    of_small = np.sort(places[places < 20].reshape(2000, 20), axis=1)
    assert (of_small == np.arange(20)).all()  # a class that is used up gives each image once


def test_the_size_alone_decides_how_a_split_is_drawn() -> None:
    few = np.full(LARGE, 20)
    assert sampler(sizes=few).sampling == "sorted"
    assert sampler(sizes=np.append(few, 20)).sampling == "distinct classes"
    assert sampler(sizes=np.array([LARGE, 20, 20, 20, 20])).sampling == "sorted"
    assert sampler(sizes=np.array([LARGE + 1, 20, 20, 20, 20])).sampling == "distinct images"


@pytest.mark.parametrize("name", MANY)
def test_episodes_of_many_are_frozen(name: str) -> None:
    made = sampler(spec=EpisodeSpec(ways=3, shots=1, queries=2), sizes=MANY[name], seed=7)
    for number, expected in FROZEN_OF_MANY[name].items():
        indices = made(np.array([number]))
        found = {"classes": indices.classes, "support": indices.support, "query": indices.query}
        assert {key: value[0].tolist() for key, value in found.items()} == expected
