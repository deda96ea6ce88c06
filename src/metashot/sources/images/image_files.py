"""The base class of data sets of image files, which lists files by split and class and decodes them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from metashot.bad_input import BadInput
from metashot.sources.getting.files import Files
from metashot.sources.images.decoding import Decoded, Fit, Unreadable, decode
from metashot.sources.official import Official
from metashot.sources.source import PIXELS, DataSource, Drawn

Listing = dict[str, dict[str, list[str]]]  # split -> class -> names of the images
Listed = Mapping[str, Mapping[str, Sequence[str]]]  # likewise, with names that may be created on demand


class ImageFiles(DataSource, ABC):
    """A data source whose images are files in a folder or an archive.

    A subclass finds its files in `files` and `open` and assigns images to splits and classes in `list_images`; image names
    are relative to `self.opened`. If `published` states numbers of classes and images, they are checked.

    Args:
        channels: 1 for grayscale, 3 for RGB.
        image_size: height and width of the decoded images.
        fit: how an image of another aspect ratio is fitted to the square.
        options: all other settings that determine the images, for `identity`.
    """

    name: str
    official: ClassVar[Official | None] = None
    bright_ink: ClassVar[bool] = False  # whether images are drawings in bright ink on a dark background
    presented_as: ClassVar[str] = PIXELS
    dtype: ClassVar[str] = "uint8"
    code = 1  # incremented whenever the code of a data set would decode the same files to other images
    has_larger_files: ClassVar[bool] = False  # whether files may be larger than the images that they are decoded to
    skips_unreadable = False  # an unreadable official file is an error

    def __init__(self, channels: int, image_size: int, fit: Fit, options: dict[str, Any]) -> None:
        self.channels = channels
        self.image_size = image_size
        self.fit: Fit = fit
        self.options = options  # all other settings that determine the images
        self.notes: list[str] = []  # remarks for the user about the listing, printed when the bank is built
        self.opened: Files
        self.listing: Listed

    @property
    def item_shape(self) -> tuple[int, int, int]:
        return self.channels, self.image_size, self.image_size

    def identity(self, root: Path) -> dict[str, Any]:
        shape = list(self.item_shape)
        return {"root": str(root.resolve()), "shape": shape, "fit": self.fit, "code": self.code, **self.options}

    def known_as(self, name: str, root: Path) -> str:
        return f"{self.name}/{name}"

    @abstractmethod
    def files(self, root: Path) -> Sequence[Path | str]:
        """Find the files and folders that the images come from.

        Args:
            root: the folder of data sets.

        Returns:
            The existing ones.
        """

    @abstractmethod
    def open(self, root: Path, scratch: Path) -> Files:
        """Find the files, or download or unpack them.

        Args:
            root: the folder of data sets.
            scratch: an empty temporary folder, for example to unpack an archive into.

        Returns:
            The opened files.

        Raises:
            BadInput: if the files are missing or cannot be used.
        """

    @abstractmethod
    def list_images(self, root: Path) -> Listed:
        """Assign the images of `self.opened` to splits and classes.

        Args:
            root: the folder of data sets.

        Returns:
            The names of the images of each class of each split.
        """

    def published(self) -> dict[str, tuple[int, int]]:
        """The published numbers of classes and images of each split; empty if they are not checked."""
        return {}

    def prepare(self, root: Path, scratch: Path) -> None:
        self.opened = self.open(root, scratch)
        self.listing = self.list_images(root)
        for split, (classes, images) in self.published().items():
            found = self.listing[split]
            counted = sum(map(len, found.values()))
            if (len(found), counted) != (classes, images):
                raise BadInput(
                    f"the {split} split of {self.name} in {self.opened.path} has {len(found)} classes and {counted} images, "
                    f"but {classes} and {images} were published: the files are not whole or not the official ones"
                )

    def splits(self) -> dict[str, list[str]]:
        return {split: list(classes) for split, classes in self.listing.items()}

    def counts(self, split: str) -> list[int]:
        return [len(names) for names in self.listing[split].values()]

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        drawn = Drawn(np.empty((0, *self.item_shape), np.uint8))
        images = []
        for name in self._names(split)[label][first:last]:
            try:
                decoded = self.decode_image(name)
            except Unreadable as error:
                if not self.skips_unreadable:
                    raise BadInput(f"{self.opened.path}: {error}; the files are damaged: fetch them again") from error
                drawn.skipped.append(str(error))
                continue
            images.append(decoded.pixels)
            if decoded.remark:
                drawn.remarks.append((name, decoded.remark))
        return Drawn(np.stack(images), drawn.skipped, drawn.remarks) if images else drawn

    def decode_image(self, name: str) -> Decoded:
        return decode(self.opened.read(name), name, self.item_shape, self.fit)

    def _names(self, split: str) -> list[Sequence[str]]:
        return list(self.listing[split].values())
