"""Files that benchmarks write: checked before anything is measured, and replaced as a whole."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from metashot.bad_input import BadInput
from metashot.files.outputs import atomic_file
from metashot.results.marked_part import MarkedPart


def refuse_json(parser: ArgumentParser, path: Path | None) -> None:
    """Refuse a path where no file can be, or where another file is than an earlier measurement."""
    if path is None:
        return
    if not path.resolve().parent.is_dir():
        parser.error(f"--json {path}: its folder does not exist")
    if path.is_dir():
        parser.error(f"--json {path}: this is a folder; give the name of a file")
    if not path.exists():
        return
    try:
        earlier = "machine" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        earlier = False
    if not earlier:
        parser.error(f"--json {path}: this file is no earlier measurement, and would be replaced: give a new name")


def write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def between(parser: ArgumentParser, path: Path | None, begin: str, end: str) -> MarkedPart | None:
    """The part of the file that `--markdown` names, which is refused if it has no such part."""
    if path is None:
        return None
    try:
        return MarkedPart(path, begin, end, "--markdown")
    except BadInput as error:
        parser.error(str(error))
