"""Text files in any encoding: which one a file has, and its lines, read one by one.

UTF-8 and, by their marks or their zeros, UTF-16 and UTF-32 are recognised with certainty. The encoding of other files is
guessed by `charset-normalizer` from lines that are not UTF-8, and has to fit all lines.
"""

import codecs
import io
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from metashot.bad_input import BadInput
from metashot.files.paths import open_file, printable, reason_of
from metashot.sources.texts.code_points import cleaned

UTF8 = "utf-8-sig"  # without or with a mark
_MARKS = (  # those of UTF-32 begin like those of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = re.compile(r"utf[-_ ]?(16|32)", re.IGNORECASE)
_LONGEST_LINE = 2**24  # bytes
_SAMPLE = 2**18  # bytes of lines that are not UTF-8
# In these encodings two bytes are often UTF-8 by chance.
_MULTIBYTE = {
    "big5",
    "big5hkscs",
    "cp932",
    "cp949",
    "cp950",
    "euc_jis_2004",
    "euc_jisx0213",
    "euc_jp",
    "euc_kr",
    "gb18030",
    "gb2312",
}
_MULTIBYTE |= {"gbk", "johab", "shift_jis", "shift_jis_2004", "shift_jisx0213"}
_EXCERPT = 40  # characters
_USUAL = "cp1252"  # which is chosen among equally plausible ones
_NO_TEXT = {"idna", "punycode", "raw_unicode_escape", "unicode_escape", "utf_7"}  # not what files of texts have
_MARK = "\udfff"  # stands for bytes that cannot be decoded; no decoder returns it otherwise
codecs.register_error("metashot.mark", lambda error: (_MARK, error.end))  # type: ignore[attr-defined]


class Encoding(NamedTuple):
    name: str
    is_guessed: bool
    excerpt: str = ""  # of a file with a guessed encoding

    def note(self, path: Path | str) -> str | None:
        """What a user has to know about it."""
        if self.is_guessed:
            return (
                f"{printable(path)} is not UTF-8 and is read as {self.name}, which is a guess: if letters are wrong in "
                f"{self.excerpt!r}, give data.source.encoding"
            )
        return f"{printable(path)} is read as {self.name}" if self.name != UTF8 else None


def open_text(path: Path, largest: int) -> BinaryIO:
    """Open a regular file.

    Args:
        path: the file.
        largest: the largest allowed size in bytes.

    Raises:
        BadInput: if it cannot be opened or is larger.
    """
    try:
        file = open_file(path)
    except OSError as error:
        raise BadInput(f"{printable(path)} cannot be read: {reason_of(error)}") from error
    size = os.fstat(file.fileno()).st_size
    if size > largest:
        file.close()
        raise BadInput(f"{printable(path)} cannot be read: it is larger than {largest / 1e6:,.0f} MB; divide it")
    return file


def given_encoding(name: str) -> Encoding:
    """The encoding that a user names.

    Args:
        name: the value of `data.source.encoding`.

    Raises:
        BadInput: if Python does not know it as an encoding of text.
    """
    try:
        found = codecs.lookup(name)
        usable = found._is_text_encoding and found.name.replace("-", "_") not in _NO_TEXT
        usable = usable and (bool(_WIDE.match(found.name)) or "a,\n".encode(found.name) == b"a,\n")
    except (LookupError, ValueError):
        usable = False
    if not usable:
        raise BadInput(
            f"data.source.encoding={printable(name)[:100]} is not an encoding of text that Python knows; allowed: null "
            "(detected), utf-8, utf-16, cp1252, latin-1, gb18030, shift_jis, ..."
        )
    return Encoding(UTF8 if found.name == "utf-8" else found.name, is_guessed=False)


def encoding_of(file: BinaryIO, path: Path | str) -> Encoding:
    """Detect the encoding of a file.

    Args:
        file: the file, which is read from its beginning.
        path: its path, for messages.

    Returns:
        The encoding.

    Raises:
        BadInput: if it mixes encodings, or its encoding is not recognised.
    """
    wide = _wide(file)
    if wide is not None:
        return Encoding(wide, is_guessed=False)
    file.seek(0)
    utf8, others, first_utf8, first_other = 0, 0, 0, 0
    sample = bytearray()
    for number, line in _byte_lines(file, path):
        if line.isascii():
            continue
        if is_utf8(line):
            utf8 += 1
            first_utf8 = first_utf8 or number
        else:
            others += 1
            first_other = first_other or number
            if len(sample) < _SAMPLE:
                sample += line[:_SAMPLE]
    if not others:
        return Encoding(UTF8, is_guessed=False)
    guessed = guess(bytes(sample))
    if utf8 and (guessed is None or guessed not in _MULTIBYTE or utf8 >= others):
        raise BadInput(
            f"{printable(path)} mixes encodings: line {first_utf8} is UTF-8 and line {first_other} is not; save the whole "
            "file as UTF-8"
        )
    if guessed is None:
        raise unguessed_encoding(path, first_other)
    return Encoding(guessed, is_guessed=True, excerpt=excerpt_of(bytes(sample), guessed))


def is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def undecodable_line(content: bytes) -> int:
    """The first line of a file that is not UTF-8; 0 if there is none, or the file is UTF-16 or UTF-32."""
    if _wide(io.BytesIO(content)) is not None:
        return 0
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 0


def unguessed_encoding(path: Path | str, line: int) -> BadInput:
    return BadInput(
        f"{printable(path)} is not UTF-8 text: line {line} cannot be decoded, and no other encoding was recognised; save it "
        "as UTF-8, or give data.source.encoding"
    )


def excerpt_of(sample: bytes, encoding: str) -> str:
    """The first letters of a sample that are not ASCII, with those around them, for people to check its encoding."""
    text = cleaned(sample.decode(encoding, "replace"))
    place = next((number for number, letter in enumerate(text) if not letter.isascii()), 0)
    return text[max(0, place - _EXCERPT // 2) :][:_EXCERPT]


def guess(sample: bytes) -> str | None:
    """The encoding of text that is not UTF-8, as `charset-normalizer` guesses it."""
    from charset_normalizer import from_bytes

    found = list(from_bytes(sample, cp_exclusion=["utf_7", "utf_8", "ascii"]))  # the most plausible first
    usual = [match for match in found if match.encoding == _USUAL and match.chaos <= found[0].chaos]
    return (usual or found)[0].encoding if found else None


def lines_of(file: BinaryIO, encoding: str, path: Path | str) -> Iterator[str]:
    """The lines of a text file with their ends.

    Args:
        file: the file, which is read from its beginning.
        encoding: its encoding.
        path: its path, for messages.

    Yields:
        The lines, which end with a line feed, a carriage return or both.

    Raises:
        BadInput: if a line cannot be decoded or is too long.
    """
    file.seek(0)
    decoded = _wide_lines(file, encoding, path) if _WIDE.match(encoding) else _narrow_lines(file, encoding, path)
    for line in decoded:
        if "\r" not in line or line.find("\r") >= len(line) - 2:
            yield line
        else:  # carriage returns alone end the lines of old files
            yield from io.StringIO(line, newline="")


def _narrow_lines(file: BinaryIO, encoding: str, path: Path | str) -> Iterator[str]:
    for number, line in _byte_lines(file, path):
        try:
            yield line.decode(encoding if number == 1 or encoding != UTF8 else "utf-8")
        except UnicodeDecodeError as error:
            raise _undecodable(path, number, encoding) from error


def _wide_lines(file: BinaryIO, encoding: str, path: Path | str) -> Iterator[str]:
    text = io.TextIOWrapper(file, encoding, "metashot.mark", newline="\n")
    try:
        for number in itertools.count(1):
            line = text.readline(_LONGEST_LINE)
            if not line:
                return
            if _MARK in line:
                raise _undecodable(path, number, encoding)
            if len(line) == _LONGEST_LINE and not line.endswith("\n"):
                raise _too_long(path, number)
            yield line.lstrip("\ufeff") if number == 1 else line
    finally:
        text.detach()  # or it would close the file


def _byte_lines(file: BinaryIO, path: Path | str) -> Iterator[tuple[int, bytes]]:
    for number in itertools.count(1):
        line = file.readline(_LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > _LONGEST_LINE:
            raise _too_long(path, number)
        yield number, line


def _wide(file: BinaryIO) -> str | None:
    """UTF-16 or UTF-32 by its mark, or by zeros in every other byte."""
    file.seek(0)
    head = file.read(2**16)
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked if marked != UTF8 else None
    even, odd = (head[place::2].count(0) / max(1, len(head) // 2) for place in (0, 1))
    if max(even, odd) > 0.3 and min(even, odd) < 0.05:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _undecodable(path: Path | str, line: int, encoding: str) -> BadInput:
    name = "utf-8" if encoding == UTF8 else encoding
    return BadInput(
        f"{printable(path)}: line {line} cannot be decoded as {name}; save the whole file as UTF-8, or give "
        "data.source.encoding"
    )


def _too_long(path: Path | str, line: int) -> BadInput:
    return BadInput(f"{printable(path)}: line {line} is longer than {_LONGEST_LINE / 1e6:,.0f} MB; it is no file of texts")
