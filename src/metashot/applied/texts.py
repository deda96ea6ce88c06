"""Texts of users: which are accepted, the form in which examples are kept, and the tokens that a learner reads."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.bad_input import BadValue, shown
from metashot.checkpoints.restoring import Origin
from metashot.checkpoints.stored import LONGEST_TEXT
from metashot.data.presentation.tokens import Tokens
from metashot.data.tokenizers.tokenizer import Encoded
from metashot.sources.texts.code_points import PADDING, cleaned, code_points, texts_of

_AT_ONCE, _NUMBERS = 1024, 2**22  # texts that become tokens together, and numbers that these may be
_CHARACTERS = 20  # that are kept for each token that a learner reads
_INVISIBLE = {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"}  # Unicode's categories: control, format, spaces
_ALLOWED = "allowed: a list of texts"


class TextsCut(UserWarning):
    """Some texts are longer than the learner reads, and what lies behind was left out."""


class EmptyTexts(UserWarning):
    """Some queries have nothing to read, so that their answers mean nothing."""


class ReadTexts:
    """Texts as the tokens that a learner reads, without padding.

    Args:
        tokens: The tokens of all texts, one text behind the other.
        lengths: The number of tokens of each [N].
        cut: How many texts are longer than the learner reads.
        empty: Which texts have nothing to read [N].
    """

    def __init__(self, tokens: NDArray[np.int32], lengths: NDArray[np.int64], cut: int, empty: NDArray[np.bool_]) -> None:
        self._tokens = tokens
        self._ends = np.cumsum(lengths)
        self.cut = cut
        self.empty = empty

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, places: slice) -> NDArray[np.int32]:
        """The tokens of some texts in a row: [n, length], padded behind."""
        first, last, _ = places.indices(len(self))
        ends = self._ends[first:last]
        start = int(self._ends[first - 1]) if first else 0
        lengths = np.diff(ends, prepend=start)
        ids = np.full((len(ends), max(1, int(lengths.max(initial=0)))), PADDING, np.int32)
        ids[np.arange(ids.shape[1]) < lengths[:, None]] = self._tokens[start : int(ends[-1]) if len(ends) else start]
        return ids


class TextReader:
    """How a learner reads texts: their tokens, and how many of them.

    Args:
        origin: What its checkpoint says of its training data.
        wanted: The inputs that its backbone wants.

    Attributes:
        tokens: The most tokens that it reads of a text.
        longest: The most characters that are kept of a text.

    Raises:
        BadInput: The tokenizer cannot be used, or is not that of the backbone.
    """

    def __init__(self, origin: Origin, wanted: Mapping[str, Any] | None) -> None:
        self._presentation = Tokens()
        self._presentation.look_like(origin, str(origin["name"]))
        self.tokens = int(origin["input_shape"][1])
        self.longest = min(LONGEST_TEXT, _CHARACTERS * self.tokens)
        if wanted is not None and "tokenizer" in wanted:
            self._presentation.refuse_other(wanted)

    def kept(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Cleaned texts in the form in which examples are saved: code points [N, length]."""
        return code_points([text[: self.longest].rstrip() for text in texts], self.longest)[0]

    def read(self, texts: Sequence[str]) -> ReadTexts:
        """The tokens of any texts."""
        tokens, lengths, empty, cut = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)], 0
        size = max(1, min(_AT_ONCE, _NUMBERS // self.tokens))
        for first in range(0, len(texts), size):
            given = [cleaned(text) for text in texts[first : first + size]]
            shorter = [text for text in given if len(text) <= self.longest]
            encoded = self._encoded([text[: self.longest] for text in given])
            is_there = encoded.ids != PADDING
            tokens.append(encoded.ids[is_there])
            lengths.append(is_there.sum(1))
            empty.append(np.array([is_blank(text) for text in given]) | (lengths[-1] == 0))
            is_longer = len(given) - len(shorter)
            cut += is_longer + self._encoded(shorter).cut if is_longer else encoded.cut
        return ReadTexts(np.concatenate(tokens), np.concatenate(lengths), cut, np.concatenate(empty))

    def read_kept(self, items: NDArray[np.int32]) -> ReadTexts:
        """The tokens of texts in the form in which examples are saved."""
        return self.read(texts_of(items))

    def inputs(self, ids: NDArray[np.int32], device: torch.device) -> Tensor:
        """Token ids [N, length] as inputs of the network: [N, 2, length]."""
        return self._presentation.inputs(torch.from_numpy(ids).to(device)[None])[0]

    def takes_whole(self, text: str) -> bool:
        """Whether all of a cleaned text is read."""
        return len(text) <= self.longest and not self._encoded([text]).cut

    def _encoded(self, texts: Sequence[str]) -> Encoded:
        return self._presentation.tokenizer.encode(texts, self.tokens)


def is_blank(text: str) -> bool:
    """Whether a text has nothing to read: spaces, control and format characters at most."""
    return all(unicodedata.category(letter) in _INVISIBLE for letter in text)


def given_texts(given: Any) -> list[str]:
    """Texts as users give them, in a list.

    Raises:
        BadValue: They are no sequence of texts.
    """
    if isinstance(given, str):
        raise BadValue(f"one text was given instead of a list of them: did you mean [{shown(given)}]?")
    if isinstance(given, Mapping | Set | bytes | bytearray) or not isinstance(given, Iterable):
        raise BadValue(f"texts={shown(given)} cannot be used; {_ALLOWED}")
    if hasattr(given, "columns"):  # a table, whose elements are the names of its columns
        raise BadValue(f"texts are a table with columns; {_ALLOWED}, such as one column of it")
    shape = getattr(given, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        what = "; images are for another learner, such as metashot.load('photos')" if len(shape) > 2 else ""
        raise BadValue(f"texts of the shape {tuple(shape)} cannot be used; {_ALLOWED}, or an array [N] of them{what}")
    texts = list(given)
    if not texts:
        raise BadValue(f"no text was given; {_ALLOWED}")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadValue(f"text {place} {_what_it_is(text)}; {_ALLOWED}")
    return texts if all(type(text) is str for text in texts) else [str(text) for text in texts]


def _what_it_is(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return "is bytes and not text: decode it first, as in value.decode('utf-8')"
    if value is None:
        return "is missing (None): leave it out, or give '' for an empty query"
    if isinstance(value, float | np.floating) and value != value:
        return "is missing (NaN): leave it out, or give '' for an empty query"
    if hasattr(value, "__fspath__"):
        return f"is a path, {shown(value)}, and not text: read the file first, as in path.read_text()"
    return f"is of the type {type(value).__name__} and not text: {shown(value)}"


def refuse_blank(texts: Sequence[str]) -> None:
    """Refuse examples that have nothing to read: they would stand for their class with what is no text."""
    for place, text in enumerate(texts):
        if is_blank(text):
            what = "is empty" if not text.strip() else "has nothing that can be read"
            raise BadValue(f"text {place} {what}, so that nothing can be learned from it: leave it out, with its label")


def warning_of_cut(cut: int, texts: int, reader: TextReader) -> str | None:
    """What to say of texts that are longer than a learner reads; None where there are none."""
    if not cut:
        return None
    given, are = "text" if texts == 1 else "texts", "is" if cut == 1 else "are"
    return (
        f"{cut:,} of {texts:,} {given} {are} longer than this learner reads, and cut: it reads {reader.tokens:,} tokens "
        f"of a text, and at most {reader.longest:,} characters"
    )


def warning_of_empty(empty: NDArray[np.bool_]) -> str | None:
    """What to say of queries that have nothing to read; None where there are none."""
    if not empty.any():
        return None
    count, first = int(empty.sum()), int(empty.argmax())
    have, answers = ("has", "its answer means") if count == 1 else ("have", "their answers mean")
    texts = "text" if len(empty) == 1 else "texts"
    return f"{count:,} of {len(empty):,} {texts} {have} nothing to read (the first: text {first}), so that {answers} nothing"
