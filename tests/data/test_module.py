"""The data module: what a batch is, and that devices and resumed runs see the same episodes."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from metashot.bad_input import BadInput
from metashot.data.module import SPLITS, EpisodicDataModule, Split, SplitOptions, tasks_of_each_device
from metashot.episodes import Episode, EpisodeSpec
from tests.data.small_source import SHAPE, SmallSource

CPU = torch.device("cpu")
AS_FOR_ALL = SplitOptions(None, None, None)


def data_module(
    root: Path | str = "",
    devices: int = 1,
    rank: int = 0,
    val: SplitOptions | None = None,
    episodes: int = 10,
    tasks_per_step: int = 6,
) -> EpisodicDataModule:
    """Four ways, two shots and three queries, on one of several devices."""
    test = SplitOptions(None, None, None, episodes)
    data = EpisodicDataModule(
        "small", SmallSource(), str(root), 4, 2, 3, AS_FOR_ALL, val or test, test, tasks_per_step, 4, seed=3
    )
    stage = SimpleNamespace(training=True, validating=False, sanity_checking=False)
    data.trainer = SimpleNamespace(world_size=devices, global_rank=rank, **vars(stage))  # type: ignore[assignment]
    return data


@pytest.fixture
def data(small_root: Path) -> EpisodicDataModule:
    module = data_module(small_root)
    module.setup()
    return module


def pixels(images: torch.Tensor) -> np.ndarray:
    """Split, class and number of each image, as the small data set writes them: [..., 3]."""
    return (images.flatten(-3)[..., :3] * 255).round().long().numpy()


def batch(data: EpisodicDataModule, stage: str, numbers: list[int]) -> Episode:
    """What Lightning hands to an algorithm for these numbers, in `training`, `validating` or `testing`."""
    assert data.trainer is not None
    vars(data.trainer).update(training=stage == "training", validating=stage == "validating")
    return data.transfer_batch_to_device(np.array(numbers), CPU, 0)


def test_a_batch_has_the_documented_shapes_and_types(data: EpisodicDataModule) -> None:
    episode = data.episode("train", np.array([4, 0, 9]), CPU)
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


@pytest.mark.parametrize("split", SPLITS)
def test_the_images_of_a_label_are_those_of_its_class_and_all_different(data: EpisodicDataModule, split: Split) -> None:
    episode = data.episode(split, np.arange(20), CPU)
    for examples in (episode.support, episode.query):
        found = pixels(examples.x)
        assert (found[..., 0] == SPLITS.index(split)).all()
        assert np.array_equal(found[..., 1], episode.classes.gather(1, examples.y).numpy())
    together = np.concatenate([pixels(episode.support.x), pixels(episode.query.x)], axis=1)
    assert all(len({tuple(image) for image in task}) == 20 for task in together.tolist())


@pytest.mark.parametrize("split", SPLITS)
def test_images_are_those_at_the_samplers_indices(data: EpisodicDataModule, split: Split) -> None:
    numbers = np.array([11, 2])
    episode, indices = data.episode(split, numbers, CPU), data.samplers[split](numbers)
    bank = data.banks[split].images
    assert torch.equal(episode.support.x, bank[torch.from_numpy(indices.support.reshape(2, -1))].float() / 255)
    assert torch.equal(episode.query.x, bank[torch.from_numpy(indices.query.reshape(2, -1))].float() / 255)
    assert episode.classes.tolist() == indices.classes.tolist()


def test_each_stage_sees_its_own_split(data: EpisodicDataModule) -> None:
    def split_of(stage: str) -> str:
        return SPLITS[pixels(batch(data, stage, [0]).query.x)[0, 0, 0]]

    assert [split_of(stage) for stage in ("training", "validating", "testing")] == ["train", "val", "test"]
    data.evaluated_split = "val"
    assert split_of("testing") == "val"


def test_splits_draw_different_classes_for_the_same_number(data: EpisodicDataModule) -> None:
    drawn = [data.samplers[split](np.arange(50)).classes for split in SPLITS]
    assert not np.array_equal(drawn[1], drawn[2])


def test_options_of_val_change_only_val() -> None:
    data = data_module(val=SplitOptions(ways=5, shots=None, queries=1, episodes=7))
    others = EpisodeSpec(ways=4, shots=2, queries=3)
    assert data.specs == {"train": others, "val": EpisodeSpec(ways=5, shots=2, queries=1), "test": others}
    assert data.episodes == {"train": None, "val": 7, "test": 10}


def test_training_goes_on_behind_the_last_episode_that_was_used(data: EpisodicDataModule) -> None:
    loader = iter(data.train_dataloader())
    first, second, _ahead = next(loader), next(loader), next(loader)
    for numbers in (first, second):
        batch(data, "training", numbers.tolist())
    batch(data, "validating", [0, 1, 2, 3])
    batch(data, "testing", [0])
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
