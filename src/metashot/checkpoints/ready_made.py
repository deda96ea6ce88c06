"""The ready-made learners, which come with the package and are named in place of a checkpoint: `ckpt=photos`."""

import os
from collections.abc import Mapping
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.files.paths import printable

FOLDER = Path(__file__).resolve().parent.parent / "learners"
# What each is for, as help and messages say it.
READY_MADE: Mapping[str, str] = {
    "drawings": "drawings, handwriting and printed characters",
    "photos": "photographs",
    "text": "texts in English",
}


def ready_made(given: str | os.PathLike[str], key: str) -> Path | None:
    """The checkpoint of the ready-made learner with this name; None if no learner has it.

    Args:
        given: what was given for a checkpoint.
        key: the configuration key with this value, for messages.

    Raises:
        BadInput: the name also stands for a run or a file of the user, or the learner cannot be used for this key.
    """
    if not isinstance(given, str) or given not in READY_MADE:
        return None
    own = Path(given)
    if own.is_file() or (own / "checkpoints").is_dir():
        raise BadInput(
            f"{key}={given} is a ready-made learner, and there is also {printable(own.resolve())}: give {key}=./{given} for "
            "the latter, or use the learner in another working folder"
        )
    if key == "resume":
        raise BadInput(
            f"resume={given} is a ready-made learner, whose training has ended: start from it with init_from={given}"
        )
    return FOLDER / f"{given}.ckpt"


def is_ready_made(checkpoint: Path) -> bool:
    """Whether a checkpoint lies in the package, where nothing may be written."""
    return checkpoint.resolve().parent == FOLDER
