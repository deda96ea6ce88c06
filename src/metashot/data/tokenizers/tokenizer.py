"""The base class of tokenizers, which turn texts into token ids."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metashot.sources.texts.code_points import PADDING

Ids = NDArray[np.int32]


class Encoded(NamedTuple):
    """Texts as token ids."""

    ids: Ids  # [N, length], `PADDING` after the last token of a text
    cut: int  # texts that had more than `length` tokens


class Tokenizer(ABC):
    """Turns texts into token ids.

    Attributes:
        kind: its name in checkpoints.
    """

    kind: ClassVar[str]

    @property
    def is_fitted(self) -> bool:
        """Whether it can encode: a vocabulary of byte pairs has to be trained first."""
        return True

    def fit(self, texts: Iterable[Sequence[str]]) -> None:
        """Train the vocabulary.

        Args:
            texts: the texts of the training split, in pieces.
        """
        return

    @abstractmethod
    def encode(self, texts: Sequence[str], length: int) -> Encoded:
        """Turn texts into token ids.

        Args:
            texts: the texts.
            length: the most tokens of a text; further ones are cut.
        """

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """Describe it for a checkpoint, from which `tokenizer_of` builds it again."""

    def identity(self) -> dict[str, Any]:
        """Describe everything that determines the ids, in plain containers that JSON can store."""
        return self.origin()


def padded(rows: Sequence[Sequence[int]], length: int) -> Encoded:
    """Token ids of different lengths as one array.

    Args:
        rows: the ids of each text.
        length: the most tokens of a text.
    """
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    ids = np.full((len(rows), length), PADDING, np.int32)
    kept = np.minimum(lengths, length)
    flat = np.fromiter((token for row in rows for token in row[:length]), np.int32, int(kept.sum()))
    ids[np.arange(length) < kept[:, None]] = flat
    return Encoded(ids, int((lengths > length).sum()))
