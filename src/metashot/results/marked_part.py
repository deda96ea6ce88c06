"""The part of a text file between two lines, which is generated; the rest of the file is its author's."""

from pathlib import Path

from metashot.bad_input import BadInput
from metashot.files.outputs import atomic_file
from metashot.files.paths import place_to_write, printable, reason_of

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
        before, _, after = self._divided()
        whole = self.path.read_bytes().decode()
        return "\n".join(whole[len(before) : len(whole) - len(after)].strip().splitlines()[1:-1]).strip()

    def replace(self, new: str) -> None:
        """Put another text there."""
        before, newline, after = self._divided()
        text = f"{self.begin}\n\n{new}\n\n{self.end}\n".replace("\n", newline)
        with atomic_file(self.path) as file:
            file.write((before + text + after).encode())

    def _divided(self) -> tuple[str, str, str]:
        named = f"{self.key}={printable(self.path)}"
        try:
            text = self.path.read_bytes().decode()
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
        return "".join(lines[: begins[0]]), newline, "".join(lines[ends[0] + 1 :])
