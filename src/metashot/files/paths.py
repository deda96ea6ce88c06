"""Paths given by users, checked with a message, and files from anywhere, read without blocking."""

import errno
import os
import stat
from collections import Counter
from pathlib import Path
from typing import IO, BinaryIO

from metashot.bad_input import BadInput, in_one_line

_MAX_QUOTED = 200  # characters of a path that a message quotes
_MAX_DEPTH = 100  # of nested folders
_MAX_VISITS = 100  # of one folder, through links
# Refusals of the file system that the user can do something about.
USER_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS})


def printable(path: Path | str) -> str:
    """A path as text that every terminal can print on one line, whatever bytes it contains."""
    return in_one_line(str(path))


def quoted(path: Path | str) -> str:
    """A path for a message about a key, shortened if it is too long to read."""
    text = printable(path)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}... ({len(text)} characters)"


def given_path(given: str | os.PathLike[str], key: str) -> Path:
    """The path that a user gave for a key, with `~` expanded. It need not exist.

    Args:
        given: the path as given.
        key: the key, for the message.

    Raises:
        BadInput: it is empty, has too long a name, is in the home folder of an unknown user, or is not accessible.
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
        pass  # refused where the file is needed
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise BadInput(f"{key}={quoted(text)} cannot be used: {reason_of(error)}; give another {key}=") from error
    return path


def place_to_write(given: str | os.PathLike[str], key: str) -> Path:
    """The path that a user gave for an output.

    Raises:
        BadInput: as in `given_path`, or nothing can be written there.
    """
    path = given_path(given, key)
    there = next(above for above in (path, *path.absolute().parents) if os.path.lexists(above))
    if os.path.isdir(there) and not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(f"{key}={quoted(path)} cannot be written: {os.strerror(errno.EACCES)}; choose another {key}=")
    return path


def open_file(path: Path | str) -> BinaryIO:
    """Open a regular file for reading. Others are refused: a pipe may block forever, and a device may never end.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    _refuse_special_files(path, os.stat(path).st_mode)  # opening a device can have effects
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_special_files(path, os.fstat(opened).st_mode)  # it may have been replaced in between
        return os.fdopen(opened, "rb")
    except BaseException:
        os.close(opened)
        raise


def read_file(path: Path | str, most: int) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        most: the maximum number of bytes.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than `most`.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
    if max(size, len(content)) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most / 1e6:,.0f} MB", str(path))
    return content


class Walk:
    """A walk through nested folders that follows links and always terminates."""

    def __init__(self) -> None:
        self._visits: Counter[tuple[int, int]] = Counter()

    def enter(self, folder: Path | str, above: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...] | None:
        """Enter a folder.

        Args:
            folder: the folder.
            above: the identities of the folders above it, as this method returned them.

        Returns:
            The identities of the folders above its contents; None if the folder contains itself.

        Raises:
            BadInput: it is nested too deeply, or too many links lead to it.
            OSError: it does not exist.
        """
        status = os.stat(folder)
        here = status.st_dev, status.st_ino
        if here in above:
            return None
        self._visits[here] += 1
        if len(above) >= _MAX_DEPTH:
            raise BadInput(f"{quoted(folder)} is nested in more than {_MAX_DEPTH} folders: move it up or leave it out")
        if self._visits[here] > _MAX_VISITS:
            raise BadInput(f"{quoted(folder)}: links lead to this folder in more than {_MAX_VISITS} ways: remove some")
        return *above, here


def open_lock(path: Path) -> IO[str]:
    """Open a file to lock, and create it if necessary. Links are not followed and nothing is truncated: the file may be
    anybody's.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        _refuse_special_files(path, os.fstat(opened).st_mode)
        return os.fdopen(opened, "r+")
    except BaseException:
        os.close(opened)
        raise


def refuse_missing_working_folder() -> None:
    """Refuse to work in a folder that was deleted, to which all relative paths belong."""
    try:
        os.getcwd()
    except OSError as error:
        raise BadInput(f"the working folder cannot be used: {error.strerror}; change to one that exists") from error


def reason_of(error: Exception) -> str:
    """The reason of an error without its path, which the message has already."""
    return getattr(error, "strerror", None) or str(error)


def kind_of_file(mode: int) -> str:
    """What a file that is neither regular nor a folder is, from its mode."""
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "something else")


def _refuse_special_files(path: Path | str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EPERM, f"it is {kind_of_file(mode)} and not a file", str(path))
