"""What is published about a data set, and how its official files are found on disk or fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.sources.getting.download import OfficialFile, download


@dataclass(frozen=True)
class Official:
    """Where a data set comes from and on what terms; the one place that says so."""

    title: str
    home: str
    licence: str
    files: tuple[OfficialFile, ...]  # those that can be fetched; the first ones suffice


def find(root: Path, places: Sequence[str]) -> Path | None:
    """The first of these places below `root` where there is a file, or a folder that is not empty."""
    for place in places:
        path = root / place
        if path.is_file() or (path.is_dir() and next(path.iterdir(), None) is not None):
            return path
    return None


def find_or_fetch(root: Path, places: Sequence[str], file: OfficialFile, folder: str) -> Path:
    """What is there under one of the names people have, or the official file, fetched to `root/folder`."""
    found = find(root, places)
    if found is not None:
        return found
    if not root.is_dir():
        raise BadInput(
            f"data.root={root} is not a folder; give the folder that data sets are kept in, or make it for {file.name}"
        )
    return download(file, root / folder)
