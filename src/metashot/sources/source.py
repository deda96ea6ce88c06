"""The interface of data sources: each is one data set, which knows its files and how they become the items of its splits.

Worker processes import this module, so it imports nothing that is slow to import.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from metashot.sources.official import Official

PIXELS, TOKENS, FEATURES = "pixels", "tokens", "features"  # the kinds of items, named after their presentations


@dataclass(frozen=True)
class Drawn:
    """Items that were drawn or decoded, with a record of problems."""

    items: NDArray[np.generic]  # [N, *item_shape]; [N, channels, height, width] for images
    skipped: list[str] = field(default_factory=list)  # one line per file that could not be read
    remarks: list[tuple[str, str]] = field(default_factory=list)  # (file, what was done with it)


class DataSource(Protocol):
    """One data set: its name, the form of its items, and how to draw or decode them.

    A bank is built by calling `prepare`, then `splits` and `counts`, then `draw` in worker processes, to which the source is
    pickled.

    Attributes:
        name: the name of the data set.
        official: what is published about it; None if it is generated or the user's own.
        notes: remarks for the user about the files that were found.
        presented_as: the kind of presentation that turns its items into inputs: pixels, tokens, features, ...
        dtype: the numpy dtype of its items: uint8 for pixels, int32 for tokens, float32 for features.
    """

    name: str
    official: ClassVar[Official | None]
    notes: Sequence[str]
    presented_as: ClassVar[str]
    dtype: ClassVar[str]

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        """The shape of one item, (channels, height, width) for images; None before `prepare` if it depends on the files."""

    def identity(self, root: Path) -> dict[str, Any]:
        """Describe the settings and the version of the code that determine the items; each identity has a bank of its own.

        Args:
            root: `data.root`, the folder of data sets or the user's own data.

        Returns:
            Plain containers that JSON can store.
        """

    def files(self, root: Path) -> Sequence[Path | str]:
        """Find the files and folders that the items come from, whose changes make a bank outdated.

        Args:
            root: `data.root`, the folder of data sets or the user's own data.

        Returns:
            The files and folders; empty if they are not available.
        """

    def prepare(self, root: Path, scratch: Path) -> None:
        """Find, download or unpack the files of the data set; afterwards the methods below can be called.

        Args:
            root: `data.root`; downloads are saved below it.
            scratch: an empty temporary folder, for example to unpack an archive into.

        Raises:
            BadInput: if the files are missing or cannot be used.
        """

    def splits(self) -> dict[str, list[str]]:
        """The class names of each split, by the name of the split."""

    def counts(self, split: str) -> list[int]:
        """Count the items of each class.

        Args:
            split: the name of the split.

        Returns:
            The number of items of each class, in the order of `splits()`.
        """

    def known_as(self, name: str, root: Path) -> str:
        """Name a class in a way that is the same in all data sets that have its items, rotated images included.

        Args:
            name: the name of the class in this data set.
            root: `data.root`, the folder of data sets or the user's own data.

        Returns:
            The name across data sets.
        """

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        """Draw or decode some items of a class.

        Args:
            split: the name of the split.
            label: the index of the class in `splits()[split]`.
            first: the first item.
            last: the item after the last one.

        Returns:
            The items; unreadable ones are left out and listed in `skipped`.
        """
