"""A data set of a few tiny images whose pixels say which they are, with classes of different sizes.

It stands in a module of its own because a bank is drawn by spawned processes, which have to import it.
"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metashot.sources.official import Official
from metashot.sources.source import PIXELS, Drawn

SHAPE = (2, 3, 4)
SPLITS = ("train", "val", "test")


class SmallSource:
    name = "small"
    official: ClassVar[Official | None] = None
    notes: Sequence[str] = ()
    presented_as: ClassVar[str] = PIXELS
    dtype: ClassVar[str] = "uint8"

    def __init__(self, classes: int = 70) -> None:
        self.classes = classes  # of train; more than the bank has chunks

    @property
    def item_shape(self) -> tuple[int, int, int]:
        return SHAPE

    def splits(self) -> dict[str, list[str]]:
        sizes = {"train": self.classes, "val": 6, "test": 9}
        return {split: [f"{split}-{label}" for label in range(size)] for split, size in sizes.items()}

    def counts(self, split: str) -> list[int]:
        return [8 + 5 * label % 13 for label in range(len(self.splits()[split]))]

    def files(self, root: Path) -> list[Path]:
        return []

    def known_as(self, name: str, root: Path) -> str:
        return f"{self.name}/{name}"

    def prepare(self, root: Path, scratch: Path) -> None:
        pass

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        return Drawn(np.stack([image_of(split, label, number) for number in range(first, last)]))

    def identity(self, root: Path) -> dict[str, Any]:
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
    """The same data set; each build leaves a line in a file, and so does every question whether one is needed."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def identity(self, root: Path) -> dict[str, Any]:
        with self.log.open("a") as file:
            file.write("asked\n")
        return super().identity(root)

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        if (split, label, first) == ("train", 0, 0):
            with self.log.open("a") as file:
                file.write("drawn\n")
        return super().draw(split, label, first, last)


class KillsItsBuilder(SmallSource):
    """The same data set; the process that builds its bank is killed while the last class is drawn."""

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        if split == "test" and label == len(self.splits()[split]) - 1:
            os.kill(os.getppid(), signal.SIGKILL)
        return super().draw(split, label, first, last)


class FromFiles(SmallSource):
    """The same data set, as if its images came from the files below the root."""

    def files(self, root: Path) -> list[Path]:
        return sorted(path for path in root.iterdir() if path.is_file())


class HalfReadable(SmallSource):
    """The same data set; of each class only every other image can be read, and of class 2 none."""

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        read = [number for number in range(first, last) if number % 2 and label != 2]
        images = [image_of(split, label, number) for number in read]
        skipped = [f"{split}-{label}-{number}: is damaged" for number in range(first, last) if number not in read]
        remarks = [(f"{split}-{label}-{number}", "animated: its first frame is used") for number in read]
        return Drawn(np.stack(images) if images else np.empty((0, *SHAPE), np.uint8), skipped, remarks)


class Large(SmallSource):
    """One class of test whose images are more than a worker draws at once."""

    def splits(self) -> dict[str, list[str]]:
        return super().splits() | {"test": ["large"]}

    def counts(self, split: str) -> list[int]:
        return [2100] if split == "test" else super().counts(split)

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        if split != "test":
            return super().draw(split, label, first, last)
        images = np.zeros((last - first, *SHAPE), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(first, last), 256)
        return Drawn(images)


class Filling(Large):
    """A data set that a disk of 200 kB cannot hold."""

    def counts(self, split: str) -> list[int]:
        return [10**6] if split == "test" else super().counts(split)


class OtherItems(SmallSource):
    """The same classes with items of another type and shape, which nobody knows before they are prepared."""

    presented_as = "features"

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        super().__init__(classes=4)
        self.dtype = dtype  # type: ignore[misc]
        self.shape = shape
        self.prepared = False

    @property
    def item_shape(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.shape if self.prepared else None

    def prepare(self, root: Path, scratch: Path) -> None:
        self.prepared = True

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        return Drawn(np.stack([self.item(split, label, number) for number in range(first, last)]))

    def item(self, split: str, label: int, number: int) -> NDArray[np.generic]:
        return np.full(self.shape, -1000 * SPLITS.index(split) - 100 * label - number, self.dtype)

    def identity(self, root: Path) -> dict[str, Any]:
        return {"dtype": self.dtype, "shape": list(self.shape)}
