"""How much memory there is, and a check that refuses episodes too large for it before any is allocated."""

import contextlib
import os
import resource
from pathlib import Path

from metashot.bad_input import BadInput

_OF_A_CONTAINER = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
FLOAT = 4  # bytes


def all_memory() -> int:
    """The most bytes that this process can use: the least of the machine's memory, its container's limit and its shell's."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _OF_A_CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # there is no such limit
            limits.append(int(Path(path).read_text()))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    return min(limits)


def refuse_too_many_episodes(key: str, tasks: int, inputs: int, numbers: int) -> None:
    """Refuse a number of concurrent tasks whose inputs alone need more memory than there is.

    Args:
        key: the configuration key that sets the number of tasks.
        tasks: the number of tasks processed together.
        inputs: the number of inputs of a task, support set and queries together.
        numbers: the size of one input, in floats.

    Raises:
        BadInput: if the inputs do not fit; the message states the memory needed and the memory available.
    """
    needed, there = tasks * inputs * numbers * FLOAT, all_memory()
    if needed > there:
        raise BadInput(
            f"{key}={tasks} cannot be used: {tasks:,} tasks with {inputs:,} inputs of {numbers:,} numbers need "
            f"{needed / 1e9:,.0f} GB at once, and there are {there / 1e9:,.0f} GB of memory: lower {key}"
        )
