"""A training is claimed with a lock, so that two calls are never at the same one."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from metashot.bad_input import BadInput
from metashot.files.paths import open_lock, printable, reason_of
from metashot.results.not_measured import Busy
from metashot.results.trainings import Training


@contextmanager
def claimed(training: Training) -> Iterator[int]:
    """Keep other calls from the same training; the open lock, which its commands hold, too."""
    place = training.folder.with_name(f".{training.folder.name}.lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        opened = open_lock(place)
    except OSError as error:
        raise BadInput(
            f"runs: {printable(place)} cannot be made: {reason_of(error)}; give another folder for runs="
        ) from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(training.name, f"another call is at {training.name}") from None
        except OSError as error:
            raise BadInput(f"runs: {printable(place)} cannot be locked: {reason_of(error)}") from error
        yield lock.fileno()
