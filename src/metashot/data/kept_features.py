"""The features that a frozen backbone computes for all items of a split, stored in a folder beside the banks.

A computation that was stopped or killed leaves a partial folder with its finished rows, and the next one continues it.
"""

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metashot.files.whole_folders import make_once, take_the_place_of

_FILE, _MANIFEST = "features.npy", "manifest.json"
_PROGRESS = "progress.json"  # in a partial folder, in place of the manifest
_RECORDED_EVERY = 2.0  # seconds
_PIECE = 2**24  # bytes read at a time
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError)

Features = NDArray[np.float32]  # [items, features], memory-mapped


def kept_features(
    banks: Path,
    identity: Mapping[str, Any],
    shape: tuple[int, int],
    at_once: int,
    compute: Callable[[int], Iterable[Features]],
) -> Features:
    """Load the stored features with this identity, or compute and store them.

    Args:
        banks: the folder of the banks.
        identity: everything that determines the features: weights, items, presentation, precision.
        shape: (items, features).
        at_once: the number of rows that are computed together; a continued computation has the same batches.
        compute: computes the features of the items from a number on, piece by piece; only one of several concurrent
            processes calls it.

    Returns:
        The features, memory-mapped.

    Raises:
        OSError: if they cannot be stored there.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = banks / f"features-{digest}"

    def make() -> None:
        partial = _Partial(folder.parent / f".{folder.name}.partial", {"of": dict(identity), "at_once": at_once}, shape)
        try:
            for piece in compute(partial.rows):
                partial.add(piece)
            assert partial.rows == shape[0]
        finally:
            partial.record()
        manifest = {"identity": dict(identity), "checksum": _checksum(partial.folder / _FILE)}
        (partial.folder / _MANIFEST).write_text(json.dumps(manifest))
        take_the_place_of(folder, partial.folder)
        (folder / _PROGRESS).unlink()

    if not _is_whole(folder, shape):
        make_once(folder, lambda: _is_whole(folder, shape), make)
    found: Features = np.load(folder / _FILE, mmap_mode="r")
    return found


class _Partial:
    """Features of which the first `rows` are finished. Whoever makes one holds the lock of the whole folder.

    Args:
        folder: where they are; a partial folder of another computation, or one that is damaged, is replaced.
        identity: everything that determines the features, and their batches.
        shape: (items, features).

    Raises:
        OSError: if they cannot be written there.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], shape: tuple[int, int]) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))  # as it is read from a file
        self.rows = self._checked = 0  # finished rows, and those of the checksum
        self._checksum = 0
        found = self._found(shape)
        self._kept = self._new(shape) if found is None else found
        self._recorded_at = time.monotonic()

    def add(self, piece: Features) -> None:
        self._kept[self.rows : self.rows + len(piece)] = piece
        self.rows += len(piece)
        if time.monotonic() - self._recorded_at >= _RECORDED_EVERY:
            self.record()

    def record(self) -> None:
        """Record how many rows are finished, after they are on the disk. A folder without any is removed."""
        if not self.rows:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        self._checksum = _checksum_of(self._kept[self._checked : self.rows], self._checksum)
        self._checked = self.rows
        self._kept.flush()  # type: ignore[attr-defined]
        new = self.folder / f"{_PROGRESS}.new"
        new.write_text(json.dumps({"identity": self.identity, "rows": self.rows, "checksum": self._checksum}))
        new.replace(self.folder / _PROGRESS)
        self._recorded_at = time.monotonic()

    def _found(self, shape: tuple[int, int]) -> Features | None:
        """The finished rows of an earlier computation; None if there are none that can be used."""
        try:
            if self.folder.is_symlink():
                return None
            record = json.loads((self.folder / _PROGRESS).read_text())
            rows, at_once = record["rows"], self.identity["at_once"]
            kept: Features = np.load(self.folder / _FILE, mmap_mode="r+")
            whole_batches = type(rows) is int and 0 < rows <= shape[0] and (rows % at_once == 0 or rows == shape[0])
            fits = kept.dtype == np.float32 and kept.shape == shape and kept.flags.c_contiguous
            if record["identity"] != self.identity or not whole_batches or not fits:
                return None
            if record["checksum"] != (checksum := _checksum_of(kept[:rows], 0)):
                return None
        except _DAMAGE:
            return None
        self.rows, self._checked, self._checksum = rows, rows, checksum
        return kept

    def _new(self, shape: tuple[int, int]) -> Features:
        if self.folder.is_symlink() or self.folder.is_file():
            self.folder.unlink()
        elif self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir()
        try:
            made: Features = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                self.folder / _FILE, "w+", np.float32, shape
            )
            if hasattr(os, "posix_fallocate"):  # not on macOS
                with (self.folder / _FILE).open("r+b") as file:  # a full disk is noticed now, and kills no process later
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return made


def _is_whole(folder: Path, shape: tuple[int, int]) -> bool:
    """Whether the stored features exist and are undamaged."""
    path = folder / _FILE
    try:
        if path.is_symlink():
            return False
        kept = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]
        if kept.dtype != np.float32 or kept.shape != shape or not kept.flags.c_contiguous:
            return False
        return bool(json.loads((folder / _MANIFEST).read_text())["checksum"] == _checksum(path))
    except _DAMAGE:
        return False


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found = zlib.crc32(piece, found)
    return found


def _checksum_of(rows: Features, before: int) -> int:
    return zlib.crc32(rows.view(np.uint8).data, before)
