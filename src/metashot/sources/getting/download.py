"""Downloads official files: checks them, and resumes interrupted downloads.

An incomplete file is called `<name>.part`, and `<name>.part.json` holds the server's identifier of its version. The process
that downloads the file locks the part; other processes wait.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, cast

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from metashot.bad_input import BadInput

PAUSES = (1.0, 2.0, 4.0)  # seconds before each new attempt
TIMEOUT = 30.0  # seconds without data
_PIECE = 1 << 18  # bytes
_PROGRESS = 1 << 20  # bytes after which an attempt counts as successful, and the number of attempts starts again
_NO_WEB_PAGE = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".pkl", ".pickle")
_FOR_NOW = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)  # worth another attempt, like all codes from 500 on
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class OfficialFile:
    """A file of a data set on its official site."""

    name: str  # of the downloaded file
    address: str  # http(s) URL of the file
    size: int | None  # bytes; None if not published
    checksum: str | None  # "md5:..." or "sha256:..."; None if not published


class _Broken(Exception):
    """A temporary failure of the network or the server, worth another attempt if the server has ever answered."""

    def __init__(self, reason: str, answered: bool) -> None:
        super().__init__(reason)
        self.answered = answered


def download(file: OfficialFile, folder: Path) -> Path:
    """Download a file unless it exists; an interrupted download is resumed.

    Args:
        file: the file.
        folder: the folder to save it in, which is created if necessary.

    Returns:
        The path of the complete, checked file.

    Raises:
        BadInput: if it cannot be downloaded or written, or does not match its published size or checksum.
    """
    target = folder / file.name
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _own(target) as part:
            if not target.exists():  # another process may have downloaded it in the meantime
                _fetch(file, part, target)
                os.fsync(part.fileno())
                _version_path(target).unlink(missing_ok=True)
                _part_path(target).rename(target)
    except OSError as error:
        raise BadInput(_unwritable(file, target, error)) from error
    finally:
        if folder.is_dir():
            with contextlib.suppress(OSError):  # the folder is not empty, as usual
                folder.rmdir()
    return target


def _fetch(file: OfficialFile, part: BinaryIO, target: Path) -> None:
    """Complete the part and check it; a file from several versions is downloaded once more."""
    with _progress(file) as report:
        in_one_piece = _receive(file, part, target, report)
        wrong = _what_is_wrong(file, target)
        if wrong and not in_one_piece:  # the pieces may be of different versions
            part.truncate(0)
            _receive(file, part, target, report)
            wrong = _what_is_wrong(file, target)
    if wrong:
        part.truncate(0)
        raise _unavailable(file, target, f"{wrong}; the address may have changed")


def _receive(file: OfficialFile, part: BinaryIO, target: Path, report: Callable[[int, int | None], None]) -> bool:
    """Append the missing bytes, in several attempts if necessary; returns whether the file came in one response."""
    pauses, granted_at, answered = iter(PAUSES), _size(part), False
    while True:
        try:
            return _receive_rest(file, part, target, report)
        except _Broken as broken:
            answered |= broken.answered
            if _size(part) >= granted_at + _PROGRESS:
                pauses, granted_at = iter(PAUSES), _size(part)
            pause = next(pauses, None)
            if pause is None or not answered:  # without a network more attempts are useless
                raise _unavailable(file, target, str(broken)) from broken
        time.sleep(pause)


def _receive_rest(file: OfficialFile, part: BinaryIO, target: Path, report: Callable[[int, int | None], None]) -> bool:
    """Append the bytes of one response; returns whether the whole file came from it."""
    size = _size(part)
    if size and size == file.size:
        return False
    with contextlib.closing(_ask(file, size, target)) as answer:
        first, total = _range(answer)
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and total == size:
            return False  # the part was already complete
        if answer.status != HTTPStatus.OK and first != size:
            part.truncate(0)  # the server cannot resume where the part ends
            raise _Broken(f"it answered {answer.status} {answer.reason}", answered=True)
        if answer.headers.get_content_type() == "text/html" and file.name.lower().endswith(_NO_WEB_PAGE):
            raise _unavailable(file, target, "it answered with a web page instead of the file")
        if answer.status == HTTPStatus.OK:
            part.truncate(0)
            size = 0
            _keep_version(answer, target)
        start = size
        if total is None:
            total = file.size if answer.length is None else start + answer.length
        if file.size not in (None, total):
            raise _unavailable(
                file, target, f"it answered with {total} bytes instead of {file.size}; the address may have changed"
            )
        report(size, total)
        while (total is None or size < total) and (piece := _read(answer)):
            part.write(piece)
            size += len(piece)
            report(size, total)
    part.flush()
    if total is not None and size < total:
        raise _Broken(f"the connection broke after {size} of {total} bytes", answered=True)
    return start == 0


def _ask(file: OfficialFile, start: int, target: Path) -> HTTPResponse:
    """Request the file from byte `start` on; the server sends all of it if its version has changed."""
    request = urllib.request.Request(file.address, headers={"User-Agent": "metashot"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if version := _kept_version(target):
            request.add_header("If-Range", version)
    try:
        answer: HTTPResponse = urllib.request.build_opener().open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return cast(HTTPResponse, error.fp)
        error.close()
        reason = f"it answered {error.code} {error.reason}"
        if error.code >= 500 or error.code in _FOR_NOW:
            raise _Broken(reason, answered=True) from error
        raise _unavailable(file, target, reason) from error
    except urllib.error.URLError as error:  # no connection
        raise _Broken(_reason(error.reason), answered=False) from error
    except (OSError, HTTPException) as error:
        raise _Broken(_reason(error), answered=True) from error
    return answer


def _read(answer: HTTPResponse) -> bytes:
    try:
        return answer.read1(_PIECE)
    except (OSError, HTTPException) as error:
        raise _Broken(f"the connection broke: {_reason(error)}", answered=True) from error


def _range(answer: HTTPResponse) -> tuple[int | None, int | None]:
    """The first byte of a partial response and the size of the whole file, each None if not stated."""
    match = re.match(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", answer.headers.get("Content-Range", ""))
    first, total = match.groups() if match else (None, None)
    return None if first is None else int(first), None if total is None else int(total)


def _what_is_wrong(file: OfficialFile, target: Path) -> str | None:
    """How a complete part differs from the published size or checksum, if it does."""
    part = _part_path(target)
    if file.size is not None and part.stat().st_size > file.size:  # never smaller: the rest would have been requested
        return f"it has more than {file.size} bytes"
    if file.checksum is not None:
        kind, _, expected = file.checksum.partition(":")
        with part.open("rb") as content:
            found = hashlib.file_digest(content, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
        if found != expected.lower():
            return f"its {kind} is {found} instead of {expected}"
    return None


@contextlib.contextmanager
def _own(target: Path) -> Iterator[BinaryIO]:
    """Open the part for appending and lock it for this process; it is deleted afterwards if it is empty."""
    path = _part_path(target)
    while True:
        with path.open("ab") as part:
            fcntl.flock(part, fcntl.LOCK_EX)
            if not _is_at(path, part):  # another process has renamed or removed it in the meantime
                continue
            try:
                yield part
            finally:
                if _is_at(path, part) and path.stat().st_size == 0:
                    _version_path(target).unlink(missing_ok=True)
                    path.unlink()
            return


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _size(part: BinaryIO) -> int:
    part.flush()
    return os.fstat(part.fileno()).st_size


def _keep_version(answer: HTTPResponse, target: Path) -> None:
    tag = answer.headers.get("ETag", "")
    version = (
        answer.headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
    )  # weak tags cannot be used for resuming
    _version_path(target).write_text(json.dumps({"version": version}))


def _kept_version(target: Path) -> str | None:
    try:
        version = json.loads(_version_path(target).read_text())["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing or damaged: the checksum shows whether the pieces belong together
    return version if isinstance(version, str) else None


def _part_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _version_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


@contextlib.contextmanager
def _progress(file: OfficialFile) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar on a terminal; yields a function to call with the bytes received and the total."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(f"downloading {file.name}", total=file.size)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _unavailable(file: OfficialFile, target: Path, reason: str) -> BadInput:
    return BadInput(
        f"{_described(file)} is not in {target.parent} and could not be downloaded from {file.address}: {reason}; "
        f"download it with a browser and put it there: {target}"
    )


def _unwritable(file: OfficialFile, target: Path, error: OSError) -> str:
    remedy = (
        "make room and start again: it goes on where it stopped"
        if error.errno in _FULL
        else f"make the folder writable, or download {file.address} with a browser and put it there: {target}"
    )
    return f"{_described(file)} cannot be written to {target.parent}: {_reason(error)}; {remedy}"


def _described(file: OfficialFile) -> str:
    return file.name if file.size is None else f"{file.name} ({file.size / 1e6:.1f} MB)"


def _reason(error: BaseException | str) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
