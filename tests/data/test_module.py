"""The data module: what a batch is, and that devices and resumed runs see the same episodes."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from metashot.bad_input import BadInput
from metashot.data.class_episodes import ClassEpisodes, SplitOptions, TrainingOptions
from metashot.data.feature_bank import FeatureBank
from metashot.data.module import in_double, tasks_of_each_device
from metashot.data.presentation.augmentation import Augmentation
from metashot.data.presentation.pixels import Pixels
from metashot.episodes import Episode, EpisodeSpec, Examples
from metashot.sources.splitting import SPLITS, Split
from tests.sources.small_source import SHAPE, SmallSource

CPU = torch.device("cpu")
EPISODES = TrainingOptions(batch=None, ways=None, shots=None, queries=None)
SHUFFLED = TrainingOptions(batch=5, ways=None, shots=None, queries=None)


def unchanged(**changed: Any) -> Augmentation:
    """No augmentation, but for what is given."""
    off: dict[str, Any] = {"crop_padding": 0, "flip": 0, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    return Augmentation(**off | {"quarter_turns": "none"} | changed)


PIXELS: dict[str, Any] = {"augmentation": unchanged(), "mean": None, "std": None}


def data_module(
    root: Path | str = ".",
    devices: int = 1,
    rank: int = 0,
    val: SplitOptions | None = None,
    episodes: int = 10,
    tasks_per_step: int = 6,
    **changed: Any,
) -> ClassEpisodes:
    """Four ways, two shots and three queries, on one of several devices."""
    test = SplitOptions(None, None, None, episodes=episodes)
    given: dict[str, Any] = {
        "name": "small",
        "source": SmallSource(),
        "root": str(root),
        "banks": str(root),
        "ways": 4,
        "shots": 2,
        "queries": 3,
        "unequal_support": None,
        "unequal_queries": None,
        "train": EPISODES,
        "val": val or test,
        "test": test,
        "tasks_per_step": tasks_per_step,
        "tasks_per_evaluation_step": 4,
        "seed": 3,
    }
    pixels = {key: changed.pop(key, default) for key, default in PIXELS.items()}
    data = ClassEpisodes(presentation=Pixels(**pixels), **given | changed)
    stage = SimpleNamespace(training=True, validating=False, sanity_checking=False, precision="32-true")
    data.trainer = SimpleNamespace(world_size=devices, global_rank=rank, **vars(stage))  # type: ignore[assignment]
    return data


@pytest.fixture
def data(small_root: Path) -> ClassEpisodes:
    module = data_module(small_root)
    module.setup()
    return module


def test_all_splits_with_too_few_classes_are_named_at_once_with_the_keys_that_ask_for_more(small_root: Path) -> None:
    data = data_module(small_root, val=SplitOptions(50, None, None, episodes=10), ways=80)
    data.open()
    found = {split: len(data.banks[split].classes) for split in SPLITS}
    with pytest.raises(BadInput) as refused:
        data.setup()
    assert str(refused.value) == (
        "tasks have more classes (ways) than there are: "
        f"data.ways=80 and the train split has {found['train']}, data.val.ways=50 and the val split has {found['val']}, "
        f"data.ways=80 and the test split has {found['test']}; give data.train.ways={found['train']} "
        f"data.val.ways={found['val']} data.test.ways={found['test']} or fewer, or more classes"
    )
    data = data_module(small_root, train=TrainingOptions(None, ways=80, shots=None, queries=None))
    data.open()
    data.refuse_undrawable(("val", "test"))
    with pytest.raises(
        BadInput, match=r"data\.train\.ways=80 and the train split has \d+; give data\.train\.ways=\d+ or fewer"
    ):
        data.refuse_undrawable(SPLITS)


def test_support_sets_carry_the_names_of_their_classes(data: ClassEpisodes, small_root: Path) -> None:
    """Whether they are images, features or parts of a batch; batches of shuffled images have no support set."""
    names, numbers = data.class_names("test"), np.arange(5)
    (episode,) = data.batch("test", numbers, CPU)
    found = episode.support.names
    assert found == tuple(tuple(names[place] for place in task) for task in episode.classes.tolist())
    assert episode.query.names is None
    assert in_double(episode).support.names == found
    assert [part.support.names for part in episode.parts(2)] == [found[:2], found[2:4], found[4:]]
    data.features["test"] = data.banks["test"]
    (embedded,) = data.batch("test", numbers, CPU)
    assert embedded.embedded
    assert embedded.support.names == found
    (training,) = data.training_batch(numbers, CPU)
    assert training.support.names is not None
    assert {name for task in training.support.names for name in task} <= set(data.class_names("train"))
    shuffled = data_module(small_root, train=SHUFFLED)
    shuffled.setup()
    assert all(batch.support.names is None for batch in shuffled.training_batch(numbers, CPU))


def pixels(images: torch.Tensor) -> np.ndarray:
    """Split, class and number of each image, as the small data set writes them: [..., 3]."""
    return (images.flatten(-3)[..., :3] * 255).round().long().numpy()


def one_batch(data: ClassEpisodes, stage: str, numbers: list[int]) -> Episode:
    """What Lightning hands to an algorithm for these numbers, in `training`, `validating` or `testing`."""
    assert data.trainer is not None
    vars(data.trainer).update(training=stage == "training", validating=stage == "validating")
    (episode,) = data.transfer_batch_to_device(np.array(numbers), CPU, 0)
    return episode


def test_a_batch_has_the_documented_shapes_and_types(data: ClassEpisodes) -> None:
    (episode,) = data.batch("train", np.array([4, 0, 9]), CPU)
    assert len(episode) == 3
    assert episode.support.x.shape == (3, 8, *SHAPE)
    assert episode.query.x.shape == (3, 12, *SHAPE)
    assert episode.support.x.dtype == episode.query.x.dtype == torch.float32
    assert 0 <= episode.query.x.min() < episode.query.x.max() <= 1
    assert episode.support.y.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]] * 3
    assert episode.query.y.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]] * 3
    assert episode.support.y.dtype == episode.query.y.dtype == torch.int64
    assert episode.number.tolist() == [4, 0, 9]
    assert episode.classes.shape == (3, 4)


def test_it_can_be_printed(data: ClassEpisodes) -> None:
    assert str(data).startswith("ClassEpisodes of small: train 4-way 2-shot 3 queries, val ")


@pytest.mark.parametrize("split", SPLITS)
def test_the_images_of_a_label_are_those_of_its_class_and_all_different(data: ClassEpisodes, split: Split) -> None:
    (episode,) = data.batch(split, np.arange(20), CPU)
    for examples in (episode.support, episode.query):
        found = pixels(examples.x)
        assert (found[..., 0] == SPLITS.index(split)).all()
        assert np.array_equal(found[..., 1], episode.classes.gather(1, examples.y).numpy())
    together = np.concatenate([pixels(episode.support.x), pixels(episode.query.x)], axis=1)
    assert all(len({tuple(image) for image in task}) == 20 for task in together.tolist())


@pytest.mark.parametrize("split", SPLITS)
def test_images_are_those_at_the_samplers_indices(data: ClassEpisodes, split: Split) -> None:
    numbers = np.array([11, 2])
    (episode,), indices = data.batch(split, numbers, CPU), data.samplers[split](numbers)
    bank = data.banks[split].items
    assert torch.equal(episode.support.x, torch.from_numpy(bank[indices.support] / np.float32(255)))
    assert torch.equal(episode.query.x, torch.from_numpy(bank[indices.query] / np.float32(255)))
    assert episode.classes.tolist() == indices.classes.tolist()


def test_each_stage_sees_its_own_split(data: ClassEpisodes) -> None:
    def split_of(stage: str) -> str:
        return SPLITS[pixels(one_batch(data, stage, [0]).query.x)[0, 0, 0]]

    assert [split_of(stage) for stage in ("training", "validating", "testing")] == ["train", "val", "test"]
    data.evaluated_split = "val"
    assert split_of("testing") == "val"


def test_splits_draw_different_classes_for_the_same_number(data: ClassEpisodes) -> None:
    drawn = [data.samplers[split](np.arange(50)).classes for split in SPLITS]
    assert not np.array_equal(drawn[1], drawn[2])


def test_only_training_and_validation_have_the_seed_of_the_run() -> None:
    assert data_module().seeds == {"train": 3, "val": 3, "test": 0}
    own = [SplitOptions(None, None, None, episodes=3, seed=seed) for seed in (8, 9)]
    assert data_module(val=own[0], test=own[1]).seeds == {"train": 3, "val": 8, "test": 9}
    training = TrainingOptions(batch=None, ways=None, shots=None, queries=None, seed=1)
    with pytest.raises(BadInput, match=r"data\.train\.seed=1"):
        data_module(train=training)


def test_options_of_val_change_only_val() -> None:
    data = data_module(val=SplitOptions(ways=5, shots=None, queries=1, episodes=7))
    others = EpisodeSpec(ways=4, shots=2, queries=3)
    assert data.specs == {"train": others, "val": EpisodeSpec(ways=5, shots=2, queries=1), "test": others}
    assert data.episodes == {"train": None, "val": 7, "test": 10}


def test_training_goes_on_behind_the_last_episode_that_was_used(data: ClassEpisodes) -> None:
    loader = iter(data.train_dataloader())
    first, second, _ahead = next(loader), next(loader), next(loader)
    for numbers in (first, second):
        one_batch(data, "training", numbers.tolist())
    one_batch(data, "validating", [0, 1, 2, 3])
    one_batch(data, "testing", [0])
    state = data.state_dict()
    resumed = data_module(data.banks_root)
    resumed.load_state_dict(state)
    again = iter(resumed.train_dataloader())
    assert np.concatenate([first, second, next(again), next(again)]).tolist() == list(range(24))


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_a_resumed_run_goes_on_the_same_on_any_number_of_devices(devices: int) -> None:
    loaders = []
    for rank in range(devices):
        module = data_module(devices=devices, rank=rank)
        module.load_state_dict({"next_episode": 12})
        loaders.append(iter(module.train_dataloader()))
    assert np.concatenate([next(loader) for loader in loaders]).tolist() == list(range(12, 18))
    assert np.concatenate([next(loader) for loader in loaders]).tolist() == list(range(18, 24))


@pytest.mark.parametrize("episodes", [1, 2, 10, 13])
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_evaluation_covers_every_number_and_keeps_devices_in_step(devices: int, episodes: int) -> None:
    batches = []
    for rank in range(devices):
        loader = data_module(devices=devices, rank=rank, episodes=episodes).val_dataloader()
        batches.append(list(loader))
        assert len(loader) == len(batches[-1])
    assert len({tuple(len(numbers) for numbers in of_device) for of_device in batches}) == 1
    assert max(len(numbers) for of_device in batches for numbers in of_device) <= 4
    answered = Counter(np.concatenate([numbers for of_device in batches for numbers in of_device]).tolist())
    assert sorted(answered) == list(range(episodes))
    assert answered.total() - episodes == -episodes % devices
    assert {number for number, times in answered.items() if times > 1} <= {episodes - 1}


def test_a_loader_can_be_iterated_again_and_training_has_no_length() -> None:
    data = data_module()
    loader = data.val_dataloader()
    assert [numbers.tolist() for numbers in loader] == [numbers.tolist() for numbers in loader]
    with pytest.raises(TypeError):
        len(data.train_dataloader())


def test_tasks_that_devices_cannot_share_evenly_are_refused_with_both_numbers() -> None:
    with pytest.raises(BadInput, match=r"data\.tasks_per_step=6 .* 4 devices.*trainer\.devices"):
        data_module(devices=4).train_dataloader()
    assert tasks_of_each_device(6, 3) == 2


def test_numbers_of_different_shapes_come_as_one_episode_for_each_shape(small_root: Path) -> None:
    data = data_module(small_root, ways=[2, 4], shots=[1, 2])
    data.setup()
    batch = data.batch("train", np.arange(24), CPU)
    assert 1 < len(batch) <= 6
    assert sorted(number for episode in batch for number in episode.number.tolist()) == list(range(24))
    shapes = [(episode.classes.shape[1], episode.support.x.shape[1]) for episode in batch]
    assert len(set(shapes)) == len(batch)
    for episode in batch:
        for place, number in enumerate(episode.number.tolist()):
            (alone,) = data.batch("train", np.array([number]), CPU)
            assert torch.equal(alone.support.x[0], episode.support.x[place])
            assert torch.equal(alone.query.x[0], episode.query.x[place])
            assert torch.equal(alone.query.y[0], episode.query.y[place])


@pytest.mark.parametrize("given", [[5], [5, 2], [2, 3, 4], []])
def test_a_range_that_is_none_is_refused_with_its_key(given: list[int]) -> None:
    with pytest.raises(BadInput, match=r"data\.ways=\[.* cannot be used; allowed: a number, or \[least, most\]"):
        data_module(ways=given)
    with pytest.raises(BadInput, match=r"data\.val\.ways=\["):
        data_module(val=SplitOptions(ways=given, shots=None, queries=None, episodes=3))


def test_shares_of_one_split_are_its_own() -> None:
    own = SplitOptions(None, None, None, unequal_support=0.5, episodes=3)
    data = data_module(val=own, unequal_queries=2.0)
    assert (data.specs["val"].unequal_support, data.specs["val"].unequal_queries) == (0.5, 2.0)
    assert (data.specs["train"].unequal_support, data.specs["train"].unequal_queries) == (None, 2.0)


def test_only_training_images_are_changed_and_only_by_their_episode(small_root: Path) -> None:
    plain, changing = data_module(small_root), data_module(small_root, augmentation=unchanged(brightness=1.0, flip=0.5))
    plain.setup()
    changing.setup()
    for split in SPLITS:
        (before,), (after,) = plain.batch(split, np.arange(6), CPU), changing.batch(split, np.arange(6), CPU)
        assert torch.equal(before.support.x, after.support.x)
        assert torch.equal(before.query.x, after.query.x)
    (together,) = changing.training_batch(np.arange(6), CPU)
    (before,) = plain.training_batch(np.arange(6), CPU)
    assert not torch.equal(before.support.x, together.support.x)
    assert not torch.equal(before.query.x, together.query.x)
    torch.manual_seed(99)
    (alone,) = changing.training_batch(np.array([4]), CPU)
    assert torch.equal(alone.support.x[0], together.support.x[4])
    assert torch.equal(alone.query.x[0], together.query.x[4])


def test_images_are_normalised_channel_by_channel_and_displayed_as_they_were(small_root: Path) -> None:
    plain, normalised = data_module(small_root), data_module(small_root, mean=[0.25, 0.5], std=[0.5, 2.0])
    plain.setup()
    normalised.setup()
    (before,), (after,) = plain.batch("test", np.arange(3), CPU), normalised.batch("test", np.arange(3), CPU)
    for channel, (mean, std) in enumerate([(0.25, 0.5), (0.5, 2.0)]):
        torch.testing.assert_close(after.query.x[:, :, channel], (before.query.x[:, :, channel] - mean) / std)
    seen = normalised.for_display(after)
    assert seen is not None
    torch.testing.assert_close(seen.support.x, before.support.x)
    same = plain.for_display(before)
    assert same is not None
    assert torch.equal(same.query.x, before.query.x)


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.5]), ([0.5, 0.5], [0.5]), ([0.5, 0.5], None)])
def test_constants_that_do_not_fit_the_channels_are_refused(mean: list[float], std: list[float] | None) -> None:
    with pytest.raises(BadInput, match=r"data\.presentation\.(mean|std)"):
        data_module(mean=mean, std=std)


class Shaped(SmallSource):
    """Images of another shape, never drawn."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    @property
    def item_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.shape
        return channels, height, width


def episode_of(images: torch.Tensor) -> Episode:
    examples = Examples(images, torch.zeros(images.shape[:2], dtype=torch.long))
    return Episode(examples, examples, torch.arange(len(images)), torch.zeros(len(images), 1))


def test_images_look_like_those_a_learner_was_trained_on() -> None:
    colour = data_module(source=Shaped(3, 8, 8), mean=[0.1, 0.2, 0.3], std=[1.0, 1.0, 1.0])
    grey = data_module(source=Shaped(1, 4, 4), mean=[0.5], std=[0.25])
    assert (
        colour.look_like(grey.origin())
        == "images of small are made grey and resized from 8x8 to 4x4, as the learner was trained on small"
    )
    constant = torch.tensor([1.0, 0.5, 0.25]).view(1, 1, 3, 1, 1).expand(2, 5, 3, 8, 8)
    shown = colour._presented(episode_of(constant)).support.x
    assert shown.shape == (2, 5, 1, 4, 4)
    grey_value = 0.299 + 0.587 * 0.5 + 0.114 * 0.25
    torch.testing.assert_close(shown, torch.full_like(shown, (grey_value - 0.5) / 0.25))

    colour = data_module(source=Shaped(3, 8, 8), mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 1.0])
    grey = data_module(source=Shaped(1, 4, 4))
    said = grey.look_like(colour.origin())
    assert said is not None
    assert "given three equal colour channels and resized from 4x4 to 8x8" in said
    shown = grey._presented(episode_of(torch.full((2, 5, 1, 4, 4), 0.6))).query.x
    assert shown.shape == (2, 5, 3, 8, 8)
    torch.testing.assert_close(shown[0, 0, :, 0, 0], torch.tensor([0.5, 0.2, 0.3]))
    assert data_module().look_like(data_module().origin()) is None


def test_whoever_has_larger_files_is_told_how_to_read_them_at_the_size_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = data_module(source=Shaped(1, 8, 8), mean=[0.5], std=[0.25])
    for source, expected in ((Shaped(1, 4, 4), True), (Shaped(1, 16, 16), False)):
        monkeypatch.setattr(source, "has_larger_files", True, raising=False)
        said = data_module(source=source, mean=[0.5], std=[0.25]).look_like(large.origin())
        assert said is not None
        assert said.endswith("; data.source.image_size=8 reads larger files at that size") == expected


def test_shuffled_images_are_changed_by_their_batch_alone_and_have_all_classes(small_root: Path) -> None:
    data = data_module(small_root, train=SHUFFLED, augmentation=unchanged(brightness=1.0, flip=0.5))
    data.setup()
    classes = len(data.banks["train"].classes)
    assert data.shuffled
    assert data.problem.outputs == classes == 70
    assert data.origin()["outputs"] == 70
    assert "train 6 x 5 shuffled images a step" in data.description()
    (together,) = data.training_batch(np.array([3, 8]), CPU)
    assert together.support.x.shape == (2, 0, *SHAPE)
    assert together.query.x.shape == (2, 5, *SHAPE)
    assert together.classes.shape == (2, 70)
    (alone,) = data.training_batch(np.array([8]), CPU)
    assert torch.equal(alone.query.x[0], together.query.x[1])
    plain = data_module(small_root, train=SHUFFLED)
    plain.setup()
    (unchanged_batch,) = plain.training_batch(np.array([3, 8]), CPU)
    assert not torch.equal(unchanged_batch.query.x, together.query.x)
    assert torch.equal(torch.from_numpy(pixels(unchanged_batch.query.x)[..., 1]), together.query.y)


def test_devices_and_resumed_runs_see_the_same_shuffled_images(small_root: Path) -> None:
    def drawn(devices: int, steps: int, first: int = 0) -> list[list[int]]:
        """The places of the images that all devices together see in each step."""
        rows: list[list[int]] = [[] for _ in range(steps)]
        for rank in range(devices):
            data = data_module(small_root, train=SHUFFLED, devices=devices, rank=rank)
            data.setup()
            data.load_state_dict({"next_episode": first})
            for row, numbers in zip(rows, data.train_dataloader(), strict=False):
                row += [tuple(image) for task in pixels(data.training_batch(numbers, CPU)[0].query.x) for image in task]
        return rows

    one, two, later = drawn(1, 4), drawn(2, 4), drawn(1, 2, first=12)
    assert [sorted(row) for row in one] == [sorted(row) for row in two]
    assert one[2:] == later


@pytest.mark.parametrize("own", [{"ways": 3}, {"queries": 2}, {"unequal_support": 1.0}])
def test_the_shape_of_episodes_is_refused_where_training_has_none(own: dict[str, Any]) -> None:
    (key,) = own
    with pytest.raises(BadInput, match=rf"data\.train\.{key}=.* has no effect.*data\.train\.batch=5"):
        TrainingOptions(batch=5, **{"ways": None, "shots": None, "queries": None} | own)


def test_training_classes_that_no_episode_fits_can_be_shuffled(small_root: Path) -> None:
    own = SplitOptions(ways=2, shots=1, queries=1, episodes=3)
    data = data_module(small_root, train=SHUFFLED, val=own, test=own, shots=1000)
    data.setup()
    assert len(data.training_batch(np.array([0]), CPU)) == 1
    with pytest.raises(BadInput, match="1000 shots"):
        data.batch("train", np.array([0]), CPU)


def test_images_of_episodes_are_each_named_once(data: ClassEpisodes) -> None:
    numbers = np.array([4, 0, 17])
    indices = data.samplers["test"](numbers)
    expected = sorted(set(indices.support.flat) | set(indices.query.flat))
    assert data.places_of("test", numbers).tolist() == expected
    assert data.places_of("test", np.empty(0, dtype=np.int64)).tolist() == []


def test_images_at_places_look_as_in_episodes(small_root: Path) -> None:
    data = data_module(small_root, mean=[0.25, 0.5], std=[0.5, 2.0])
    data.setup()
    (episode,) = data.batch("val", np.array([2]), CPU)
    places = data.sampler("val")(np.array([2])).query[0]
    assert torch.equal(data.inputs_at("val", places, CPU), episode.query.x[0])


def test_episodes_consist_of_features_where_these_are_known(data: ClassEpisodes) -> None:
    numbers = np.array([1, 5])
    (before,) = data.batch("test", numbers, CPU)
    places = data.places_of("test", numbers)
    data.features["test"] = FeatureBank(data.inputs_at("test", places, CPU).flatten(1), places)
    (embedded,) = data.batch("test", numbers, CPU)
    assert embedded.embedded
    assert not before.embedded
    assert torch.equal(embedded.support.x, before.support.x.flatten(2))
    assert torch.equal(embedded.query.x, before.query.x.flatten(2))
    assert torch.equal(embedded.query.y, before.query.y)
    data.features.clear()
    seen = data.for_display(embedded)
    assert seen is not None
    assert torch.equal(seen.query.x, before.query.x)
