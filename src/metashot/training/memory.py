"""Out-of-memory messages, and reuse of freed memory.

By default glibc returns the memory of large freed tensors to the system. Requesting and clearing it again takes a third of
the time of a training step.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import torch

from metashot.bad_input import BadInput, GaveUp
from metashot.checkpoints.stored import newest_intact

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameter numbers of mallopt
_KEEP = 2**30  # bytes, more than any tensor of a training step on a CPU


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for reuse. Returns whether it does; other C libraries are left alone."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(name, _KEEP) == 1 for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))


@contextlib.contextmanager
def enough_memory(checkpoints: Path | None = None) -> Iterator[None]:
    """Turn a failed allocation into an error that names the settings to lower.

    Args:
        checkpoints: the run's folder of checkpoints, if there is one.

    Raises:
        BadInput: if an allocation fails and there is no intact checkpoint.
        GaveUp: if an allocation fails and there is an intact checkpoint, which the message names.
    """
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
    """Find the failed allocation in the causes of an error, since Hydra wraps errors raised while it builds an object."""
    while error is not None:
        # torch's CPU allocator raises a plain RuntimeError.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: " in str(error):
            return error if error.__cause__ is None else lack_of_memory(error.__cause__) or error
        error = error.__cause__ or error.__context__
    return None
