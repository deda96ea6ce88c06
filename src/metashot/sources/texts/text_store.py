"""Texts in one file on disk while a bank is built, so that a million of them are not held in memory."""

import os
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metashot.sources.texts.code_points import cleaned


class TextStore:
    """Appends cleaned texts to a file, and remembers where each one is, its class and its length.

    Args:
        path: the file, which is overwritten.
        longest: the most characters that are kept of a text.
    """

    def __init__(self, path: Path, longest: int) -> None:
        self.path = path
        self.longest = longest
        self._file = path.open("wb", buffering=2**20)
        self._end = 0
        self._starts, self._sizes = array("q"), array("i")  # bytes
        self._labels, self._characters = array("i"), array("i")

    def add(self, label: int, text: str) -> bool:
        """Append a text.

        Args:
            label: the number of its class.
            text: the text, which is cleaned and cut.

        Returns:
            Whether anything is left of it.
        """
        text = cleaned(text)
        if not text:
            return False
        content = text[: self.longest].encode()
        self._file.write(content)
        self._starts.append(self._end)
        self._sizes.append(len(content))
        self._labels.append(label)
        self._characters.append(len(text))
        self._end += len(content)
        return True

    def close(self) -> None:
        self._file.close()

    @property
    def labels(self) -> NDArray[np.int32]:
        return np.frombuffer(self._labels, np.int32)  # [N]

    @property
    def characters(self) -> NDArray[np.int32]:
        """The lengths of the texts before they were cut."""
        return np.frombuffer(self._characters, np.int32)  # [N]

    def places(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """The first byte and the number of bytes of some texts: [rows, 2]."""
        starts, sizes = np.frombuffer(self._starts, np.int64), np.frombuffer(self._sizes, np.int32)
        return np.stack([starts[rows], sizes[rows].astype(np.int64)], axis=1)

    def texts(self, rows: NDArray[Any]) -> list[str]:
        return texts_at(self.path, self.places(rows))


def texts_at(path: Path, places: NDArray[np.int64]) -> list[str]:
    """Read texts from the file of a store.

    Args:
        path: the file.
        places: the first byte and the number of bytes of each text, [N, 2].

    Returns:
        N texts.
    """
    if not len(places):
        return []
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        starts, sizes = places[:, 0], places[:, 1]
        if np.array_equal(starts[1:], starts[:-1] + sizes[:-1]):  # one after the other
            content, ends = os.pread(file, int(sizes.sum()), int(starts[0])), np.cumsum(sizes).tolist()
            return [content[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
        return [os.pread(file, size, start).decode() for start, size in places.tolist()]
    finally:
        os.close(file)
