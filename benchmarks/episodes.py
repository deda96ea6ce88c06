"""A batch of 16 episodes (5-way, 1-shot, 15 queries, 28x28): sampling and gathering, against learn2learn's task dataset.

Both read the same images from memory. learn2learn gets float tensors, so it has nothing to convert.
"""

import contextlib
import io
import itertools
import warnings

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.timing import Row, alternate
from metashot.data.bank import Bank
from metashot.data.class_episodes import gather
from metashot.data.presentation.augmentation import Augmentation
from metashot.data.presentation.pixels import Pixels
from metashot.episodes import EpisodeSampler, EpisodeSpec

CLASSES, EXAMPLES, TASKS = 1000, 20, 16


class InMemory(Dataset[tuple[Tensor, int]]):
    """The images in the form that learn2learn expects: one example at a time, with its class."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], index // EXAMPLES


def measure() -> list[Row]:
    images = torch.randint(0, 256, (CLASSES * EXAMPLES, 1, 28, 28), dtype=torch.uint8)
    bank = Bank(images, [str(k) for k in range(CLASSES)], np.full(CLASSES, EXAMPLES))
    sampler = EpisodeSampler(EpisodeSpec(5, 1, 15), bank.items_per_class, 0, "train")
    unchanged = Augmentation(0, 0.0, 0.0, 0.0, 0.0, 0.0, "none")
    presentation = Pixels(unchanged, None, None)
    number = itertools.count(step=TASKS)

    def metashot() -> None:
        first = next(number)
        gather(bank, sampler(np.arange(first, first + TASKS)), torch.device("cpu"), presentation.values)

    tasks = _learn2learn_tasks(images.float() / 255)
    return alternate({"metashot": metashot, "learn2learn": lambda: [tasks.sample() for _ in range(TASKS)]}, rounds=50)


def _learn2learn_tasks(images: Tensor):  # type: ignore[no-untyped-def]
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from learn2learn.data import MetaDataset, TaskDataset
        from learn2learn.data.transforms import ConsecutiveLabels, FusedNWaysKShots, LoadData, RemapLabels
    dataset = MetaDataset(InMemory(images))
    transforms = [FusedNWaysKShots(dataset, n=5, k=16), LoadData(dataset), RemapLabels(dataset), ConsecutiveLabels(dataset)]
    return TaskDataset(dataset, transforms)
