"""What applying a learner leaves behind is written whole or not at all."""

import contextlib
import os
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.data.files import shown
from metashot.paths import place_to_write


def write_whole(path: Path, content: bytes, key: str) -> None:
    """Under a temporary name first; `key` says what to change where that fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise BadInput(f"{key}={shown(path)} cannot be written: {error.strerror or error}; choose another file") from error


def named_file(given: str | os.PathLike[str], key: str, example: str) -> Path:
    """The file that is to be written."""
    path = place_to_write(given, key)
    if not path.name or path.is_dir():
        raise BadInput(f"{key}={given} is a folder; allowed: the name of a file, such as {key}={example}")
    return path
