"""Builds banks: all items of a data source, drawn once and in parallel, in a folder that is created atomically.

The folder holds `<split>.npy` [items, *item_shape] for each split, ordered by class, and `manifest.json`, which describes
the sources of the items and is used to check whether the bank is up to date. The folder is written under a temporary name
and then renamed.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
import tokenize
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metashot.bad_input import BadInput
from metashot.files.outputs import atomic_file
from metashot.files.whole_folders import locked, make_once, whole_folder
from metashot.sources.getting.files import printable, stamps
from metashot.sources.root import naming_variable
from metashot.sources.source import PIXELS, DataSource
from metashot.sources.splitting import SPLITS

_FORMAT = 3  # version of the folder's format; a bank of another format is rebuilt
_PIECE_ITEMS, _PIECE_BYTES = 500, 2**24  # per job: small enough to balance cores and to fit in memory
_LISTED = 1000  # files up to which a manifest lists each one
_NAMED = 5  # files listed in a message about many
# The exceptions that reading a missing or damaged manifest or array header raises.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, tokenize.TokenError)

Piece = list[tuple[int, int, int, int]]  # (label, first item, item after the last, position in the split)


def build_bank(source: DataSource, root: Path, banks: Path) -> Path:
    """Build the bank of a data source unless it is up to date; safe to call from many processes at once.

    Args:
        source: the data source.
        root: the folder of data sets.
        banks: the folder of banks.

    Returns:
        The folder of the bank.

    Raises:
        BadInput: if the files of the source cannot be used, the bank cannot be written or memory runs out.
    """
    with naming_variable(root):
        return _built_once(source, root, banks)


def _built_once(source: DataSource, root: Path, banks: Path) -> Path:
    identity = source.identity(root) | {"format": _FORMAT}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    folder = banks / f"{source.name}-{digest}"
    if _is_current(folder, source, root):
        _complete(folder)
        return folder
    try:
        make_once(folder, lambda: _is_current(folder, source, root), lambda: _build(source, identity, root, folder))
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise _lacks_memory(source) from error
        raise _cannot_be_written(source, banks, error.strerror or str(error)) from error
    except MemoryError as error:
        raise _lacks_memory(source) from error
    return folder


def _lacks_memory(source: DataSource) -> BadInput:
    advice = ", or leave very large images out," if source.presented_as == PIXELS else ""
    return BadInput(
        f"there is too little memory to build the {_bank(source)} of {source.name}: close other programs{advice} and start "
        "again"
    )


def _bank(source: DataSource) -> str:
    return "image bank" if source.presented_as == PIXELS else "bank"


def _cannot_be_written(source: DataSource, banks: Path, reason: str) -> BadInput:
    return BadInput(
        f"the {_bank(source)} of {source.name} cannot be written to {banks}: {reason}; choose another folder with data.banks"
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def read_digests(folder: Path) -> dict[str, list[str]]:
    """Read the digest of each class of a bank, which does not depend on the order of the items.

    Args:
        folder: the bank's folder.

    Returns:
        The digests of each split, in the order of its classes.
    """
    manifest = read_manifest(folder)
    digests: dict[str, list[str]] = manifest.get("digests") or _digests(folder, manifest["splits"])
    return digests


def _complete(folder: Path) -> None:
    """Add digests to the manifest of a bank from before there were digests, if it is writable."""
    if "digests" in read_manifest(folder) or not os.access(folder, os.W_OK):
        return
    with locked(folder.parent / f".{folder.name}.lock"):
        manifest = read_manifest(folder)
        if "digests" not in manifest:  # another process may have added them in the meantime
            manifest["digests"] = _digests(folder, manifest["splits"])
            with atomic_file(folder / "manifest.json") as file:
                file.write(json.dumps(manifest).encode())


def _digests(folder: Path, splits: Mapping[str, Any]) -> dict[str, list[str]]:
    return {split: _of_classes(folder / f"{split}.npy", about["counts"]) for split, about in splits.items()}


def _of_classes(path: Path, counts: Sequence[int]) -> list[str]:
    """A digest of each class, independent of the order of its items, which differs between forms of a data set."""
    items = np.load(path, mmap_mode="r")
    digests, first = [], 0
    for count in counts:
        each = sorted(hashlib.blake2b(item.data, digest_size=8).digest() for item in items[first : first + count])
        digests.append(hashlib.blake2b(b"".join(each), digest_size=8).hexdigest())
        first += count
    return digests


def _is_current(folder: Path, source: DataSource, root: Path) -> bool:
    """Whether the bank is complete and its source's files are unchanged or no longer available."""
    try:
        manifest = read_manifest(folder)
        if not all(_is_whole(folder / f"{split}.npy", manifest["splits"][split], source) for split in SPLITS):
            return False
        if "digests" in manifest and not all(_are_digests(manifest, split) for split in SPLITS):
            return False
        files = source.files(root.resolve())  # absolute, because manifests compare paths
        return not files or _state(files) == manifest["files"]
    except _DAMAGE:
        return False  # missing or damaged: rebuild it


def _is_whole(path: Path, about: Mapping[str, Any], source: DataSource) -> bool:
    """Whether a split's array matches the manifest in size, dtype and shape; the content is not read."""
    if path.is_symlink() or path.stat().st_size != about["bytes"]:
        return False
    # np.load would take some damaged files for archives.
    items = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]
    counts = about["counts"]
    if not _are_texts(about["classes"], len(counts)) or not all(type(count) is int and count > 0 for count in counts):
        return False
    shape = (sum(counts), *(source.item_shape or about["item_shape"]))
    return bool(counts) and items.dtype == np.dtype(source.dtype) and items.flags.c_contiguous and items.shape == shape


def _are_digests(manifest: Mapping[str, Any], split: str) -> bool:
    return _are_texts(manifest["digests"][split], len(manifest["splits"][split]["classes"]))


def _are_texts(found: Any, count: int) -> bool:
    return isinstance(found, list) and len(found) == count and all(isinstance(one, str) for one in found)


def _state(files: Sequence[Path | str]) -> dict[str, Any]:
    """The sizes and modification times of files, to notice changes; only a digest of them if there are many files."""
    found = stamps(files)
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    listed = {"each": found} if len(found) <= _LISTED else {}
    return {"files": len(found), "bytes": sum(int(size) for _, size, _ in found), "digest": digest, **listed}


def _build(source: DataSource, identity: dict[str, Any], root: Path, folder: Path) -> None:
    started = time.perf_counter()
    with whole_folder(folder) as temporary:
        scratch = temporary / "scratch"
        scratch.mkdir()
        source.prepare(root, scratch)
        # Recorded before the files are read, so that a file that changes during the build makes the bank outdated.
        files = _state(source.files(root.resolve()))
        written = [_Split(source, split, temporary) for split in source.splits()]
        _allocate(written, source, folder.parent)
        _draw(source, written)
        shutil.rmtree(scratch)
        splits = {split.name: split.finished() for split in written}
        manifest = {
            "identity": identity,
            "files": files,
            "splits": splits,
            "digests": _digests(temporary, splits),
            "notes": list(source.notes),
            "skipped": [line for split in written for line in split.skipped],
            "remarks": [remark for split in written for remark in split.remarks],
            "seconds": round(time.perf_counter() - started, 1),
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest))
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    for line in build_notes(manifest):
        console.print(line)


class _Split:
    """One split while it is written; its array has the announced size at first and is truncated if items are unreadable."""

    def __init__(self, source: DataSource, split: str, folder: Path) -> None:
        self.name = split
        self.classes = source.splits()[split]
        self.announced = np.asarray(source.counts(split), dtype=np.int64)
        self.drawn = np.zeros(len(self.classes), dtype=np.int64)
        assert source.item_shape is not None  # `prepare` has been called
        self.item_shape = source.item_shape
        self.of_images = source.presented_as == PIXELS
        self.dtype = np.dtype(source.dtype)
        self.item_bytes = math.prod(source.item_shape) * self.dtype.itemsize
        self.path = folder / f"{split}.npy"
        self.skipped: list[str] = []
        self.remarks: list[tuple[str, str]] = []
        self.sums: list[tuple[int, int]] = []  # (position of a piece, checksum of its items)
        self.short: list[tuple[int, int, int]] = []  # incomplete pieces: (position, announced items, drawn items)
        with self.path.open("wb") as file:
            self._write_header(file, int(self.announced.sum()))
            self.start = file.tell()

    def pieces(self) -> Iterator[Piece]:
        """Divide the items into pieces, one per job."""
        limit = max(1, min(_PIECE_ITEMS, _PIECE_BYTES // self.item_bytes))
        piece: Piece = []
        room, place = limit, 0
        for label, count in enumerate(self.announced.tolist()):
            first = 0
            while first < count:
                last = min(count, first + room)
                piece.append((label, first, last, place))
                room, place, first = room - (last - first), place + last - first, last
                if not room:
                    yield piece
                    piece, room = [], limit
        if piece:
            yield piece

    def add(self, piece: Piece, result: "_Written") -> None:
        self.skipped += result.skipped
        self.remarks += result.remarks
        self.sums.append((piece[0][-1], result.checksum))
        for (label, first, last, place), drawn in zip(piece, result.counts, strict=True):
            self.drawn[label] += drawn
            if drawn < last - first:
                self.short.append((place, last - first, drawn))

    def finished(self) -> dict[str, Any]:
        """Close the gaps left by unreadable files and describe the split for the manifest."""
        with self.path.open("r+b") as file:
            if self.short:
                self._close_gaps(file)
            os.fsync(file.fileno())
        kept = np.flatnonzero(self.drawn)
        for label in np.flatnonzero(self.drawn == 0).tolist():
            self.skipped.append(f"class {self.classes[label]} of the {self.name} split: it has no image that can be read")
        return {
            "classes": [self.classes[label] for label in kept],
            "counts": self.drawn[kept].tolist(),
            "content": hashlib.sha256(json.dumps(sorted(self.sums)).encode()).hexdigest(),
            "bytes": self.path.stat().st_size,
            **self._form(),
        }

    def _form(self) -> dict[str, Any]:
        """The dtype and shape of items; left out for images, to keep their manifests unchanged."""
        if self.of_images:
            return {}
        return {"dtype": self.dtype.name, "item_shape": list(self.item_shape)}

    def _close_gaps(self, file: Any) -> None:
        end = 0  # items that are in their final position
        place = 0
        for gap, announced, drawn in [*sorted(self.short), (int(self.announced.sum()), 0, 0)]:
            self._move(file, place, end, gap + drawn - place)
            end += gap + drawn - place
            place = gap + announced
        file.truncate(self.start + end * self.item_bytes)
        file.seek(0)
        self._write_header(file, end)
        assert file.tell() == self.start

    def _move(self, file: Any, source: int, target: int, count: int) -> None:
        if source == target:
            return
        step = max(1, _PIECE_BYTES // self.item_bytes)
        for first in range(0, count, step):
            items = min(step, count - first)
            content = os.pread(file.fileno(), items * self.item_bytes, self.start + (source + first) * self.item_bytes)
            _write(file.fileno(), content, self.start + (target + first) * self.item_bytes)

    def _write_header(self, file: Any, items: int) -> None:
        shape = (items, *self.item_shape)
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Written:
    counts: list[int]  # items of each entry of a piece
    skipped: list[str]
    remarks: list[tuple[str, str]]
    checksum: int


def _draw(source: DataSource, splits: list[_Split]) -> None:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(
            _cores(), get_context("spawn"), initializer=_begin_worker, initargs=(os.getpid(), source)
        ) as pool,
    ):
        total = sum(int(split.announced.sum()) for split in splits)
        bar = progress.add_task(f"building the {_bank(source)} of {source.name}", total=total)
        jobs: dict[Future[_Written], tuple[_Split, Piece]] = {}
        # Workers start here; Ctrl-C must not reach them before they have set their own handling of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _hidden_main():
                for split in splits:
                    for piece in split.pieces():
                        jobs[pool.submit(_write_piece, split.name, piece, split.path, split.start)] = (split, piece)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            while jobs:
                done, _ = wait(jobs, return_when="FIRST_COMPLETED")
                for job in done:
                    split, piece = jobs.pop(job)
                    split.add(piece, job.result())
                    progress.advance(bar, sum(last - first for _, first, last, _ in piece))
        except BrokenProcessPool as error:
            raise _lacks_memory(source) from error  # workers are killed when memory runs out
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for split in splits:  # an order that does not depend on the speed of the workers
        split.skipped.sort()
        split.remarks.sort()


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Start workers that do not import the main script, which they do not need. A user's script without
    `if __name__ == "__main__"` would otherwise run again in each of them, and wait there for the bank being built."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_source: DataSource  # the worker's source, passed once per worker rather than with every piece


def _begin_worker(parent: int, source: DataSource) -> None:
    """Set up a worker: it ignores Ctrl-C, on which its parent stops the pool, and exits when its parent does."""
    global _source
    _source = source
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_piece(split: str, piece: Piece, path: Path, start: int) -> _Written:
    """Draw the items of a piece and write them to their positions; runs in a worker."""
    shape, dtype = _source.item_shape, np.dtype(_source.dtype)
    assert shape is not None
    item_bytes = math.prod(shape) * dtype.itemsize
    counts: list[int] = []
    skipped: list[str] = []
    remarks: list[tuple[str, str]] = []
    checksum = 0
    with path.open("r+b") as file:
        for label, first, last, place in piece:
            drawn = _source.draw(split, label, first, last)
            assert drawn.items.dtype == dtype
            assert drawn.items.shape[1:] == tuple(shape)
            content = np.ascontiguousarray(drawn.items).reshape(-1).view(np.uint8).data
            _write(file.fileno(), content, start + place * item_bytes)
            checksum = zlib.crc32(content, checksum)
            counts.append(len(drawn.items))
            skipped += drawn.skipped
            remarks += drawn.remarks
    return _Written(counts, skipped, remarks, checksum)


def _write(file: int, content: bytes | memoryview, offset: int) -> None:
    view = memoryview(content)
    while len(view):
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def _allocate(splits: list[_Split], source: DataSource, banks: Path) -> None:
    """Allocate all space at once, so that a full disk is noticed before the work and not in the middle of it."""
    free = shutil.disk_usage(banks).free
    sizes = {split.path: int(split.announced.sum()) * split.item_bytes for split in splits}
    try:
        for split in splits:
            if sizes[split.path]:
                with split.path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), split.start, sizes[split.path])
    except OSError as error:
        if error.errno == errno.ENOSPC:
            wanted = f"{sum(sizes.values()) / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB are free"
            raise _cannot_be_written(source, banks, f"{error.strerror} ({wanted})") from error
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # unsupported by the file system: writing may fail later
            raise


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def build_notes(manifest: dict[str, Any]) -> list[str]:
    """Summarise the notes of a build for the user.

    Args:
        manifest: the bank's manifest.

    Returns:
        The source's notes, one line per kind of remark, and one line about the files that were left out.
    """
    lines = list(manifest["notes"])
    for remark, count in Counter(remark for _, remark in manifest["remarks"]).items():
        first = next(name for name, other in manifest["remarks"] if other == remark)
        lines.append(f"{remark} ({count} {'image' if count == 1 else 'images, first'}: {printable(first)})")
    skipped = manifest["skipped"]
    if skipped:
        more = f"; and {len(skipped) - _NAMED} more, all in the bank's manifest.json" if len(skipped) > _NAMED else ""
        lines.append(f"{len(skipped)} left out: {'; '.join(skipped[:_NAMED])}{more}")
    return lines
