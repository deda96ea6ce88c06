"""Memory: what to say when there is too little of it, and how to keep it.

What glibc gives back after every tensor has to be asked for and cleared again, which is a third of the time of a step.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import torch

from metashot.bad_input import BadInput, GaveUp
from metashot.checkpoints.stored import newest_intact

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them
_KEEP = 2**30  # bytes: larger than any tensor of a step on a CPU


def keep_freed_memory() -> bool:
    """Let the process reuse what it frees, where the C library is glibc; whether it does."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(name, _KEEP) == 1 for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))


@contextlib.contextmanager
def enough_memory(checkpoints: Path | None = None) -> Iterator[None]:
    """Say what to lower where an allocation fails: bad input, unless the run has trained and its checkpoints are kept."""
    try:
        yield
    except Exception as error:
        lack = lack_of_memory(error)
        if lack is None:
            raise
        reason = (str(lack).splitlines() or ["an allocation failed"])[0]
        lower = (
            f"too little memory: {reason}; lower data.tasks_per_step, data.tasks_per_evaluation_step, data.queries or the "
            "backbone's size, or give algo.checkpoint_inner_steps=true to a gradient-based learner"
        )
        whole = newest_intact(checkpoints) if checkpoints is not None and checkpoints.is_dir() else None
        if whole is None:
            raise BadInput(lower) from error
        raise GaveUp(f"{lower}; the last intact checkpoint is {whole}") from error


def lack_of_memory(error: BaseException | None) -> BaseException | None:
    """The failed allocation that an error is or comes from: Hydra wraps what fails while something is built."""
    while error is not None:
        # torch's allocator for a CPU raises nothing more special than a RuntimeError.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: " in str(error):
            return error if error.__cause__ is None else lack_of_memory(error.__cause__) or error
        error = error.__cause__ or error.__context__
    return None
