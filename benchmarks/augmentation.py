"""Random augmentation of 4 episodes (5-way, 5-shot, 15 queries, 3x84x84), against torchvision's functions image by image.

Both draw separate random numbers for each image; torchvision's batch transforms would change all images alike.
"""

import itertools

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from benchmarks.timing import Row, alternate
from metashot.data.presentation.augmentation import Augmentation
from metashot.episodes import Episode, Examples
from metashot.training.memory import keep_freed_memory

WAYS, SHOTS, QUERIES, TASKS, SIDE = 5, 5, 15, 4, 84
PADDING, FLIP, JITTER, HUE = 8, 0.5, 0.4, 0.1


def crop_and_flip() -> list[Row]:
    return _measure(jitter=0.0, hue=0.0, rounds=20)


def crop_flip_and_jitter() -> list[Row]:
    return _measure(jitter=JITTER, hue=HUE, rounds=10)


def _measure(jitter: float, hue: float, rounds: int) -> list[Row]:
    support, query = (
        Examples(torch.rand(TASKS, WAYS * each, 3, SIDE, SIDE), torch.arange(WAYS).repeat_interleave(each).expand(TASKS, -1))
        for each in (SHOTS, QUERIES)
    )
    classes = torch.arange(WAYS).expand(TASKS, -1)
    keep_freed_memory()  # as in every run
    augmentation = Augmentation(PADDING, FLIP, jitter, jitter, jitter, hue, "none")
    first = itertools.count(step=TASKS)

    def metashot() -> None:
        augmentation(Episode(support, query, next(first) + torch.arange(TASKS), classes), (0, 0))

    def torchvision() -> None:
        for examples in (support, query):
            torch.stack([_changed(image, jitter, hue) for image in examples.x.flatten(0, 1)])

    return alternate({"metashot": metashot, "torchvision, image by image": torchvision}, rounds)


def _changed(image: Tensor, jitter: float, hue: float) -> Tensor:
    top, left = torch.randint(2 * PADDING + 1, (2,)).tolist()
    flip, brightness, contrast, saturation, turn = torch.rand(5).tolist()
    image = functional.crop(functional.pad(image, [PADDING]), top, left, SIDE, SIDE)
    if flip < FLIP:
        image = functional.horizontal_flip(image)
    if jitter:
        image = functional.adjust_brightness(image, 1 + jitter * (2 * brightness - 1))
        image = functional.adjust_contrast(image, 1 + jitter * (2 * contrast - 1))
        image = functional.adjust_saturation(image, 1 + jitter * (2 * saturation - 1))
        image = functional.adjust_hue(image, hue * (2 * turn - 1))
    return image
