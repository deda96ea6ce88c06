"""The Lightning data module: batches of episodes from image banks, the same ones on any number of devices."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from metashot.arguments import AtLeast, Count
from metashot.bad_input import BadInput
from metashot.data.bank import DataSource, ImageBank, build_bank
from metashot.episodes import Episode, EpisodeIndices, EpisodeSampler, EpisodeSpec, Examples, labels

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class SplitOptions:
    """What one split has for itself; whatever is null is as for all splits."""

    def __init__(
        self,
        ways: Annotated[int, AtLeast(2)] | None,
        shots: Count | None,
        queries: Count | None,
        episodes: Count | None = None,
    ) -> None:
        self.given = {"ways": ways, "shots": shots, "queries": queries}
        self.episodes = episodes

    def spec(self, of_all_splits: EpisodeSpec) -> EpisodeSpec:
        return replace(of_all_splits, **{name: value for name, value in self.given.items() if value is not None})


class EpisodicDataModule(pl.LightningDataModule):
    """Episodes of a data source. Training goes through the episode numbers 0, 1, 2, ... and never back."""

    def __init__(
        self,
        name: str,
        source: DataSource,
        banks: str,
        ways: Annotated[int, AtLeast(2)],
        shots: Count,
        queries: Count,
        train: SplitOptions,
        val: SplitOptions,
        test: SplitOptions,
        tasks_per_step: Count,
        tasks_per_evaluation_step: Count,
        seed: int,
    ) -> None:
        super().__init__()
        self.name: str = name
        self.source = source
        self.banks_root = Path(banks)
        of_all_splits = EpisodeSpec(ways, shots, queries)
        options: dict[Split, SplitOptions] = {"train": train, "val": val, "test": test}
        self.specs = {split: options[split].spec(of_all_splits) for split in SPLITS}
        self.episodes = {split: options[split].episodes for split in SPLITS}
        self.tasks_per_step = tasks_per_step
        self.tasks_per_evaluation_step = tasks_per_evaluation_step
        self.seed = seed
        self.evaluated_split: Split = "test"
        self.next_episode = 0  # of training, over all devices; it is what a resumed run continues from
        self.banks: dict[Split, ImageBank] = {}
        self.samplers: dict[Split, EpisodeSampler] = {}
        self._placed: dict[tuple[Split, torch.device], ImageBank] = {}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.source.image_shape

    def described(self) -> str:
        """The shape of each split's episodes, in a line."""
        specs = self.specs.items()
        return ", ".join(f"{split} {s.ways}-way {s.shots}-shot {s.queries} queries" for split, s in specs)

    def prepare_data(self) -> None:
        build_bank(self.source, self.banks_root)

    def setup(self, stage: str | None = None) -> None:
        if self.banks:
            return
        folder = build_bank(self.source, self.banks_root)
        for split in SPLITS:
            bank = ImageBank.open(folder, split)
            self.samplers[split] = EpisodeSampler(self.specs[split], bank.images_per_class, self.seed, split)
            self.banks[split] = bank

    def train_dataloader(self) -> "EpisodeNumbers":
        share = tasks_of_each_device(self.tasks_per_step, self._devices)

        def numbers() -> Iterator[NDArray[np.int64]]:
            first = self.next_episode + self._rank * share
            while True:
                yield np.arange(first, first + share)
                first += self.tasks_per_step

        return EpisodeNumbers(numbers)

    def val_dataloader(self) -> "EpisodeNumbers":
        return self._evaluation_loader("val")

    def test_dataloader(self) -> "EpisodeNumbers":
        return self._evaluation_loader(self.evaluated_split)

    def _evaluation_loader(self, split: Split) -> "EpisodeNumbers":
        episodes = self.episodes[split]
        assert episodes is not None
        each = math.ceil(episodes / self._devices)
        # Every device takes every n-th episode and as many as the others: the last ones may be answered twice.
        own = np.minimum(self._rank + self._devices * np.arange(each), episodes - 1)
        size = self.tasks_per_evaluation_step
        batches = [own[first : first + size] for first in range(0, each, size)]
        return EpisodeNumbers(lambda: iter(batches), len(batches))

    def transfer_batch_to_device(self, batch: NDArray[np.int64], device: torch.device, dataloader_idx: int) -> Episode:
        """Numbers become images here, where Lightning hands over each batch just before it is used."""
        assert self.trainer is not None
        if self.trainer.training:
            split: Split = "train"
            self.next_episode += self.tasks_per_step
        else:
            split = "val" if self.trainer.validating or self.trainer.sanity_checking else self.evaluated_split
        return self.episode(split, batch, device)

    def episode(self, split: Split, numbers: NDArray[np.int64], device: torch.device) -> Episode:
        """The episodes of a split with these numbers, on a device."""
        if (split, device) not in self._placed:
            bank = self.banks[split]
            self._placed[split, device] = bank.to(device) if bank.fits(device) else bank
        return gather(self._placed[split, device], self.samplers[split](numbers), device)

    def state_dict(self) -> dict[str, Any]:
        return {"next_episode": self.next_episode}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.next_episode = state_dict["next_episode"]

    @property
    def _devices(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0


class EpisodeNumbers:
    """What Lightning iterates over: the episode numbers of each batch. They become images when a batch is used."""

    def __init__(self, numbers: Callable[[], Iterator[NDArray[np.int64]]], length: int | None = None) -> None:
        self.numbers = numbers
        self.length = length

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return self.numbers()

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("training has no end of its own")
        return self.length


def gather(bank: ImageBank, indices: EpisodeIndices, device: torch.device) -> Episode:
    """One pass over the bank for all images of a batch of episodes."""
    tasks, ways, shots = indices.support.shape
    queries = indices.query.shape[-1]
    images = bank.gather(np.concatenate([indices.support.reshape(tasks, -1), indices.query.reshape(tasks, -1)], axis=1))
    support_x, query_x = torch.split(images.to(device), [ways * shots, ways * queries], dim=1)
    return Episode(
        support=Examples(support_x, labels(ways, shots).to(device).expand(tasks, -1)),
        query=Examples(query_x, labels(ways, queries).to(device).expand(tasks, -1)),
        number=torch.from_numpy(indices.number).to(device),
        classes=torch.from_numpy(indices.classes).to(device),
    )


def tasks_of_each_device(tasks_per_step: int, devices: int) -> int:
    """The global number of tasks a step is what is configured; devices share it, so that they change speed only."""
    if tasks_per_step % devices:
        raise BadInput(
            f"data.tasks_per_step={tasks_per_step} cannot be shared evenly by {devices} devices: "
            f"make it a multiple of {devices}, or change trainer.devices"
        )
    return tasks_per_step // devices
