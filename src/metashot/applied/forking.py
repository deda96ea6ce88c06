"""Locks that a process which is forked can use, too: whatever another thread held, its copy would be locked for ever."""

import os
import threading
import weakref

_SECONDS = 10.0  # that a fork waits for a lock; the thread that forks may hold it itself
_LOCKS: "weakref.WeakSet[threading.Lock]" = weakref.WeakSet()
_FORK = threading.Lock()
_held: list[threading.Lock] = []  # while this process forks


def lock_for_forks() -> threading.Lock:
    """A new lock for which a fork waits, so that what it guards is whole in the child."""
    lock = threading.Lock()
    _LOCKS.add(lock)
    return lock


def _before_fork() -> None:
    _FORK.acquire()
    for lock in list(_LOCKS):
        if lock.acquire(timeout=_SECONDS):
            _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop().release()
    _FORK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
