"""The files of a data set in a folder or an archive: read by name, unpacked safely, and checked for changes."""

import contextlib
import errno
import functools
import lzma
import os
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from metashot.bad_input import BadInput
from metashot.files.paths import Walk, open_file, read_file
from metashot.files.paths import printable as printable

LARGEST_FILE = 10**9  # bytes; image files are far smaller, "zip bombs" are larger
_JUNK = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}  # besides hidden files
_UTF8_NAME = 0x800  # flag bits of a zip member
_ENCRYPTED = 0x1
# The exceptions that zipfile and tarfile raise for a damaged file.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
)
_DAMAGE_ERRNO = (None, errno.EINVAL)  # of an OSError from a decompressor, or from seeking to a negative position


class Files(Protocol):
    """The files of a folder or an archive, by their relative POSIX paths inside it."""

    @property
    def path(self) -> Path:
        """The folder or the archive."""

    def names(self) -> list[str]:
        """All files, sorted, without hidden files and those that operating systems add."""

    def read(self, name: str) -> bytes:
        """The content of one file."""


class Folder:
    """The files below a folder; links are followed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(name for name, entry in _walk(self.path) if entry.is_file())

    def others(self) -> list[str]:
        """Entries that are not regular files: pipes, sockets and devices."""
        return sorted(name for name, entry in _walk(self.path) if not entry.is_file())

    def folders(self, inside: str = "") -> list[str]:
        """The names of the direct subfolders of the folder `inside`, including empty ones."""
        try:
            with os.scandir(self.path / inside) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir() and not is_junk(entry.name))
        except OSError as error:
            raise _unreadable(self.path / inside, error) from error

    def read(self, name: str) -> bytes:
        try:
            return read_file(self.path / name, LARGEST_FILE)
        except OSError as error:
            raise _unreadable(self.path / name, error) from error


class Zip:
    """The files of a zip archive, which each process opens when it first reads from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._stamp = _changed(path.stat())  # an archive that was replaced has to be opened again
        except OSError as error:
            raise _unreadable(path, error) from error

    def names(self) -> list[str]:
        return list(self._opened()[1])

    def read(self, name: str) -> bytes:
        archive, members = self._opened()
        if name not in members:
            raise BadInput(f"{printable(self.path)} has no file {name!r}")
        member, what = members[name], f"{printable(self.path)}: its member {name!r}"
        try:
            with archive.open(member) as file:
                return file.read(member.file_size)  # the size limits a member that is larger than it declares
        except NotImplementedError as error:
            raise BadInput(
                f"{what} is packed in a way that cannot be read here ({error}); unpack the archive and give the folder"
            ) from error
        except DAMAGE as error:
            raise _damaged(what, error) from error
        except OSError as error:
            raise (_damaged(what, error) if error.errno in _DAMAGE_ERRNO else _unreadable(self.path, error)) from error

    def _opened(self) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
        return _open_zip(self.path, self._stamp, os.getpid())


def open_files(path: Path) -> Folder | Zip:
    """Open a folder or a .zip archive.

    Args:
        path: the folder or the archive.

    Returns:
        Its files.

    Raises:
        BadInput: if it is neither or does not exist.
    """
    if path.is_dir():
        return Folder(path)
    if path.suffix.lower() == ".zip":
        return Zip(path)
    what = "is neither a folder nor a .zip archive" if path.exists() else "does not exist"
    raise BadInput(f"{printable(path)} {what}; give a folder of files or a .zip archive")


def unpack_tar(path: Path, into: Path) -> None:
    """Unpack a .tar, .tar.gz, .tgz or .tar.bz2; nothing is written outside the target folder.

    Args:
        path: the archive.
        into: an empty folder.

    Raises:
        BadInput: if the archive is damaged, unsafe, or cannot be unpacked there.
    """
    if not hasattr(tarfile, "data_filter"):
        raise BadInput(
            f"{printable(path)} cannot be unpacked safely by this Python; use 3.11.4 or later, or unpack it by hand"
        )
    try:
        with open_file(path) as file, tarfile.open(fileobj=file, mode="r:*") as archive:
            _unpack(path, archive, into)
    except tarfile.FilterError as error:
        raise BadInput(f"{printable(path)}: a member was refused: {error}; the archive was not unpacked") from error
    except DAMAGE as error:
        raise _damaged(printable(path), error) from error
    except OSError as error:
        if error.errno in _DAMAGE_ERRNO:
            raise _damaged(printable(path), error) from error
        raise BadInput(f"{printable(path)} cannot be unpacked into {printable(into)}: {_reason(error)}") from error


def stamps(paths: Iterable[Path | str]) -> list[list[str | int]]:
    """Record the state of files, to notice changes of a data set.

    Args:
        paths: files, and folders, whose files are all included.

    Returns:
        Path, size and modification time in ns of each file.

    Raises:
        BadInput: if a file or folder cannot be read.
    """
    found: list[list[str | int]] = []
    for path in paths:
        try:
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                found += sorted([entry.path, *_changed(entry.stat())] for _, entry in _walk(Path(path)) if entry.is_file())
            else:
                found.append([str(path), *_changed(status)])
        except OSError as error:
            raise _unreadable(error.filename or path, error) from error
    return found


@functools.lru_cache(maxsize=8)  # so that each process opens an archive once, however often its source is pickled
def _open_zip(path: Path, stamp: tuple[int, int], process: int) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    try:
        archive = zipfile.ZipFile(open_file(path))  # kept open by the ZipFile
    except DAMAGE as error:
        raise _damaged(printable(path), error) from error
    except OSError as error:
        raise (_damaged(printable(path), error) if error.errno in _DAMAGE_ERRNO else _unreadable(path, error)) from error
    return archive, _members(path, archive)


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by name, after checking that all members are harmless."""
    members: dict[str, zipfile.ZipInfo] = {}
    twice = []
    for member in archive.infolist():
        given = _zip_name(member)
        name = _inside(given)
        if name is None or stat.S_ISLNK(member.external_attr >> 16):
            raise BadInput(f"{printable(path)}: its member {given!r} points outside the archive's folder; it was not opened")
        if given.endswith(("/", "\\")) or any(map(is_junk, name.split("/"))):
            continue
        if member.flag_bits & _ENCRYPTED:
            raise BadInput(
                f"{printable(path)}: its member {given!r} is encrypted; unpack the archive with its password and give the "
                "folder"
            )
        if member.file_size > LARGEST_FILE:
            raise BadInput(
                f"{printable(path)}: its member {given!r} would unpack to {member.file_size / 1e9:.1f} GB, "
                f"more than {LARGEST_FILE / 1e9:.0f} GB; the archive was not opened"
            )
        if name in members:
            twice.append(name)
        members[name] = member
    if twice:
        raise BadInput(
            f"{printable(path)} has several members of the same name: {', '.join(map(repr, sorted(set(twice))[:5]))}"
            f"{', ...' if len(set(twice)) > 5 else ''}; delete it and download it again"
        )
    return dict(sorted(members.items()))


def _zip_name(member: zipfile.ZipInfo) -> str:
    """The name of a member: many archivers write UTF-8 without the flag for it; other names are read as cp437."""
    if not member.flag_bits & _UTF8_NAME and not member.filename.isascii():
        with contextlib.suppress(UnicodeError):
            return member.filename.encode("cp437").decode()
    return member.filename


def _inside(name: str) -> str | None:
    """The normalised POSIX path of a member; None if it leads outside the archive's folder."""
    normal = posixpath.normpath(name.replace("\\", "/"))
    return None if re.match(r"/|[A-Za-z]:|\.\.(/|$)", normal) else normal


def _unpack(path: Path, archive: tarfile.TarFile, into: Path) -> None:
    links = []
    for member in archive:
        if _inside(member.name) is None:
            raise BadInput(
                f"{printable(path)}: its member {member.name!r} points outside the archive's folder; it was not unpacked"
            )
        if member.issym() or member.islnk():
            links.append(member)
        else:
            archive.extract(member, into, filter="data")
    _check_end(archive)
    # Links are created last, symbolic ones after hard ones, so that no file is written through a link. The filter's own
    # check is not sufficient: it resolves links, and older versions of it can be fooled by very long ones.
    for link in sorted(links, key=tarfile.TarInfo.issym):
        if link.islnk() and not (into / link.linkname).is_file() and _inside(link.linkname) is not None:
            raise _damaged(printable(path), f"{link.name!r} is a link to {link.linkname!r}, which is not in it")
        if any((into / above).is_symlink() for above in PurePosixPath(link.name).parents):
            raise BadInput(f"{printable(path)}: its member {link.name!r} lies behind a link; the archive was not unpacked")
        archive.extract(link, into, filter="data")


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise if the archive was truncated between members, which tarfile takes for its end, or its checksum is wrong."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    while archive.fileobj.read(1 << 20):  # read up to the checksum after the last byte
        pass


def _walk(folder: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """All entries below a folder that are not folders, with their relative paths; links to a parent are not followed."""
    try:
        yield from _walk_below(str(folder), "", (), Walk())
    except OSError as error:
        raise _unreadable(error.filename or folder, error) from error


def _walk_below(
    folder: str, prefix: str, above: tuple[tuple[int, int], ...], walk: Walk
) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    inside = walk.enter(folder, above)
    if inside is None:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_junk(entry.name) or (entry.is_symlink() and _is_loop(entry.path)):
                continue
            if entry.is_dir():
                yield from _walk_below(entry.path, f"{prefix}{entry.name}/", inside, walk)
            else:
                yield prefix + entry.name, entry


def _is_loop(link: str) -> bool:
    """Whether a link leads only to itself; raises `BadInput` for a broken link, whose target the data set lacks."""
    try:
        os.stat(link)
    except FileNotFoundError as error:
        raise BadInput(
            f"{printable(link)} is a link to {printable(os.readlink(link))}, which does not exist; mend it or remove it"
        ) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            return True
        raise
    return False


def is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


def _changed(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _unreadable(path: Path | str, error: OSError) -> BadInput:
    return BadInput(f"{printable(path)} cannot be read: {_reason(error)}")


def _damaged(what: str, error: Exception | str) -> BadInput:
    reason = str(error).partition(":\n")[0] or "it ends too early"  # tarfile appends one line per compression that it tried
    return BadInput(f"{what} is damaged ({reason}); delete the archive and download it again")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
