"""Features of all items of a split that a frozen backbone gives, computed once and kept in a folder beside the banks."""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metashot.files.whole_folders import make_once, whole_folder

_FILE, _MANIFEST = "features.npy", "manifest.json"
_PIECE = 2**24  # bytes that are read together
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError)

Features = NDArray[np.float32]  # [items, features], read from its file as it is used


def kept_features(
    banks: Path, identity: Mapping[str, Any], shape: tuple[int, int], compute: Callable[[], Iterable[Features]]
) -> Features:
    """The features that were kept under this identity, or computed ones, which are kept from now on.

    Args:
        banks: the folder of the banks.
        identity: all that decides the features: weights, items, presentation, precision.
        shape: items and features of each.
        compute: gives the features of all items in pieces; called by one of the processes that ask at the same time.

    Raises:
        OSError: if they cannot be kept there.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = banks / f"features-{digest}"

    def make() -> None:
        with whole_folder(folder) as temporary:
            # Their space is taken first, so that a full disk is known before the work.
            kept = np.lib.format.open_memmap(temporary / _FILE, "w+", np.float32, shape)  # type: ignore[no-untyped-call]
            first = 0
            for piece in compute():
                kept[first : first + len(piece)] = piece
                first += len(piece)
            assert first == shape[0]
            kept.flush()
            manifest = {"identity": dict(identity), "checksum": _checksum(temporary / _FILE)}
            (temporary / _MANIFEST).write_text(json.dumps(manifest))

    if not _is_whole(folder, shape):
        make_once(folder, lambda: _is_whole(folder, shape), make)
    found: Features = np.load(folder / _FILE, mmap_mode="r")
    return found


def _is_whole(folder: Path, shape: tuple[int, int]) -> bool:
    """Whether the features are there as they were written."""
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
