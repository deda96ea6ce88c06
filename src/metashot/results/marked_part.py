"""The part of a text file between two lines, which is generated; the rest of the file is its author's."""

import os
import shutil
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.files.outputs import atomic_file
from metashot.files.paths import place_to_write, printable, read_file, reason_of

_MOST_BYTES = 2**24


class MarkedPart:
    """A part of a text file.

    Args:
        path: The file.
        begin: The line before the part.
        end: The line after it.
        key: The key that names the file, for messages.

    Raises:
        BadInput: The file does not have each line once, in this order.
    """

    def __init__(self, path: Path, begin: str, end: str, key: str) -> None:
        self.path, self.begin, self.end, self.key = place_to_write(str(path), key), begin, end, key
        self._divided()

    @property
    def text(self) -> str:
        """What stands there now, without empty lines around it."""
        _, part, _, _ = self._divided()
        return "\n".join(part.strip().splitlines()[1:-1]).strip()

    def replace(self, new: str) -> None:
        """Put another text there. The rest of the file stays as it is; a link stays one, and the file keeps its mode.

        Raises:
            BadInput: The file has lost its lines meanwhile, or cannot be written.
        """
        before, _, after, newline = self._divided()
        text = f"{self.begin}\n\n{new}\n\n{self.end}\n".replace("\n", newline)
        target = Path(os.path.realpath(self.path))
        try:
            with atomic_file(target) as file:
                shutil.copymode(target, file.name)
                file.write((before + text + after).encode())
        except OSError as error:
            raise BadInput(f"{self.key}={printable(self.path)} cannot be written: {reason_of(error)}") from error

    def _divided(self) -> tuple[str, str, str, str]:
        """What stands before the part, the part with its lines, what stands after it, and how its lines end."""
        named = f"{self.key}={printable(self.path)}"
        try:
            text = read_file(self.path, _MOST_BYTES).decode()
        except FileNotFoundError as error:
            raise BadInput(f"{named} does not exist; allowed: a text file with {self.begin} and {self.end}") from error
        except OSError as error:
            raise BadInput(f"{named} cannot be read: {reason_of(error)}") from error
        except UnicodeDecodeError as error:
            raise BadInput(f"{named} is no text file in UTF-8") from error
        lines = text.splitlines(keepends=True)
        begins, ends = (
            [place for place, line in enumerate(lines) if line.strip() == mark] for mark in (self.begin, self.end)
        )
        if len(begins) != 1 or len(ends) != 1 or begins > ends:
            raise BadInput(f"{named} does not have one line {self.begin} and after it one line {self.end}")
        newline = "\r\n" if lines[begins[0]].endswith("\r\n") else "\n"
        divided = (lines[: begins[0]], lines[begins[0] : ends[0] + 1], lines[ends[0] + 1 :])
        before, part, after = map("".join, divided)
        return before, part, after, newline
