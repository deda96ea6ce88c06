"""The files beside the folder of a run, a note of what its training took and a log: those of others are never written to."""

import json
import os
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.checkpoints.stored import CONFIG
from metashot.files.paths import printable, read_file
from metashot.results.trainings import Training

_NOTED = {"seconds", "processor_seconds", "peak_memory", "machine", "commit"}  # the keys of every note, also of older ones
_MOST_BYTES = 2**16  # of a note


def refuse_foreign(training: Training) -> None:
    """Refuse a note or a log that this command did not write, before one of them is replaced or appended to.

    Raises:
        BadInput: there is such a file.
    """
    path = foreign_file(training)
    if path is not None:
        what = "replaced" if path == training.note else "appended to"
        raise BadInput(
            f"runs: {printable(path)} would be {what}, and this command did not write it: give another folder for runs=, or "
            "move that file away"
        )


def foreign_file(training: Training) -> Path | None:
    """The note or the log of a training that this command did not write; None if there is none."""
    # The note of a training that is done is read alone.
    if not training.is_done and os.path.lexists(training.note) and not _is_note(training):
        return training.note
    # A log names nobody, and is ours where its note or its run is: both are there before it has a line.
    log = training.log
    is_ours = (training.folder / CONFIG).is_file() or _is_note(training)
    return log if log.is_file() and log.stat().st_size and not is_ours else None


def _is_note(training: Training) -> bool:
    try:
        content = json.loads(read_file(training.note, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= _NOTED
