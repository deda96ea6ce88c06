"""Standard output and error that never fail: a run must not be lost because its output cannot be written."""

import errno
import io
import sys
from typing import TextIO


class _TolerantFile(io.FileIO):
    """A file whose failed writes (a full disk, a closed pipe or terminal) are noted and dropped."""

    error: OSError | None = None

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            self.error = self.error or error
            return memoryview(data).nbytes


def tolerate_broken_streams() -> None:
    """Make `sys.stdout` and `sys.stderr` never raise; `output_error` returns the first error."""
    sys.stdout, sys.stderr = (_tolerant(stream) for stream in (sys.stdout, sys.stderr))


def _tolerant(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or isinstance(_raw(stream), _TolerantFile):
        return stream
    stream.flush()
    raw = _TolerantFile(stream.fileno(), "wb", closefd=False)
    unbuffered = stream.buffer is _raw(stream)  # python -u, as torchrun starts it
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),  # type: ignore[type-var, arg-type]
        stream.encoding,
        "backslashreplace",  # an ASCII-only terminal must not end a run
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: io.TextIOWrapper) -> object:
    return getattr(stream.buffer, "raw", stream.buffer)


def output_error() -> OSError | None:
    """The first error of standard output; None if all was written."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        return None
    stream.flush()
    raw = _raw(stream)
    return raw.error if isinstance(raw, _TolerantFile) else None


def ignore_closed_pipe() -> None:
    """Forget the error of a closed pipe: a reader such as `head` wanted no more of what is only printed."""
    raw = _raw(sys.stdout) if isinstance(sys.stdout, io.TextIOWrapper) else None
    if isinstance(raw, _TolerantFile) and (error := output_error()) is not None and error.errno == errno.EPIPE:
        raw.error = None
