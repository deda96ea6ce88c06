"""Writes files atomically for a user, and never replaces a file that metashot did not write.

metashot recognises its own files: pictures name their software, tables have a header of their own, reports, pages and graphs
name metashot, and a fitted learner begins with a marker.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from metashot.bad_input import BadInput
from metashot.files.paths import place_to_write, printable

Kind = Literal["picture", "page", "table", "report", "document", "graph", "fitted learner"]

SOFTWARE = {"Software": "metashot"}  # metadata of our pictures
DOCUMENT_END = "<!-- written by metashot -->\n"  # the last line of reports in Markdown and of pages
WRITTEN_BY = "written_by"  # a key of reports, whose value names metashot
PRODUCER = "metashot"  # the producer in an ONNX graph
FITTED = "metashot_fitted"  # the first key in a fitted learner's file

_HEAD = 1 << 16  # bytes in which a file's origin can be recognised
_PNG = b"\x89PNG\r\n\x1a\n"
_SCORE, _MEASURE = rb"(accuracy|mse|mean_iou|return)", rb"(log_likelihood|coverage|trial_return|regret)"
# The headers of tables: predictions, the episodes of one checkpoint or of several, and the regret of a policy.
_HEADERS = re.compile(
    rb"file,label,probability,\"?p\(.*|(.+,)?text,label,probability,\"?p\(.*|step,regret,ci95"
    rb"|number,%(score)b,loss(,%(measure)b)*(,classes)?"
    rb"|number(,%(score)b_\d+,loss_\d+(,%(measure)b_\d+)*)+(,classes)?" % {b"score": _SCORE, b"measure": _MEASURE}
)
LEFTOVER = re.compile(r"\..+\.\d+(-[0-9a-f]{8})?\.writing")  # a temporary file that a killed process left
_RUN_FILES = (  # files in a run's folder in which older versions did not name metashot
    *("report.json", "report.md", "episodes.csv", "episode.png", "adaptation.png", "histogram.png"),
    *("reliability.png", "confusion.png", "features.png", "attention.png"),
)
_STREAMS = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")
_KINDS: dict[str, Kind] = {
    ".png": "picture",
    ".html": "page",
    ".csv": "table",
    ".json": "report",
    ".md": "document",
    ".onnx": "graph",
    ".fewshot": "fitted learner",
}


class NotOurs(BadInput):
    """The file that would be replaced was not written by metashot."""


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file atomically: it replaces `path` once it is on the disk, and a reader sees the old file or the new one.

    Args:
        path: where the file is to be.

    Yields:
        The open file to write to.
    """
    with _temporary_file(path) as (file, temporary):
        yield file
        _flush(file)
        os.replace(temporary, path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically in a folder that belongs to metashot.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        with atomic_file(path) as file:
            file.write(content)
    except OSError as error:
        raise BadInput(f"{printable(path)} cannot be written: {error.strerror or error}") from error


def named_file(given: str | os.PathLike[str], key: str, example: str) -> Path:
    """The path of a file to write.

    Args:
        given: what the user gave.
        key: the key that it was given for.
        example: a file name to suggest.

    Raises:
        BadInput: it is a folder, or cannot be written.
    """
    path = place_to_write(given, key)
    if not path.name or path.is_dir():
        raise BadInput(f"{key}={printable(str(given))} is a folder; allowed: the name of a file, such as {key}={example}")
    return path


def refuse_to_replace(path: Path, key: str | None = None, kind: Kind | None = None) -> None:
    """Refuse a path at which a file that is not ours would be replaced.

    Args:
        path: the file to write.
        key: the key to change, for the message.
        kind: what will be written; by default as the suffix says.

    Raises:
        NotOurs: metashot did not write the file at `path`.
        BadInput: nothing can be written there.
    """
    with _as_bad_input(path, key):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if _is_regular_file(path) and not _is_ours(path, kind or _KINDS[path.suffix.lower()]):
            raise _not_ours(path, key)


def write_output(path: Path, content: bytes, key: str | None = None, kind: Kind | None = None) -> None:
    """Write a file where the user wants it, over an earlier file of ours or into a device or a pipe. Links are followed.

    Args:
        path: the file to write.
        content: its bytes.
        key: the key to change, for the message.
        kind: what is written; by default as the suffix says.

    Raises:
        NotOurs: metashot did not write the file at `path`.
        BadInput: it cannot be written.
    """
    with _as_bad_input(path, key):
        if not _is_regular_file(path):
            _write_into(path, content)
            return
        target = Path(os.path.realpath(path))
        with _temporary_file(target) as (file, temporary):
            file.write(content)
            _flush(file)
            if not _create_exclusively(temporary, target):
                if not _is_ours(target, kind or _KINDS[path.suffix.lower()]):
                    raise _not_ours(path, key)
                os.replace(temporary, target)


def is_fitted_learner(path: Path) -> bool:
    """Whether `learner.save` wrote this file, by its first bytes; nothing is unpickled."""
    try:
        with path.open("rb") as file:
            return _is_fitted_learner(file)
    except OSError:
        return False


def holds_fit(path: Path) -> bool:
    """Whether a file is a fitted learner, intact or damaged."""
    return path.suffix == ".fewshot" or is_fitted_learner(path)


@contextlib.contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A temporary file in the folder of `path`, removed in the end unless it was renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Shortened, since the name of `path` may be as long as the file system allows.
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}.writing")
    try:
        with temporary.open("xb") as file:
            yield file, temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _create_exclusively(temporary: Path, target: Path) -> bool:
    """Rename a file to `target` unless that exists by now; whether it was renamed."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        os.replace(temporary, target)
    return True


def _is_regular_file(path: Path) -> bool:
    """Whether there is a regular file or none yet, and not a device, a pipe or a folder."""
    if _STREAMS.fullmatch(str(path)):
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


def _write_into(path: Path, content: bytes) -> None:
    """Append to a device, a pipe, or a stream of this process."""
    # Without O_NONBLOCK, opening a pipe that nobody reads would block forever.
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    os.set_blocking(handle, True)
    with open(handle, "wb") as file:
        file.write(content)


def _is_ours(path: Path, kind: Kind) -> bool:
    """Whether a file may be replaced by one of this kind: it is empty, missing or was written by metashot."""
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
            return is_empty or _RECOGNISED[kind](file) or _lies_in_run(path, kind)
    except FileNotFoundError:
        return True


def _lies_in_run(path: Path, kind: Kind) -> bool:
    """Whether it is a report or a picture in the folder of a run, which metashot created. Files of older
    versions, which do not name metashot, are recognised by this alone."""
    folder = path.parent
    run = folder.parent.parent if folder.parent.name == "evaluations" else folder
    if path.name not in _RUN_FILES or not (run / ".lock").is_file() or not (run / "checkpoints").is_dir():
        return False
    try:
        return b"_target_: metashot." in (run / "config.yaml").read_bytes()[:_HEAD]
    except OSError:
        return False


def _is_picture(file: BinaryIO) -> bool:
    """Whether it is a PNG whose metadata before the pixels name metashot as the software."""
    file.seek(0)
    head = file.read(_HEAD)
    if not head.startswith(_PNG):
        return False
    place = len(_PNG)
    while place + 8 <= len(head):
        length, chunk = int.from_bytes(head[place : place + 4], "big"), head[place + 4 : place + 8]
        if chunk == b"IDAT":
            return False
        if chunk == b"tEXt" and head[place + 8 : place + 8 + length] == b"Software\0metashot":
            return True
        place += length + 12
    return False


def _is_table(file: BinaryIO) -> bool:
    file.seek(0)
    return _HEADERS.fullmatch(file.readline(_HEAD).rstrip(b"\r\n")) is not None


def _is_report(file: BinaryIO) -> bool:
    return f'"{WRITTEN_BY}": "metashot '.encode() in _last_bytes(file)


def _is_document(file: BinaryIO) -> bool:
    return _last_bytes(file).endswith(DOCUMENT_END.encode())


def _is_graph(file: BinaryIO) -> bool:
    """An ONNX model begins with the version of its format, one byte, and its producer."""
    file.seek(0)
    head = file.read(_HEAD)
    producer = b"\x12" + bytes([len(PRODUCER)]) + PRODUCER.encode()
    return head[:1] == b"\x08" and head[2 : 2 + len(producer)] == producer


def _is_fitted_learner(file: BinaryIO) -> bool:
    """torch writes a zip archive, whose `data.pkl` begins with the first key."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                return False
            with archive.open(names[0]) as pickled:
                return FITTED.encode() in pickled.read(200)
    except Exception:  # zipfile can raise nearly anything for a damaged file
        return False


_RECOGNISED: dict[Kind, Callable[[BinaryIO], bool]] = {
    "picture": _is_picture,
    "page": _is_document,
    "table": _is_table,
    "report": _is_report,
    "document": _is_document,
    "graph": _is_graph,
    "fitted learner": _is_fitted_learner,
}


def _last_bytes(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 200))
    return file.read(200)


def _not_ours(path: Path, key: str | None) -> NotOurs:
    other = f"choose another name with {key}=, or move it away" if key else "move it away"
    return NotOurs(f"{printable(path)} would be replaced, and metashot did not write it: {other}")


@contextlib.contextmanager
def _as_bad_input(path: Path, key: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = f"{key}={printable(path)}" if key else printable(path)
        raise BadInput(f"{named} cannot be written: {error.strerror or error}; choose another place") from error
