"""Images of stripes: a class is an angle and a width, an example is where the stripes begin."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from metashot.arguments import AtLeast, AtMost
from metashot.sources.official import Official
from metashot.sources.source import PIXELS, DataSource, Drawn

CLASSES = {"train": 24, "val": 8, "test": 8}


class Stripes(DataSource):
    """`data=stripes`."""

    name = "stripes"
    official: Official | None = None
    notes: Sequence[str] = ()
    presented_as = PIXELS
    dtype = "uint8"
    bright_ink = True

    def __init__(
        self, image_size: Annotated[int, AtLeast(8), AtMost(64)], examples: Annotated[int, AtLeast(1), AtMost(100)]
    ):
        self.image_size = image_size
        self.examples = examples

    @property
    def item_shape(self) -> tuple[int, int, int]:
        return 1, self.image_size, self.image_size

    def identity(self, root: Path) -> dict[str, Any]:
        return {"image_size": self.image_size, "examples": self.examples, "drawing": 1}

    def files(self, root: Path) -> list[Path]:
        return []

    def prepare(self, root: Path, scratch: Path) -> None:
        pass

    def splits(self) -> dict[str, list[str]]:
        return {split: [f"{split}_{number}" for number in range(count)] for split, count in CLASSES.items()}

    def counts(self, split: str) -> list[int]:
        return [self.examples] * CLASSES[split]

    def known_as(self, name: str, root: Path) -> str:
        return f"{self.name}/{name}"

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        number = list(CLASSES).index(split) + 3 * label  # splits have different angles
        angle, width = np.pi * number / 72, 1 + number % 3
        rows, columns = np.mgrid[: self.image_size, : self.image_size]
        along = rows * np.sin(angle) + columns * np.cos(angle)
        begin = np.arange(first, last)[:, None, None] * 1.7
        return Drawn((np.sin((along + begin) / width) > 0).astype(np.uint8)[:, None] * 255)
