"""Text files of an author, of which a part is generated: how they are read and written again."""

import os
import shutil
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.files.outputs import atomic_file
from metashot.files.paths import read_file, reason_of

_MOST_BYTES = 2**24


def read_text(path: Path, named: str, allowed: str) -> str:
    """The text of a file, with its line ends as they are.

    Args:
        path: The file.
        named: The key and the file, for messages.
        allowed: What may be given instead of a file that does not exist.

    Raises:
        BadInput: It does not exist, cannot be read, or is no text.
    """
    try:
        return read_file(path, _MOST_BYTES).decode()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"{named} does not exist; allowed: {allowed}") from error
    except OSError as error:
        raise BadInput(f"{named} cannot be read: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{named} is no text file in UTF-8") from error


def rewrite(path: Path, text: str, named: str) -> None:
    """Replace the text of a file, which exists. A link stays one, and the file keeps its mode.

    Raises:
        BadInput: It cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        with atomic_file(target) as file:
            shutil.copymode(target, file.name)
            file.write(text.encode())
    except OSError as error:
        raise BadInput(f"{named} cannot be written: {reason_of(error)}") from error
