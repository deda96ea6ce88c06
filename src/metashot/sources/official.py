"""What is published about a data set, and how its official files are found on disk or downloaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.getting.download import OfficialFile, download


@dataclass(frozen=True)
class Official:
    """The origin and the terms of a data set; this is the only place that states them."""

    title: str
    home: str
    licence: str
    files: tuple[OfficialFile, ...]  # the files that can be downloaded; the first ones are sufficient


def find(root: Path, places: Sequence[str]) -> Path | None:
    """Find the first existing file or non-empty folder.

    Args:
        root: the folder of data sets.
        places: paths below `root`, in the order of preference.

    Returns:
        Its path; None if none of them exists.
    """
    for place in places:
        path = root / place
        if path.is_file() or (path.is_dir() and next(path.iterdir(), None) is not None):
            return path
    return None


def find_or_fetch(root: Path, places: Sequence[str], file: OfficialFile, folder: str) -> Path:
    """Find a data set under one of its usual names, or download the official file.

    Args:
        root: the folder of data sets.
        places: paths below `root`, in the order of preference.
        file: the official file.
        folder: the folder below `root` to download to.

    Returns:
        The path of the file or folder.

    Raises:
        BadInput: if `root` is not a folder or the download fails.
    """
    found = find(root, places)
    if found is not None:
        return found
    refuse_missing_root(root, file.name)
    return download(file, root / folder)


def refuse_missing_root(root: Path, wanted: str) -> None:
    """Refuse a `data.root` that is not a folder.

    Args:
        root: the folder that the user gave.
        wanted: the name of what would be downloaded to it.

    Raises:
        BadInput: if it is not a folder.
    """
    if not root.is_dir():
        raise BadInput(
            f"data.root={printable(root)} is not a folder; give the folder that data sets are kept in, or make it "
            f"for {wanted}"
        )
