"""The Lightning data modules: batches of episodes by their numbers, the same ones on any number of devices."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from metashot.arguments import Images
from metashot.bad_input import BadInput
from metashot.data.memory import refuse_too_many_episodes
from metashot.episodes import Amount, Batch, Episode, EpisodeSpec, Examples, maximum
from metashot.problems import Problem
from metashot.sources.splitting import SPLITS, Split

TEST_SEED = 0  # where a stored configuration has none

Counts = Images | list[Images]  # a number, or the least and the most of what each episode draws for itself


class ClassIdentity(NamedTuple):
    """By what a class is known again, under another name or in another data set."""

    name: str
    known_as: str  # the same in all data sets that name classes of the same images
    digest: str  # of its images


class EpisodicDataModule(pl.LightningDataModule):
    """Episodes by their numbers. Training goes through the numbers 0, 1, 2, ... and never back."""

    asks: ClassVar[type[Problem]]
    problem: Problem

    def __init__(
        self,
        name: str,
        specs: dict[Split, EpisodeSpec],
        episodes: dict[Split, int | None],
        tasks_per_step: int,
        tasks_per_evaluation_step: int,
        seed: int,
        own_seeds: Mapping[Split, int | None] | None = None,
    ) -> None:
        """`seed` is that of training, and of the splits that have none of their own."""
        super().__init__()
        self.name: str = name
        self.specs = specs
        self.episodes = episodes
        self.tasks_per_step = tasks_per_step
        self.tasks_per_evaluation_step = tasks_per_evaluation_step
        self.seeds: dict[Split, int] = dict.fromkeys(SPLITS, seed)  # of each split's episodes
        self.seeds |= {split: own for split, own in (own_seeds or {}).items() if own is not None}
        self.evaluated_split: Split = "test"
        self.next_episode = 0  # of training, over all devices; it is what a resumed run continues from

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Of one input of a network: channels, height and width of an image, or the length of a vector."""

    @property
    def shuffled(self) -> bool:
        """Whether training goes through shuffled inputs instead of episodes."""
        return False

    def setup(self, stage: str | None = None) -> None:
        """Open what lies on disk, and refuse episodes that cannot be drawn from it."""

    def refuse_more_than_memory(self, margin: int = 0) -> None:
        """Refuse steps whose inputs alone need more memory than there is. In training, a margin of so many pixels is put
        around an image."""
        for split in SPLITS:
            if split == "train":
                key, tasks, around = "data.tasks_per_step", self.tasks_per_step, 2 * margin
            else:
                key, around = "data.tasks_per_evaluation_step", 0
                tasks = min(self.tasks_per_evaluation_step, self.episodes[split] or 1)
            first, *sides = self.input_shape
            numbers = first * math.prod(side + around for side in sides)
            refuse_too_many_episodes(key, tasks, self._inputs_of_a_task(split), numbers)

    def _inputs_of_a_task(self, split: Split) -> int:
        spec = self.specs[split]
        return maximum(spec.ways) * (maximum(spec.shots) + maximum(spec.queries))

    @abstractmethod
    def batch(self, split: Split, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        """The episodes of a split with these numbers, on a device."""

    def training_batch(self, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        """What a step of training gets for these numbers."""
        return self.batch("train", numbers, device)

    def origin(self) -> dict[str, Any]:
        """What has to be known later of the data that a learner was trained on, as plain containers."""
        return {
            "name": self.name,
            "problem": type(self.problem).__name__,
            "outputs": self.problem.outputs,
            "input_shape": list(self.input_shape),
        }

    def present_for(self, wants: Mapping[str, Any] | None) -> str | None:
        """Present inputs as a backbone wants them, which was trained before; say what that changes.

        Args:
            wants: `input_shape`, `mean` and `std` of its inputs; None where it takes any.

        Raises:
            BadInput: if these inputs cannot be presented so.
        """
        if wants is not None:
            raise BadInput(f"the backbone was trained on other inputs than those of data={self.name}: choose another one")
        return None

    def for_display(self, episode: Episode) -> Episode | None:
        """The episode as people look at it; nothing where its inputs have no picture."""
        return episode

    def class_names(self, split: Split) -> Sequence[str]:
        """Of all classes of a split; regression has none."""
        return ()

    def class_identities(self, split: Split) -> Sequence[ClassIdentity]:
        """Of all classes of a split, in the order of their names; regression has none."""
        return ()

    def classes_of(self, split: Split, numbers: NDArray[np.int64]) -> dict[int, tuple[int, ...]]:
        """The classes of the split that the episodes with these numbers are about."""
        return dict.fromkeys(numbers.tolist(), ())

    def description(self) -> str:
        """The shape of each split's episodes, in a line."""
        return ", ".join(f"{split} {self.shape_of(split)}" for split in SPLITS)

    def shape_of(self, split: Split) -> str:
        return self.specs[split].description()

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
        own, size = self.evaluation_numbers(split), self.tasks_per_evaluation_step
        batches = [own[first : first + size] for first in range(0, len(own), size)]
        return EpisodeNumbers(lambda: iter(batches), len(batches))

    def evaluation_numbers(self, split: Split) -> NDArray[np.int64]:
        """Of the episodes of a split that this device answers."""
        episodes = self.episodes[split]
        assert episodes is not None
        each = math.ceil(episodes / self._devices)
        # Every device takes every n-th episode and as many as the others: the last ones may be answered twice.
        return np.minimum(self._rank + self._devices * np.arange(each), episodes - 1)

    def transfer_batch_to_device(self, batch: NDArray[np.int64], device: torch.device, dataloader_idx: int) -> Batch:
        """Numbers become episodes here, where Lightning hands over each batch just before it is used."""
        assert self.trainer is not None
        if self.trainer.training:
            episodes = self.training_batch(batch, device)
            self.next_episode += self.tasks_per_step
        else:
            split = "val" if self.trainer.validating or self.trainer.sanity_checking else self.evaluated_split
            episodes = self.batch(split, batch, device)
        # Lightning converts what a loader gives, which are numbers here, and knows no frozen data classes.
        return [in_double(episode) for episode in episodes] if self.trainer.precision == "64-true" else episodes

    def state_dict(self) -> dict[str, Any]:
        return {"next_episode": self.next_episode}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        number = state_dict["next_episode"]
        if type(number) is not int or not 0 <= number < 2**62:
            raise ValueError(f"next_episode is {number}")
        self.next_episode = number

    @property
    def _devices(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0


class EpisodeNumbers:
    """What Lightning iterates over: the episode numbers of each batch. They become episodes when a batch is used."""

    def __init__(self, numbers: Callable[[], Iterator[NDArray[np.int64]]], length: int | None = None) -> None:
        self.numbers = numbers
        self.length = length

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return self.numbers()

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("training has no end of its own")
        return self.length


def in_double(episode: Episode) -> Episode:
    """The episode in 64 bits, for a network that has its weights in as many; integers stay what they are."""
    support, query = (
        Examples(*(values.double() if values.is_floating_point() else values for values in (part.x, part.y)))
        for part in (episode.support, episode.query)
    )
    return replace(episode, support=support, query=query)


def own_seeds(train: int | None, val: int | None, test: int | None) -> dict[Split, int | None]:
    """The seeds that splits have for themselves."""
    if train is not None:
        raise BadInput(f"data.train.seed={train} cannot be used: training episodes are drawn by seed, which is the run's")
    # Every run is tested on the same episodes, those whose configuration was stored before `data.test.seed` too.
    return {"val": val, "test": TEST_SEED if test is None else test}


def amount(given: int | list[int], key: str) -> Amount:
    """A number, or the least and the most of one."""
    if isinstance(given, int):
        return given
    if len(given) != 2 or given[0] > given[1]:
        raise BadInput(f"{key}={given} cannot be used; allowed: a number, or [least, most] such as [5,20]")
    return given[0] if given[0] == given[1] else (given[0], given[1])


def tasks_of_each_device(tasks_per_step: int, devices: int) -> int:
    """The global number of tasks a step is what is configured; devices share it, so that they change speed only."""
    if tasks_per_step % devices:
        raise BadInput(
            f"data.tasks_per_step={tasks_per_step} cannot be shared evenly by {devices} devices: "
            f"make it a multiple of {devices}, or change trainer.devices or trainer.nodes"
        )
    return tasks_per_step // devices
