"""A batch of 16 episodes (5-way, 1-shot, 15 queries, 28x28): sampling and gathering, against learn2learn's task dataset.

Both read the same images from memory. learn2learn gets float tensors, so it has nothing to convert.
"""

import itertools

import numpy as np
import torch

from benchmarks.compare.peers import task_sets
from benchmarks.timing import Row, alternate
from metashot.data.bank import Bank
from metashot.data.gathering import gather
from metashot.data.presentation.augmentation import Augmentation
from metashot.data.presentation.pixels import Pixels
from metashot.episodes import EpisodeSampler, EpisodeSpec

CLASSES, EXAMPLES, TASKS = 1000, 20, 16


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

    tasks = task_sets(images.float() / 255, torch.arange(CLASSES).repeat_interleave(EXAMPLES), 5, 16)
    return alternate({"metashot": metashot, "learn2learn": lambda: [tasks.sample() for _ in range(TASKS)]}, rounds=50)
