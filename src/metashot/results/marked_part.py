"""The part of a text file between two lines, which is generated; the rest of the file is its author's."""

from pathlib import Path

from metashot.bad_input import BadInput
from metashot.files.paths import place_to_write, printable
from metashot.results.authors_files import read_text, rewrite

_BOM = "\ufeff"  # a byte order mark, which a file in UTF-8 may begin with


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
        rewrite(self.path, before + text + after, self._named)

    @property
    def _named(self) -> str:
        return f"{self.key}={printable(self.path)}"

    def _divided(self) -> tuple[str, str, str, str]:
        """What stands before the part, the part with its lines, what stands after it, and how its lines end."""
        text = read_text(self.path, self._named, f"a text file with {self.begin} and {self.end}")
        bom = _BOM if text.startswith(_BOM) else ""  # as some editors write it
        lines = text.removeprefix(bom).splitlines(keepends=True)
        begins, ends = (
            [place for place, line in enumerate(lines) if line.strip() == mark] for mark in (self.begin, self.end)
        )
        if len(begins) != 1 or len(ends) != 1 or begins > ends:
            raise BadInput(f"{self._named} does not have one line {self.begin} and after it one line {self.end}")
        newline = "\r\n" if lines[begins[0]].endswith("\r\n") else "\n"
        divided = (lines[: begins[0]], lines[begins[0] : ends[0] + 1], lines[ends[0] + 1 :])
        before, part, after = map("".join, divided)
        return bom + before, part, after, newline
