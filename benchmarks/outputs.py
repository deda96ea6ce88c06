"""Files that benchmarks write: checked before anything is measured, and replaced as a whole."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from metashot.files.outputs import atomic_file


def refuse_json(parser: ArgumentParser, path: Path | None) -> None:
    """Refuse a path where no file can be, or where another file is than an earlier measurement."""
    if path is None:
        return
    if not path.resolve().parent.is_dir():
        parser.error(f"--json {path}: its folder does not exist")
    if not path.exists():
        return
    try:
        earlier = "machine" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        earlier = False
    if not earlier:
        parser.error(f"--json {path}: this file is no earlier measurement, and would be replaced")


def write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


class Between:
    """The part of a text file between two lines, which a benchmark replaces.

    Args:
        path: The file.
        begin: The line before the part.
        end: The line after it.

    Raises:
        ValueError: The file does not have each line once, in this order.
    """

    def __init__(self, path: Path, begin: str, end: str) -> None:
        self.path, self.begin, self.end = path, begin, end
        self._divided()

    def replace(self, new: str) -> None:
        before, newline, after = self._divided()
        text = f"{self.begin}\n\n{new}\n\n{self.end}\n".replace("\n", newline)
        with atomic_file(self.path) as file:
            file.write((before + text + after).encode())

    def _divided(self) -> tuple[str, str, str]:
        try:
            text = self.path.read_bytes().decode()
        except FileNotFoundError as error:
            raise ValueError("there is no such file") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"it is no text file in UTF-8 ({type(error).__name__})") from error
        lines = text.splitlines(keepends=True)
        begins, ends = (
            [place for place, line in enumerate(lines) if line.strip() == mark] for mark in (self.begin, self.end)
        )
        if len(begins) != 1 or len(ends) != 1 or begins > ends:
            raise ValueError(f"it does not have one line {self.begin} and after it one line {self.end}")
        newline = "\r\n" if lines[begins[0]].endswith("\r\n") else "\n"
        return "".join(lines[: begins[0]]), newline, "".join(lines[ends[0] + 1 :])


def between(parser: ArgumentParser, path: Path | None, begin: str, end: str) -> Between | None:
    """The part of the file that `--markdown` names, which is refused if it has no such part."""
    if path is None:
        return None
    try:
        return Between(path, begin, end)
    except ValueError as error:
        parser.error(f"--markdown {path}: {error}")
