"""Random patterns: a class is a pattern of black and white pixels, and an example has some of them inverted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from metashot.arguments import AtLeast, AtMost
from metashot.sources.official import Official
from metashot.sources.source import PIXELS, DataSource, Drawn

HELD_OUT = 100  # classes of validation, and of the test


class Patterns(DataSource):
    name = "patterns"
    official: ClassVar[Official | None] = None
    notes: Sequence[str] = ()
    presented_as: ClassVar[str] = PIXELS
    dtype: ClassVar[str] = "uint8"
    bright_ink: ClassVar[bool] = True

    def __init__(
        self,
        image_size: Annotated[int, AtLeast(4), AtMost(64)],
        classes: Annotated[int, AtLeast(1), AtMost(10**7)],
        examples: Annotated[int, AtLeast(1), AtMost(10**7)],
        inverted: Annotated[float, AtLeast(0), AtMost(0.5)],
    ) -> None:
        self.image_size = image_size
        self.classes = classes
        self.examples = examples
        self.inverted = inverted

    @property
    def item_shape(self) -> tuple[int, int, int]:
        return 1, self.image_size, self.image_size

    def identity(self, root: Path) -> dict[str, Any]:
        return {
            "image_size": self.image_size,
            "classes": self.classes,
            "examples": self.examples,
            "inverted": self.inverted,
            "drawing": 2,
        }

    def files(self, root: Path) -> list[Path]:
        return []

    def prepare(self, root: Path, scratch: Path) -> None:
        pass

    def splits(self) -> dict[str, list[str]]:
        return {split: [f"{split} {label}" for label in range(count)] for split, count in self._sizes().items()}

    def counts(self, split: str) -> list[int]:
        return [self.examples if split == "train" else 20] * self._sizes()[split]

    def known_as(self, name: str, root: Path) -> str:
        return f"{self.name}/{name}"

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        key = list(self._sizes()).index(split), label
        pattern = np.random.default_rng(key).integers(0, 2, self.item_shape, dtype=np.uint8)
        inverted = np.random.default_rng((*key, first)).random((last - first, *self.item_shape)) < self.inverted
        return Drawn(255 * (pattern ^ inverted).astype(np.uint8))

    def _sizes(self) -> dict[str, int]:
        return {"train": self.classes, "val": HELD_OUT, "test": HELD_OUT}
