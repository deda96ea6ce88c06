"""A data set of a few tiny images whose pixels say which they are, with classes of different sizes.

It stands in a module of its own because a bank is drawn by spawned processes, which have to import it.
"""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPE = (2, 3, 4)
SPLITS = ("train", "val", "test")


class SmallSource:
    name = "small"

    def __init__(self, classes: int = 70) -> None:
        self.classes = classes  # of train; more than the bank has chunks

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return SHAPE

    def splits(self) -> dict[str, list[str]]:
        sizes = {"train": self.classes, "val": 6, "test": 9}
        return {split: [f"{split}-{label}" for label in range(size)] for split, size in sizes.items()}

    def counts(self, split: str) -> list[int]:
        return [8 + 5 * label % 13 for label in range(len(self.splits()[split]))]

    def draw(self, split: str, first: int, last: int) -> NDArray[np.uint8]:
        counts = self.counts(split)
        images = [image_of(split, label, number) for label in range(first, last) for number in range(counts[label])]
        return np.stack(images)

    def identity(self) -> dict[str, Any]:
        return {"classes": self.classes}


def image_of(split: str, label: int, number: int) -> NDArray[np.uint8]:
    """Its first three pixels are the split, the class and the image's number within the class."""
    image = np.arange(np.prod(SHAPE), dtype=np.uint8)
    image[:3] = SPLITS.index(split), label, number
    return image.reshape(SHAPE)


class Untouched(SmallSource):
    """The same data set, but it must not be drawn."""

    def splits(self) -> dict[str, list[str]]:
        raise AssertionError("drawn again")


class Logged(SmallSource):
    """The same data set; each build leaves a line in a file."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def identity(self) -> dict[str, Any]:
        with self.log.open("a") as file:
            file.write("asked\n")
        return super().identity()

    def draw(self, split: str, first: int, last: int) -> NDArray[np.uint8]:
        if (split, first) == ("train", 0):
            with self.log.open("a") as file:
                file.write("drawn\n")
        return super().draw(split, first, last)


class KillsItsBuilder(SmallSource):
    """The same data set; the process that builds its bank is killed while the last class is drawn."""

    def draw(self, split: str, first: int, last: int) -> NDArray[np.uint8]:
        if split == "test" and last == len(self.splits()[split]):
            os.kill(os.getppid(), signal.SIGKILL)
        return super().draw(split, first, last)
