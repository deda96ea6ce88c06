"""Parses the program of a pickle into instructions and their arguments."""

import codecs
import mmap
import pickletools
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

_LONG = 32  # strings of at least this many bytes are only read when needed


class Damaged(Exception):
    """The pickle's program is invalid."""


class Piece:
    """A long string that has not been read yet; it is on the stack or directly in a tuple, never in a container."""

    __slots__ = ("decode", "start", "stop", "value")

    def __init__(self, start: int, stop: int, decode: Callable[[bytes], Any]) -> None:
        self.start = start
        self.stop = stop
        self.decode = decode
        self.value: Any = None  # cached, so that a string that is used twice is decoded once


_Reader = Callable[[mmap.mmap, int], tuple[Any, int]]  # (data, position) -> (argument, position after it)


def _number(layout: str) -> _Reader:
    number = struct.Struct(layout)

    def read(data: mmap.mmap, place: int) -> tuple[Any, int]:
        return number.unpack_from(data, place)[0], place + number.size

    return read


def _counted(layout: str, decode: Callable[[bytes], Any], may_stay: bool = True) -> _Reader:
    number = struct.Struct(layout)

    def read(data: mmap.mmap, place: int) -> tuple[Any, int]:
        start = place + number.size
        stop = start + number.unpack_from(data, place)[0]
        if not start <= stop <= len(data):
            raise Damaged(f"it announces {stop - start:,} bytes at byte {start:,}, the file has {len(data):,}")
        return (Piece(start, stop, decode) if may_stay and stop - start >= _LONG else decode(data[start:stop])), stop

    return read


def _lines(count: int, decode: Callable[..., Any]) -> _Reader:
    def read(data: mmap.mmap, place: int) -> tuple[Any, int]:
        lines = []
        for _ in range(count):
            stop = data.find(b"\n", place)
            if stop < 0:
                raise Damaged(f"the line at byte {place:,} has no end")
            lines.append(data[place:stop])
            place = stop + 1
        return decode(*lines), place

    return read


def latin1(text: bytes) -> str:
    return text.decode("latin-1")  # strings of Python 2 are bytes; in these data sets they hold names


def utf8(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")


def _quoted(text: bytes) -> str:
    if len(text) < 2 or text[:1] not in b"'\"" or text[:1] != text[-1:]:
        raise Damaged("a string lacks its quotes")
    return latin1(codecs.escape_decode(text[1:-1])[0])  # type: ignore[attr-defined]


_BOOLEANS = {b"00": False, b"01": True}

# The keys are the names of argument formats in the standard library's `pickletools`.
_READERS: dict[str, _Reader] = {
    "uint1": _number("<B"),
    "uint2": _number("<H"),
    "uint4": _number("<I"),
    "uint8": _number("<Q"),
    "int4": _number("<i"),
    "float8": _number(">d"),
    "string1": _counted("<B", latin1),
    "string4": _counted("<i", latin1),
    "bytes1": _counted("<B", bytes),
    "bytes4": _counted("<I", bytes),
    "bytes8": _counted("<Q", bytes),
    "bytearray8": _counted("<Q", bytearray),
    "unicodestring1": _counted("<B", utf8),
    "unicodestring4": _counted("<I", utf8),
    "unicodestring8": _counted("<Q", utf8),
    "long1": _counted("<B", partial(int.from_bytes, byteorder="little", signed=True), may_stay=False),
    "long4": _counted("<i", partial(int.from_bytes, byteorder="little", signed=True), may_stay=False),
    "decimalnl_short": _lines(1, lambda text: _BOOLEANS[text] if text in _BOOLEANS else int(text)),
    "decimalnl_long": _lines(1, lambda text: int(text.removesuffix(b"L"))),
    "floatnl": _lines(1, float),
    "stringnl": _lines(1, _quoted),
    "unicodestringnl": _lines(1, lambda text: text.decode("raw-unicode-escape")),
    "stringnl_noescape": _lines(1, utf8),
    "stringnl_noescape_pair": _lines(2, lambda module, name: (utf8(module), utf8(name))),
}
_INSTRUCTIONS = {ord(code.code): (code.name, _READERS[code.arg.name] if code.arg else None) for code in pickletools.opcodes}


def instructions(data: mmap.mmap) -> Iterator[tuple[str, Any]]:
    """Parse a pickle's program up to its end, without reading long strings.

    Args:
        data: the mapped file.

    Yields:
        The name and the argument of each instruction; the argument of a long string is a `Piece`.

    Raises:
        Damaged: if the program is invalid.
    """
    place = 0
    name = ""
    while name != "STOP":
        if place >= len(data):
            raise Damaged(f"it ends too early, after {len(data):,} bytes")
        if data[place] not in _INSTRUCTIONS:
            raise Damaged(f"byte {place:,} is {data[place]:#04x}, which is no instruction")
        name, read = _INSTRUCTIONS[data[place]]
        place += 1
        argument = None
        if read is not None:
            argument, place = read(data, place)
        yield name, argument
