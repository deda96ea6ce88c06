"""What a data source is: one data set, which knows its files and how they become the images of its splits.

Worker processes import this, so it needs nothing that is slow to import.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from metashot.sources.official import Official


@dataclass(frozen=True)
class Drawn:
    """Images that were drawn or decoded, and what happened on the way."""

    images: NDArray[np.uint8]  # [N, channels, height, width]
    skipped: list[str] = field(default_factory=list)  # a line for each file that could not be read
    remarks: list[tuple[str, str]] = field(default_factory=list)  # a file, and what was done with it


class DataSource(Protocol):
    """One data set: its name, what its images look like, and how to draw or decode them."""

    name: str
    official: ClassVar[Official | None]  # what is published about it; None for what is drawn here or is the user's own
    notes: Sequence[str]  # what the user should know of the files that were found
    bright_ink: ClassVar[bool]  # whether its images are drawings with bright ink on dark ground

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    def identity(self, root: Path) -> dict[str, Any]:
        """All settings and code that decide what the images are; another identity is another bank."""

    def files(self, root: Path) -> Sequence[Path | str]:
        """The files and folders below `root` that the images come from; none if they are not at hand."""

    def prepare(self, root: Path, scratch: Path) -> None:
        """Find, fetch or unpack (into `scratch`) what the images come from; what is below can be asked afterwards."""

    def splits(self) -> dict[str, list[str]]:
        """The class names of each split."""

    def counts(self, split: str) -> list[int]:
        """Images of each class, in the order of `splits()`."""

    def known_as(self, name: str, root: Path) -> str:
        """The name of a class by which it is known again in every data set that has its images, turned ones included."""

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        """The images [first, last) of a class; those that cannot be read are left out and named."""
