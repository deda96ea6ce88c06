"""What a data source is: one data set, which knows its files and how they become the items of its splits.

Worker processes import this, so it needs nothing that is slow to import.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from metashot.sources.official import Official

PIXELS, TOKENS, FEATURES = "pixels", "tokens", "features"  # what items are, by the names of their presentations


@dataclass(frozen=True)
class Drawn:
    """Items that were drawn or decoded, and what happened on the way."""

    items: NDArray[np.generic]  # [N, *item_shape]; of images [N, channels, height, width]
    skipped: list[str] = field(default_factory=list)  # a line for each file that could not be read
    remarks: list[tuple[str, str]] = field(default_factory=list)  # a file, and what was done with it


class DataSource(Protocol):
    """One data set: its name, what its items are, and how to draw or decode them."""

    name: str
    official: ClassVar[Official | None]  # what is published about it; None for what is drawn here or is the user's own
    notes: Sequence[str]  # what the user should know of the files that were found
    presented_as: ClassVar[str]  # the kind of presentation that makes inputs of its items: pixels, tokens, features, ...
    dtype: ClassVar[str]  # of its items, as numpy calls it: uint8 for pixels, int32 for tokens, float32 for features

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        """The shape of one item, of images channels, height, width; None as long as only files know it that were not
        prepared."""

    def identity(self, root: Path) -> dict[str, Any]:
        """All settings and code that decide what the items are; another identity is another bank."""

    def files(self, root: Path) -> Sequence[Path | str]:
        """The files and folders below `root` that the items come from; none if they are not at hand."""

    def prepare(self, root: Path, scratch: Path) -> None:
        """Find, fetch or unpack (into `scratch`) what the items come from; what is below can be asked afterwards."""

    def splits(self) -> dict[str, list[str]]:
        """The class names of each split."""

    def counts(self, split: str) -> list[int]:
        """Items of each class, in the order of `splits()`."""

    def known_as(self, name: str, root: Path) -> str:
        """The name of a class by which it is known again in every data set that has its items, turned images included."""

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        """The items [first, last) of a class; those that cannot be read are left out and named."""
