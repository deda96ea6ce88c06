"""Paths that users give, and files that anybody may have made: refused with a message, and read without waiting for ever."""

import errno
import os
import stat
from collections import Counter
from pathlib import Path
from typing import IO, BinaryIO

from metashot.bad_input import BadInput, in_one_line

_LONGEST = 200  # characters of a path that a message quotes
_DEEPEST = 100  # folders in one another
_MOST_VISITS = 100  # of one folder, which links lead to
# What a file system refuses, and the user can change.
REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS})


def printable(path: Path | str) -> str:
    """A path as text that every terminal can print in one line, whatever bytes its name has."""
    return in_one_line(str(path))


def quoted(path: Path | str) -> str:
    """A path in a message about a key, cut where it is too long to be read."""
    text = printable(path)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def given_path(given: str | os.PathLike[str], key: str) -> Path:
    """The path that a user gave for a key, with the home folder for `~`; there may be nothing there yet.

    Raises:
        BadInput: if it is empty, too long for a name, in the home folder of nobody, or where the user may not look.
    """
    if not isinstance(given, str | os.PathLike) or not isinstance(text := os.fspath(given), str):
        raise BadInput(f"{key}={quoted(repr(given))} is not a path; allowed: text, or a path of pathlib")
    if not text:
        raise BadInput(f"{key}= is empty: give a path, or leave {key} out")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        user = quoted(text.partition("/")[0])
        raise BadInput(f"{key}={quoted(text)} cannot be used: {user} has no home folder; give the whole path") from None
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever needs it says so
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise BadInput(f"{key}={quoted(text)} cannot be used: {why_not(error)}; give another {key}=") from error
    return path


def place_to_write(given: str | os.PathLike[str], key: str) -> Path:
    """The path that a user gave for what is to be written.

    Raises:
        BadInput: as `given_path`, or if nothing can be written there.
    """
    path = given_path(given, key)
    there = next(above for above in (path, *path.absolute().parents) if os.path.lexists(above))
    if os.path.isdir(there) and not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{key}={quoted(path)} cannot be written: {os.strerror(errno.EACCES)}; choose another {key}=")
    return path


def open_file(path: Path | str) -> BinaryIO:
    """Open a file for reading, if it is one: a pipe may never have anything to read, and a device may have no end.

    Raises:
        OSError: if it cannot be opened, or is not a file.
    """
    _refuse_other_kinds(path, os.stat(path).st_mode)  # opening some devices already does something
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_other_kinds(path, os.fstat(opened).st_mode)  # it may have been replaced in between
        return os.fdopen(opened, "rb")
    except BaseException:
        os.close(opened)
        raise


def read_file(path: Path | str, most: int) -> bytes:
    """The content of a file of at most so many bytes.

    Raises:
        OSError: if it cannot be read, is not a file, or is larger.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
    if max(size, len(content)) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most / 1e6:,.0f} MB", str(path))
    return content


class Walk:
    """A way through the folders below one, behind links too, that comes to an end whatever they hold."""

    def __init__(self) -> None:
        self._visits: Counter[tuple[int, int]] = Counter()

    def enter(self, folder: Path | str, above: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...] | None:
        """The folders on the way to what lies in this one, `above` being those on the way to it; None for a folder that lies
        in itself.

        Raises:
            BadInput: if it lies too deep, or links lead there again and again.
            OSError: if it is not there.
        """
        status = os.stat(folder)
        here = status.st_dev, status.st_ino
        if here in above:
            return None
        self._visits[here] += 1
        if len(above) >= _DEEPEST:
            raise BadInput(
                f"{quoted(folder)} lies in more than {_DEEPEST} folders in one another: move it up or leave it out"
            )
        if self._visits[here] > _MOST_VISITS:
            raise BadInput(
                f"{quoted(folder)}: more than {_MOST_VISITS} ways lead to this folder, through links: remove some"
            )
        return *above, here


def open_lock(path: Path) -> IO[str]:
    """A file to be locked, made if it is not there. A link is not followed and nothing is emptied: it may be anybody's.

    Raises:
        OSError: if it cannot be opened, or is not a file.
    """
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        _refuse_other_kinds(path, os.fstat(opened).st_mode)
        return os.fdopen(opened, "r+")
    except BaseException:
        os.close(opened)
        raise


def why_not(error: Exception) -> str:
    """Why the system refused, without the path, which the message has already."""
    return getattr(error, "strerror", None) or str(error)


def _refuse_other_kinds(path: Path | str, mode: int) -> None:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EPERM, f"it is {kinds.get(stat.S_IFMT(mode), 'something else')} and not a file", str(path))
