"""Texts as the items of a bank: Unicode code points, so that nothing is lost and no tokenizer has to be known."""

import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

PADDING = -1  # behind the last character of a text
_AT_ONCE = 2**22  # code points handled at a time, which bounds the memory of masks
# Control characters but those that are white space, the byte order mark, and halves of surrogate pairs.
_REMOVED = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# Marks in a row are sorted in quadratic time, so long texts keep as many as Unicode's stream-safe form has (UAX 15).
_LONG, _MARKS_IN_A_ROW = 200, 30


def cleaned(text: str) -> str:
    """Bring a text into the form that banks and learners keep: NFC, one space between words, no control characters.

    Args:
        text: any text; lone surrogates are removed, and pairs of them become the character that they stand for.

    Returns:
        The text, possibly empty; cleaning it again changes nothing.
    """
    if not text.isascii():
        if _SURROGATES.search(text):
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
        text = _REMOVED.sub("", text)
        if len(text) > _LONG:
            text = _too_many_marks().sub(r"\1", text)
        text = unicodedata.normalize("NFC", text)
    elif not text.isprintable():
        text = _REMOVED.sub("", text)
    return " ".join(text.split())


@cache
def _too_many_marks() -> re.Pattern[str]:
    marks = "".join(filter(unicodedata.combining, map(chr, range(sys.maxunicode + 1))))
    return re.compile(f"([{marks}]{{{_MARKS_IN_A_ROW}}})[{marks}]+")


def code_points(texts: Sequence[str], longest: int) -> tuple[NDArray[np.int32], int]:
    """The code points of texts, which are not cleaned first.

    Args:
        texts: the texts.
        longest: the most characters that are kept of a text.

    Returns:
        The code points [N, length], padded with `PADDING`, where `length` is that of the longest text, and at least 1; and
        how many texts were cut.
    """
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    cut = int((sizes > longest).sum())
    sizes = np.minimum(sizes, longest)
    length = max(1, int(sizes.max(initial=0)))
    points = np.full((len(texts), length), PADDING, np.int32)
    rows = max(1, _AT_ONCE // length)
    for first in range(0, len(texts), rows):
        piece = texts[first : first + rows]
        joined = "".join(text[:longest] for text in piece) if cut else "".join(piece)
        flat = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<i4")
        is_there = np.arange(length) < sizes[first : first + rows, None]  # [rows, length]
        points[first : first + rows][is_there] = flat
    return points, cut


def texts_of(items: NDArray[np.integer[Any]]) -> list[str]:
    """The texts that code points stand for.

    Args:
        items: code points [N, length], padded with `PADDING`.

    Returns:
        N texts.

    Raises:
        ValueError: if a number is neither a code point nor padding.
    """
    texts: list[str] = []
    rows = max(1, _AT_ONCE // max(1, items.shape[1]))
    for first in range(0, len(items), rows):
        piece = np.asarray(items[first : first + rows])
        is_there = piece != PADDING
        ends = np.cumsum(is_there.sum(1)).tolist()
        flat = piece[is_there]
        if len(flat) and (flat.min() < 0 or flat.max() > 0x10FFFF):
            raise ValueError("items that are no texts: a number is not a code point of Unicode")
        joined = flat.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
        texts += [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return texts
