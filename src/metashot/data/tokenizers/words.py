"""Words as tokens, hashed into buckets, so that no vocabulary is needed: Weinberger, Dasgupta, Langford, Smola, Attenberg
2009, "Feature hashing for large scale multitask learning", arXiv:0902.2206.

Scripts without spaces between words, such as Chinese, have a token for each character.
"""

import re
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


def words_of(text: str) -> Iterator[str]:
    """The words and the punctuation marks of a text, in lower case."""
    return (found[0].lower() for found in _WORD.finditer(text))


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
