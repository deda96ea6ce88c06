"""Memory that glibc gives back after every tensor has to be asked for and cleared again: a third of the time of a step."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them
_KEEP = 2**30  # bytes: larger than any tensor of a step on a CPU


def keep_freed_memory() -> bool:
    """Let the process reuse what it frees, where the C library is glibc; whether it does."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(name, _KEEP) == 1 for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
