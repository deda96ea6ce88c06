"""The images of one split as one contiguous `uint8` tensor, memory-mapped from a folder that is built once.

A bank's folder holds `<split>.npy` [images, channels, height, width] for each split, class by class, and `manifest.json`,
which says what went in. The folder is written under a temporary name and renamed when it is whole.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from metashot.bad_input import BadInput

_CHUNKS = 64  # pieces a split is drawn in: enough to balance the cores, few enough to cost nothing


class DataSource(Protocol):
    """One data set: its name, what its images look like, and how to draw or decode them."""

    name: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    def splits(self) -> dict[str, list[str]]:
        """The class names of each split."""

    def counts(self, split: str) -> list[int]:
        """Images of each class, in the order of `splits()`."""

    def draw(self, split: str, first: int, last: int) -> NDArray[np.uint8]:
        """The images [N, channels, height, width] of the classes [first, last)."""

    def identity(self) -> dict[str, Any]:
        """All that decides what the images are; another identity is another bank."""


class ImageBank:
    """The images of one split, class by class, on the device that will use them."""

    def __init__(self, images: Tensor, classes: list[str], images_per_class: NDArray[np.int64]) -> None:
        self.images = images  # uint8 [images, channels, height, width]
        self.classes = classes
        self.images_per_class = images_per_class

    @classmethod
    def open(cls, folder: Path, split: str) -> "ImageBank":
        """Map one split of a built bank into memory; nothing is read before it is used."""
        manifest = _read_manifest(folder)
        described = manifest["splits"][split]
        images = np.load(folder / f"{split}.npy", mmap_mode="c")  # read-only files; torch wants writable memory
        return cls(torch.from_numpy(images), described["classes"], np.asarray(described["counts"], dtype=np.int64))

    def to(self, device: torch.device) -> "ImageBank":
        return ImageBank(self.images.to(device), self.classes, self.images_per_class)

    def fits(self, device: torch.device) -> bool:
        """Whether the images leave a device at least half of its free memory for the work."""
        if device.type != "cuda":
            return device.type == "cpu"  # where they are mapped and not copied
        free, _ = torch.cuda.mem_get_info(device)
        return self.images.nbytes < free / 2

    def gather(self, indices: NDArray[np.int64]) -> Tensor:
        """The images at `indices`, scaled to [0, 1]: float32 [*indices.shape, channels, height, width]."""
        flat = torch.from_numpy(indices.reshape(-1)).to(self.images.device)
        return self.images[flat].reshape(*indices.shape, *self.images.shape[1:]).float().div_(255)


def build_bank(source: DataSource, root: Path) -> Path:
    """The folder of the source's bank below `root`, built first if it is not there; safe to call from many processes."""
    identity = source.identity()
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    folder = root / f"{source.name}-{digest}"
    if _is_whole(folder):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{folder.name}.lock"):
            if not _is_whole(folder):  # another process may have built it while this one waited
                _build(source, identity, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(
            f"the image bank cannot be written to {root}: {reason}; choose another folder with data.banks"
        ) from error
    return folder


def _build(source: DataSource, identity: dict[str, Any], folder: Path) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.building-*"):  # of a build that was killed; the lock is ours
        shutil.rmtree(leftover)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.building-", dir=folder.parent))
    try:
        described = _draw_splits(source, temporary)
        (temporary / "manifest.json").write_text(json.dumps({"identity": identity, "splits": described}))
        temporary.chmod(0o755)
        if folder.exists():  # damaged, or it would have been used
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _draw_splits(source: DataSource, folder: Path) -> dict[str, Any]:
    described: dict[str, Any] = {}
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    console = Console(stderr=True)
    with (
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
        ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_live_and_die_with, initargs=(os.getpid(),)
        ) as pool,
    ):
        places: dict[Future[NDArray[np.uint8]], tuple[NDArray[np.uint8], int]] = {}
        for split, classes in source.splits().items():
            counts = np.asarray(source.counts(split), dtype=np.int64)
            first_image = np.concatenate([[0], np.cumsum(counts)])
            images = open_memmap(  # type: ignore[no-untyped-call]
                folder / f"{split}.npy", mode="w+", dtype=np.uint8, shape=(int(counts.sum()), *source.image_shape)
            )
            described[split] = {
                "classes": classes,
                "counts": counts.tolist(),
                "bytes": (folder / f"{split}.npy").stat().st_size,
            }
            edges = np.unique(np.linspace(0, len(classes), _CHUNKS + 1, dtype=int))
            for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
                places[pool.submit(source.draw, split, first, last)] = (images, int(first_image[first]))
        task = progress.add_task(f"building the image bank {source.name}", total=len(places))
        try:
            for done in as_completed(places):
                images, start = places.pop(done)
                drawn = done.result()
                images[start : start + len(drawn)] = drawn
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return described


def _live_and_die_with(parent: int) -> None:
    """A worker leaves Ctrl-C to its parent, which stops the pool, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def _is_whole(folder: Path) -> bool:
    try:
        splits = _read_manifest(folder)["splits"]
        return all((folder / f"{split}.npy").stat().st_size == described["bytes"] for split, described in splits.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # not there, or damaged: built again


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
