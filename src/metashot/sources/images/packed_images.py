"""Images in a few large files, read one by one, so that no process holds them in memory."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from metashot.bad_input import BadInput
from metashot.sources.getting.files import DAMAGE, printable
from metashot.sources.getting.npy import read_header

_INDEX = np.dtype(np.int64)
_COLUMNS = 3  # of the index: the fields of `Place`
_AT_ONCE = 2**22  # bytes copied at a time


class Place(NamedTuple):
    """The location of the bytes of an array."""

    is_copied: bool  # whether they are in the copies instead of the file itself
    start: int
    length: int


@dataclass(frozen=True)
class Pack:
    """The images of one file, by their indices."""

    file: Path
    copies: Path  # of images that the file stores in another form
    index: Path  # the place of each image
    pixels: tuple[int, int] | None  # height and width of raw pixels; None for image files
    is_blue_first: bool = False  # whether raw pixels are BGR

    def __len__(self) -> int:
        return self.index.stat().st_size // (_COLUMNS * _INDEX.itemsize)

    def read(self, number: int) -> bytes:
        row = np.fromfile(self.index, _INDEX, _COLUMNS, offset=number * _COLUMNS * _INDEX.itemsize)
        is_copied, start, length = row.tolist()
        with (self.copies if is_copied else self.file).open("rb", buffering=0) as file:
            file.seek(start)
            content = file.read(length)
        if self.pixels is None:
            return content
        if self.is_blue_first:
            content = np.frombuffer(content, np.uint8).reshape(-1, 3)[:, ::-1].tobytes()
        return as_image_file(content, *self.pixels)


class PackedImages:
    """The images of several packs, by names such as `train.pkl[17]`.

    Args:
        path: the user's folder or archive, for messages.
        packs: the packs, by the names of their files.
    """

    def __init__(self, path: Path, packs: Mapping[str, Pack]) -> None:
        self.path = path
        self.packs = dict(packs)

    def names(self) -> list[str]:
        return [f"{name}[{number}]" for name, pack in self.packs.items() for number in range(len(pack))]

    def read(self, name: str) -> bytes:
        pack, _, number = name.removesuffix("]").rpartition("[")
        try:
            return self.packs[pack].read(int(number))
        except OSError as error:
            raise BadInput(f"{printable(self.path)}: {name} cannot be read: {error.strerror or error}") from error


class Numbered(Sequence[str]):
    """The names of some images of a pack, created on demand to save the memory of half a million strings."""

    def __init__(self, pack: str, numbers: NDArray[np.int32]) -> None:
        self.pack = pack
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        chosen = self.numbers[index].tolist()
        return [f"{self.pack}[{number}]" for number in chosen] if isinstance(chosen, list) else f"{self.pack}[{chosen}]"


class Packing:
    """Records where the images of a file are while it is read, and copies those that it stores in another form.

    Args:
        file: the file.
        scratch: the temporary folder for the copies.
    """

    def __init__(self, file: Path, scratch: Path) -> None:
        self.file = file
        self.copies = scratch / f"{file.name}.copies"
        self.index = scratch / f"{file.name}.index"

    def place(self, array: NDArray[Any], start: int | None) -> Place:
        """Record the location of an array, copying it if necessary.

        Args:
            array: the array.
            start: the position of its first byte in the file; None if the file stores it in another form.

        Returns:
            Its location.
        """
        if start is not None and array.flags.c_contiguous:
            return Place(False, start, array.nbytes)
        with self.copies.open("ab") as file:
            start = file.tell()
            for part in (array,) if array.flags.c_contiguous else array:
                file.write(np.ascontiguousarray(part).data)
        return Place(True, start, array.nbytes)

    def image_files(self, places: Sequence[Place]) -> Pack:
        """Create a pack of image files at these locations."""
        np.asarray(places, _INDEX).reshape(-1, _COLUMNS).tofile(self.index)
        return Pack(self.file, self.copies, self.index, None)

    def pixels(self, place: Place, count: int, height: int, width: int, is_blue_first: bool = False) -> Pack:
        """Create a pack of the RGB images in an array [images, height, width, 3] at `place`."""
        size = height * width * 3
        columns = np.broadcast_arrays(place.is_copied, place.start + size * np.arange(count), size)
        np.stack(columns, 1).astype(_INDEX).tofile(self.index)
        return Pack(self.file, self.copies, self.index, (height, width), is_blue_first)

    def npz(self, key: str) -> tuple[Place, tuple[int, ...]]:
        """Unpack a uint8 array from an .npz file, piece by piece.

        Args:
            key: the name of the array.

        Returns:
            The location and the shape of the array.

        Raises:
            BadInput: if the file is damaged or does not have such an array.
        """
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(f"{key}.npy") as member:
                shape, fortran, dtype = read_header(member)
                if dtype != np.uint8 or fortran:
                    kind = "Python objects, which could run code" if dtype.hasobject else f"{dtype} in another layout"
                    raise BadInput(
                        f"{printable(self.file)}: its {key!r} holds {kind}; it was not loaded: give images as uint8"
                    )
                place = self._copied(_pieces(member))
                if place.length != np.prod(shape, dtype=object):
                    raise EOFError(f"it has {place.length} bytes for an array of shape {shape}")
        except KeyError as error:
            raise BadInput(f"{printable(self.file)} has no array {key!r}: it is not the file that was published") from error
        except (*DAMAGE, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BadInput(
                f"{printable(self.file)} is damaged or no .npz file ({error}); fetch or copy the file again"
            ) from error
        return place, shape

    def _copied(self, pieces: Iterator[bytes]) -> Place:
        with self.copies.open("ab") as file:
            start = file.tell()
            for piece in pieces:
                file.write(piece)
            return Place(True, start, file.tell() - start)


def as_image_file(pixels: bytes, height: int, width: int) -> bytes:
    """Raw RGB pixels as a PPM file, so that they are decoded like other images."""
    return b"P6 %d %d 255\n" % (width, height) + pixels


def by_label(labels: NDArray[Any]) -> dict[int, NDArray[np.int32]]:
    """The indices of the images of each label, both in ascending order."""
    order = np.argsort(labels, kind="stable").astype(np.int32)
    found, firsts = np.unique(labels[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, firsts[1:]), strict=True)) if len(found) else {}


def _pieces(member: Any) -> Iterator[bytes]:
    while piece := member.read(_AT_ONCE):
        yield piece
