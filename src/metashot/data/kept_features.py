"""The features that a frozen backbone computes for all items of a split, stored in a folder beside the banks."""

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
_PIECE = 2**24  # bytes read at a time
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError)

Features = NDArray[np.float32]  # [items, features], memory-mapped


def kept_features(
    banks: Path, identity: Mapping[str, Any], shape: tuple[int, int], compute: Callable[[], Iterable[Features]]
) -> Features:
    """Load the stored features with this identity, or compute and store them.

    Args:
        banks: the folder of the banks.
        identity: everything that determines the features: weights, items, presentation, precision.
        shape: (items, features).
        compute: computes the features of all items, piece by piece; only one of several concurrent processes calls it.

    Returns:
        The features, memory-mapped.

    Raises:
        OSError: if they cannot be stored there.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = banks / f"features-{digest}"

    def make() -> None:
        with whole_folder(folder) as temporary:
            # The space is allocated first, so that a full disk is noticed before the computation.
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
