"""The files of a data set, in a folder or in an archive: read by name, unpacked safely, and stamped to notice a change."""

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

LARGEST_FILE = 10**9  # bytes; a file of images is far smaller, a "zip bomb" is larger
_JUNK = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}  # and whatever is hidden
_UTF8_NAME = 0x800  # flags of a zip member
_ENCRYPTED = 0x1
# What zipfile and tarfile raise while they read a file that is not what it should be.
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
_DAMAGE_ERRNO = (None, errno.EINVAL)  # of an OSError: a decompressor's, and that of a place before a file's beginning


class Files(Protocol):
    """The files of a folder or of an archive, by their names inside it (posix, relative)."""

    @property
    def path(self) -> Path:
        """The folder or the archive."""

    def names(self) -> list[str]:
        """All files, sorted, without what operating systems leave beside them."""

    def read(self, name: str) -> bytes:
        """The content of one file."""


class Folder:
    """The files below a folder, behind links too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(name for name, entry in _walk(self.path) if entry.is_file())

    def others(self) -> list[str]:
        """What lies among the files and is none: pipes, sockets and devices."""
        return sorted(name for name, entry in _walk(self.path) if not entry.is_file())

    def folders(self, inside: str = "") -> list[str]:
        """The names of the folders that lie directly in one of its folders, empty ones too."""
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
    """The files of a zip archive, which each process opens for itself when it first reads one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._stamp = _changed(path.stat())  # an archive that was replaced is another one
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
                return file.read(member.file_size)  # with a size, a member that is larger than it says is not unpacked
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
    """The files of a folder or of a .zip archive."""
    if path.is_dir():
        return Folder(path)
    if path.suffix.lower() == ".zip":
        return Zip(path)
    what = "is neither a folder nor a .zip archive" if path.exists() else "does not exist"
    raise BadInput(f"{printable(path)} {what}; give a folder of files or a .zip archive")


def unpack_tar(path: Path, into: Path) -> None:
    """Unpack a .tar, .tar.gz, .tgz or .tar.bz2 into an empty folder; nothing is written outside of it."""
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
    """Path, size and time of change in ns of each file, or of every file below a folder: others mean a changed data set."""
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


@functools.lru_cache(maxsize=8)  # data sources are pickled to a worker with each piece of work: it opens the archive once
def _open_zip(path: Path, stamp: tuple[int, int], process: int) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    try:
        archive = zipfile.ZipFile(open_file(path))  # which it keeps open as long as it is kept itself
    except DAMAGE as error:
        raise _damaged(printable(path), error) from error
    except OSError as error:
        raise (_damaged(printable(path), error) if error.errno in _DAMAGE_ERRNO else _unreadable(path, error)) from error
    return archive, _members(path, archive)


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by name, once all its members were found to be harmless."""
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
    """A member's name; many archivers write UTF-8 and do not say so, others' names stay readable as cp437."""
    if not member.flag_bits & _UTF8_NAME and not member.filename.isascii():
        with contextlib.suppress(UnicodeError):
            return member.filename.encode("cp437").decode()
    return member.filename


def _inside(name: str) -> str | None:
    """A member's name in its shortest posix form, None where it leads out of the archive's folder."""
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
    # Links come last, symbolic ones after all others: while anything is written, no link can lead it astray. The filter's
    # own check is not enough, since it resolves links and older versions of it can be led astray by very long ones.
    for link in sorted(links, key=tarfile.TarInfo.issym):
        if link.islnk() and not (into / link.linkname).is_file() and _inside(link.linkname) is not None:
            raise _damaged(printable(path), f"{link.name!r} is a link to {link.linkname!r}, which is not in it")
        if any((into / above).is_symlink() for above in PurePosixPath(link.name).parents):
            raise BadInput(f"{printable(path)}: its member {link.name!r} lies behind a link; the archive was not unpacked")
        archive.extract(link, into, filter="data")


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise if the archive was cut between two members, which tarfile takes for its end, or its checksum is wrong."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    while archive.fileobj.read(1 << 20):  # to the checksum behind the last byte
        pass


def _walk(folder: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """What lies below a folder and is none, with its name there; a link to a folder that it lies in is not followed."""
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
    """Whether a link leads only to itself; one that leads nowhere is a part of the data set that is missing."""
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
    reason = str(error).partition(":\n")[0] or "it ends too early"  # tarfile adds a line for each compression it tried
    return BadInput(f"{what} is damaged ({reason}); delete the archive and download it again")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
