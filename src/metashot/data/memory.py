"""How much memory there is, and episodes that cannot fit into it, refused before it is taken."""

import contextlib
import os
import resource
from pathlib import Path

from metashot.bad_input import BadInput

_OF_A_CONTAINER = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
FLOAT = 4  # bytes


def all_memory() -> int:
    """The bytes that this process could have at most: of the machine, of its container, by its shell's limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _OF_A_CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # there is no such limit
            limits.append(int(Path(path).read_text()))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    return min(limits)


def refuse_too_many_episodes(key: str, tasks: int, inputs: int, numbers: int) -> None:
    """Refuse so many tasks at once if their inputs alone need more memory than there is.

    Args:
        key: what decides how many tasks are answered together.
        tasks: how many these are.
        inputs: the inputs of a task, in its support set and its queries.
        numbers: what one input consists of.

    Raises:
        BadInput: with the memory that would be needed and that there is.
    """
    needed, there = tasks * inputs * numbers * FLOAT, all_memory()
    if needed > there:
        raise BadInput(
            f"{key}={tasks} cannot be used: so many tasks of {inputs:,} inputs of {numbers:,} numbers need "
            f"{needed / 1e9:,.0f} GB at once for these alone, and there are {there / 1e9:,.0f} GB of memory: lower {key}"
        )
