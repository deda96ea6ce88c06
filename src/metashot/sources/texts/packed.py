"""The official files of a set of texts, whether they are packed or not."""

from collections.abc import Sequence
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.getting.files import Files, Folder, Zip, unpack_tar

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def places(folders: Sequence[str], names: Sequence[str]) -> list[str]:
    """Usual places of some files: each name in each folder, of which that named `text` is for sets of texts."""
    parents = [*folders, *(str(Path("text", folder)) for folder in folders), "text", ""]
    return [str(Path(parent, name)) for parent in parents for name in names]


def open_packed(path: Path, scratch: Path) -> Files:
    """Open a folder, or a .zip or .tar archive.

    Args:
        path: the folder or the archive.
        scratch: an empty folder, into which a .tar archive is unpacked.

    Raises:
        BadInput: if it cannot be opened.
    """
    if path.is_dir():
        return Folder(path)
    if path.name.lower().endswith(_TAR):
        unpack_tar(path, scratch)
        return Folder(scratch)
    return Zip(path)


def member(files: Files, name: str) -> str | None:
    """The file of this name in the outermost folder that has one; None if there is none."""
    found = [path for path in files.names() if path.rpartition("/")[2] == name]
    return min(found, key=lambda path: (path.count("/"), path), default=None)


def refuse_missing(path: Path, name: str, home: str) -> BadInput:
    return BadInput(f"{printable(path)} has no {name}: it is not whole; fetch it again from {home}")
