"""Standard output and error of a program that must not lose its work because nobody can read what it prints."""

import errno
import io
import sys
from typing import TextIO


class _Breakable(io.FileIO):
    """A full disk, a closed pipe or a terminal that is gone: noted, and what was to be written is dropped."""

    trouble: OSError | None = None

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            self.trouble = self.trouble or error
            return memoryview(data).nbytes


def tolerate_broken_streams() -> None:
    """From here on `sys.stdout` and `sys.stderr` never raise; `output_error` says what was the matter."""
    sys.stdout, sys.stderr = (_outlasting(stream) for stream in (sys.stdout, sys.stderr))


def _outlasting(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or isinstance(_raw(stream), _Breakable):
        return stream
    stream.flush()
    raw = _Breakable(stream.fileno(), "wb", closefd=False)
    unbuffered = stream.buffer is _raw(stream)  # python -u, as torchrun starts it
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),  # type: ignore[type-var, arg-type]
        stream.encoding,
        "backslashreplace",  # a terminal that knows ASCII alone is not worth a run
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: io.TextIOWrapper) -> object:
    return getattr(stream.buffer, "raw", stream.buffer)


def output_error() -> OSError | None:
    """Why standard output could not be written, if it could not."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        return None
    stream.flush()
    raw = _raw(stream)
    return raw.trouble if isinstance(raw, _Breakable) else None


def ignore_closed_pipe() -> None:
    """Nothing is lost where a reader who wanted no more, such as `head`, has closed its end of what is only printed."""
    raw = _raw(sys.stdout) if isinstance(sys.stdout, io.TextIOWrapper) else None
    if isinstance(raw, _Breakable) and (trouble := output_error()) is not None and trouble.errno == errno.EPIPE:
        raw.trouble = None
