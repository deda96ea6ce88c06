"""Words as tokens, hashed into buckets, so that no vocabulary is needed: Weinberger, Dasgupta, Langford, Smola, Attenberg
2009, "Feature hashing for large scale multitask learning", arXiv:0902.2206.

Scripts without spaces between words, such as Chinese, have a token for each character.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar

from metashot.data.tokenizers.tokenizer import Encoded, Tokenizer, padded

# Han, kana, Thai, Lao, Khmer and Burmese have no spaces between words.
_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_WITHOUT_SPACES}]|(?:(?![{_WITHOUT_SPACES}])[\w'’])+|[^\w\s]")

_WITHOUT_SPACE = re.compile(f"[{_WITHOUT_SPACES}]")
_JOINERS = "\u200c\u200d"
_MODIFIERS = {*map(chr, range(0x1F3FB, 0x1F400)), *map(chr, range(0xE0020, 0xE0080))}  # of emoji: skin tones, and tags
_FLAGS = {*map(chr, range(0x1F1E6, 0x1F200))}  # two letters are one flag


def words_of(text: str) -> Iterator[str]:
    """The words and the punctuation marks of a text, in lower case."""
    return (text[start:end].lower() for start, end in places_of(text))


def places_of(text: str) -> Iterator[tuple[int, int]]:
    """The places of the words and the punctuation marks of a text.

    What is read as one stays in one piece: letters with their marks, as in Hindi, and emoji that are joined.
    """
    start = end = 0
    for found in _WORD.finditer(text):
        if end and found.start() == end and _goes_on(text[start:end], found[0]):
            end = found.end()
            continue
        if end:
            yield start, end
        start, end = found.span()
    if end:
        yield start, end


def _goes_on(before: str, piece: str) -> bool:
    """Whether a piece belongs to what stands directly before it."""
    first, last = piece[0], before[-1]
    if first in _JOINERS or unicodedata.category(first)[0] == "M" or first in _MODIFIERS or last in _JOINERS:
        return True
    if first in _FLAGS:
        return len(before) == 1 and last in _FLAGS
    is_word = before[0].isalnum() and first.isalnum() and not _WITHOUT_SPACE.match(first)
    return is_word and unicodedata.category(last)[0] == "M"


class Words(Tokenizer):
    """Hashed words.

    Args:
        buckets: The number of ids; 0 is that of no word.
    """

    kind: ClassVar[str] = "words"

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def encode(self, texts: Sequence[str], length: int) -> Encoded:
        rows = [[self._id(word) for word in islice(words_of(text), length + 1)] for text in texts]
        return padded(rows, length)

    def _id(self, word: str) -> int:
        return _hash(word) % (self.buckets - 1) + 1

    def origin(self) -> dict[str, Any]:
        return {"kind": self.kind, "buckets": self.buckets}


@lru_cache(2**16)
def _hash(word: str) -> int:
    return zlib.crc32(word.encode(errors="surrogatepass"))
