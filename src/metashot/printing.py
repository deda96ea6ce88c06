"""Standard output and error of a program that must not lose its work because nobody can read what it prints."""

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


def outlast_the_streams() -> None:
    """From here on `sys.stdout` and `sys.stderr` never raise; `lost_output` says what was the matter."""
    sys.stdout, sys.stderr = (_outlasting(stream) for stream in (sys.stdout, sys.stderr))


def _outlasting(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream.buffer.raw, _Breakable):
        return stream
    stream.flush()
    raw = _Breakable(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),  # type: ignore[type-var]
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=False,
    )


def lost_output() -> OSError | None:
    """Why standard output could not be written, if it could not."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(stream.buffer.raw, _Breakable):
        return None
    stream.flush()
    return stream.buffer.raw.trouble
