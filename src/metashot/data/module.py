"""The base class of the Lightning data modules: batches of numbered episodes, the same on any number of devices."""

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
from metashot.sources.source import FEATURES
from metashot.sources.splitting import SPLITS, Split
from metashot.worlds import Spaces, Worlds

TEST_SEED = 0  # if a stored configuration has none

Counts = Images | list[Images]  # a number, or [least, most], between which each episode draws its own


class ClassIdentity(NamedTuple):
    """Identifies a class across data sets, even under another name."""

    name: str
    known_as: str  # equal in all data sets that share this class
    digest: str  # of its items


class EpisodicDataModule(pl.LightningDataModule):
    """Provides numbered episodes; training uses the numbers 0, 1, 2, ..., each once.

    A subclass sets `asks` and `problem` and implements `input_shape` and `batch`.

    Args:
        name: the name of the data set, as in `data=NAME`.
        specs: the shape of each split's episodes.
        episodes: the number of episodes of each split; None for training.
        tasks_per_step: tasks in a training step, over all devices.
        tasks_per_evaluation_step: tasks evaluated at a time.
        seed: the seed of training and of the splits that have none of their own.
        own_seeds: the seeds of individual splits; None for a split without one.

    Attributes:
        asks: the type of problem that the episodes pose.
        problem: the problem itself, which knows the number of outputs.
    """

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
        super().__init__()
        self.name: str = name
        self.specs = specs
        self.episodes = episodes
        self.tasks_per_step = tasks_per_step
        self.tasks_per_evaluation_step = tasks_per_evaluation_step
        self.seeds: dict[Split, int] = dict.fromkeys(SPLITS, seed)  # of each split's episodes
        self.seeds |= {split: own for split, own in (own_seeds or {}).items() if own is not None}
        self.evaluated_split: Split = "test"
        self.strangers = 0  # other classes in each episode of an evaluation, whose items a learner should not know
        self.next_episode = 0  # the next training episode, over all devices; a resumed run continues from it

    def __str__(self) -> str:
        """The data set and the shapes of its episodes; Lightning's own description asks for data loaders of datasets."""
        shapes = ", ".join(f"{split} {spec.description()}" for split, spec in self.specs.items())
        return f"{type(self).__name__} of {self.name}: {shapes}"

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input: channels, height and width of an image, or the length of a vector."""

    @property
    def shuffled(self) -> bool:
        """Whether training uses batches of shuffled inputs instead of episodes."""
        return False

    def setup(self, stage: str | None = None) -> None:
        """Open the data and check that the configured episodes can be drawn.

        Args:
            stage: Lightning's stage, which is not used.

        Raises:
            BadInput: if the episodes cannot be drawn.
        """

    def open(self) -> None:
        """Open the data, if possible without checking whether the configured episodes can be drawn."""
        self.setup()

    def refuse_undrawable(self, splits: Sequence[Split]) -> None:
        """Raise `BadInput` where the configured episodes of these splits cannot be drawn from the opened data."""

    def refuse_more_than_memory(self, margin: int = 0) -> None:
        """Refuse steps whose inputs alone need more memory than there is.

        Args:
            margin: the pixels that augmentation adds to each side of a training image.

        Raises:
            BadInput: if the inputs of a step do not fit into memory.
        """
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
        """Create episodes, each a pure function of its split, its number and the seed.

        Args:
            split: the split of the episodes.
            numbers: the numbers of the episodes.
            device: where the episodes are needed.

        Returns:
            The episodes, without augmentation, grouped by shape.
        """

    def training_batch(self, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        """Create the episodes of a training step, augmented if the data are.

        Args:
            numbers: the numbers of the episodes.
            device: where the episodes are needed.

        Returns:
            The episodes, grouped by shape.
        """
        return self.batch("train", numbers, device)

    def origin(self) -> dict[str, Any]:
        """Describe the data for the checkpoint of a learner that is trained on them.

        Returns:
            Plain containers.
        """
        return {
            "name": self.name,
            "problem": type(self.problem).__name__,
            "outputs": self.problem.outputs,
            "input_shape": list(self.input_shape),
        }

    def present_for(self, wants: Mapping[str, Any] | None) -> str | None:
        """Present inputs in the way a pretrained backbone expects.

        Args:
            wants: the `input_shape`, `mean` and `std` of its inputs, and whether they may be `augmented`; None if it accepts
                any inputs.

        Returns:
            A line for each change; None if nothing changes.

        Raises:
            BadInput: if these inputs cannot be presented in that way.
        """
        if wants is not None:
            raise BadInput(f"the backbone was trained on other inputs than those of data={self.name}: choose another one")
        return None

    @property
    def items(self) -> str:
        """The kind of its items, such as `pixels`."""
        return FEATURES

    @property
    def noun(self) -> str:
        """The plural noun for its items in messages."""
        return "points"

    @property
    def spaces(self) -> Spaces | None:
        """What is observed and done in its worlds; None where tasks are no worlds."""
        return None

    @property
    def family(self) -> str:
        """What its worlds are, with the settings that they share; empty if it has none."""
        return ""

    def tell_tasks(self, tells: bool) -> None:
        """Whether inputs also describe the task, for a learner that is told it; nothing changes where none can be."""

    def refuse_other_worlds(self, origin: Mapping[str, Any]) -> None:
        """Raise `BadInput` where inputs are what is observed in worlds, and a policy cannot act in these.

        Args:
            origin: the description of the worlds that it was trained in.
        """

    def for_display(self, episode: Episode) -> Episode | None:
        """Convert an episode for people to look at.

        Args:
            episode: an episode of the evaluated split.

        Returns:
            The episode with inputs that can be pictured; None if they cannot.
        """
        return episode

    def class_names(self, split: Split) -> Sequence[str]:
        """The names of all classes of a split; empty for regression."""
        return ()

    def class_identities(self, split: Split) -> Sequence[ClassIdentity]:
        """The identities of all classes of a split, in the order of `class_names`; empty for regression."""
        return ()

    def classes_of(self, split: Split, numbers: NDArray[np.int64]) -> dict[int, tuple[int, ...]]:
        """Find the classes of some episodes.

        Args:
            split: the split of the episodes.
            numbers: the numbers of the episodes.

        Returns:
            For each number the indices of its classes in `class_names`; empty tuples for regression.
        """
        return dict.fromkeys(numbers.tolist(), ())

    def sampling(self, split: Split) -> str | None:
        """How the episodes of a split are drawn, where the size of the split decides it; None for regression."""
        return None

    def description(self, tries: bool = True) -> str:
        """One line with the shape of each split's episodes.

        Args:
            tries: whether a learner that acts tries anything before it is judged.
        """
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
        """The numbers of the episodes of a split that this device evaluates."""
        episodes = self.episodes[split]
        assert episodes is not None
        each = math.ceil(episodes / self._devices)
        # Each device evaluates every n-th episode. All evaluate equally many, so the last episode may be evaluated twice.
        return np.minimum(self._rank + self._devices * np.arange(each), episodes - 1)

    def transfer_batch_to_device(self, batch: NDArray[np.int64], device: torch.device, dataloader_idx: int) -> Batch:
        """Turn episode numbers into episodes; Lightning calls this for each batch just before it is used."""
        assert self.trainer is not None
        if self.trainer.training:
            episodes = self.training_batch(batch, device)
            self.next_episode += self.tasks_per_step
        else:
            split = "val" if self.trainer.validating or self.trainer.sanity_checking else self.evaluated_split
            episodes = self.batch(split, batch, device)
        # Lightning converts only what a loader yields, here numbers, and does not support frozen data classes.
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
    """The data loader that Lightning iterates over: it yields the episode numbers of each batch.

    Args:
        numbers: starts an iteration over the batches.
        length: the number of batches; None if there is no end.
    """

    def __init__(self, numbers: Callable[[], Iterator[NDArray[np.int64]]], length: int | None = None) -> None:
        self.numbers = numbers
        self.length = length

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return self.numbers()

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("training has no end of its own")
        return self.length


def in_double(episode: Any) -> Any:
    """The episode or the worlds in double precision, for a network with weights in double precision; integers stay
    unchanged."""
    if isinstance(episode, Worlds):
        return episode.in_double()
    support, query = (
        Examples(
            *(values.double() if values.is_floating_point() else values for values in (part.x, part.y)), names=part.names
        )
        for part in (episode.support, episode.query)
    )
    strangers = episode.strangers
    if strangers is not None and strangers.is_floating_point():
        strangers = strangers.double()
    return replace(episode, support=support, query=query, strangers=strangers)


def own_seeds(train: int | None, val: int | None, test: int | None) -> dict[Split, int | None]:
    """Collect the seeds that are configured for individual splits.

    Args:
        train: `data.train.seed`, which has to be None.
        val: `data.val.seed`.
        test: `data.test.seed`; None stands for `TEST_SEED`.

    Returns:
        The seed of validation, None if it has none, and the seed of test.

    Raises:
        BadInput: if training has a seed of its own.
    """
    if train is not None:
        raise BadInput(f"data.train.seed={train} cannot be used: training episodes are drawn by seed, which is the run's")
    # All runs are tested on the same episodes, including runs with a configuration older than `data.test.seed`.
    return {"val": val, "test": TEST_SEED if test is None else test}


def amount(given: int | list[int], key: str) -> Amount:
    """Convert a configured number or range.

    Args:
        given: a number, or [least, most].
        key: the configuration key, for messages.

    Returns:
        A number, or the tuple (least, most) if they differ.

    Raises:
        BadInput: if a list is not a range.
    """
    if isinstance(given, int):
        return given
    if len(given) != 2 or given[0] > given[1]:
        raise BadInput(f"{key}={given} cannot be used; allowed: a number, or [least, most] such as [5,20]")
    return given[0] if given[0] == given[1] else (given[0], given[1])


def tasks_of_each_device(tasks_per_step: int, devices: int) -> int:
    """Divide the tasks of a step among devices, so that the number of devices changes only the speed.

    Args:
        tasks_per_step: the tasks in a step, over all devices.
        devices: the number of devices.

    Returns:
        The tasks of each device.

    Raises:
        BadInput: if the tasks cannot be divided evenly.
    """
    if tasks_per_step % devices:
        raise BadInput(
            f"data.tasks_per_step={tasks_per_step} cannot be shared evenly by {devices} devices: "
            f"make it a multiple of {devices}, or change trainer.devices or trainer.nodes"
        )
    return tasks_per_step // devices
