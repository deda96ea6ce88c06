"""Vocabularies of parts of words, in the form of a `tokenizer.json` of the package tokenizers.

They belong to published vectors and encoders, or are trained on the texts of the training classes: Sennrich, Haddow, Birch
2016, "Neural machine translation of rare words with subword units", arXiv:1508.07909, over bytes.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.data.tokenizers.tokenizer import Encoded, Tokenizer, padded

_MOST_BYTES = 2**26  # of a vocabulary
_PAD = "<pad>"  # its id is 0
_CHARACTERS = 20  # of a text for each of its tokens; what lies behind is not read


class Vocabulary(Tokenizer):
    """A vocabulary as the content of a `tokenizer.json`.

    Args:
        content: The content, in UTF-8.
        marks: Whether the marks that an encoder expects around a text, such as [CLS] and [SEP], are added.
        rows: The vectors that there are for ids; None if it is not known.

    Raises:
        BadInput: The package tokenizers is missing, or does not read it.
    """

    kind: ClassVar[str] = "json"

    def __init__(self, content: bytes, marks: bool, rows: int | None = None) -> None:
        self.marks = marks
        self.rows = rows
        self._read(content)

    @classmethod
    def of(cls, packed: Tensor | bytes, marks: bool, rows: int | None = None) -> "Vocabulary":
        """The vocabulary from a checkpoint, where it is compressed in a tensor, or from its content.

        Raises:
            BadInput: It is broken.
        """
        if isinstance(packed, bytes):
            return cls(packed, marks, rows)
        unpacking = zlib.decompressobj()
        try:
            content = unpacking.decompress(packed.numpy().tobytes(), _MOST_BYTES)
        except zlib.error as error:
            raise BadInput(f"its vocabulary cannot be read: {error}") from error
        if unpacking.unconsumed_tail:
            raise BadInput(f"its vocabulary has more than {_MOST_BYTES:,} bytes")
        return cls(content, marks, rows)

    @property
    def size(self) -> int:
        """The number of ids."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def largest(self) -> int:
        """The largest id. A vocabulary of anyone may leave out some below it."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)

    def encode(self, texts: Sequence[str], length: int) -> Encoded:
        longest = _CHARACTERS * length
        with _its_errors("its vocabulary cannot be used on these texts"):
            self._tokenizer.enable_truncation(max_length=length)
            # A text of a megabyte would be tokenised as a whole before it is cut.
            found = self._tokenizer.encode_batch([text[:longest] for text in texts], add_special_tokens=self.marks)
        ids = padded([one.ids for one in found], length).ids
        if self.rows is not None and int(ids.max(initial=0)) >= self.rows:
            raise BadInput(
                f"the tokenizer does not fit the vectors: it gives the id {int(ids.max()):,}, and there are {self.rows:,}"
            )
        cut = sum(bool(one.overflowing) or len(text) > longest for one, text in zip(found, texts, strict=True))
        return Encoded(ids, cut)

    def origin(self) -> dict[str, Any]:
        packed = np.frombuffer(zlib.compress(self._content), np.uint8)
        return {"kind": self.kind, "json": torch.from_numpy(packed.copy()), "marks": self.marks}

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "digest": hashlib.sha256(self._content).hexdigest(), "marks": self.marks}

    def _read(self, content: bytes) -> None:
        if len(content) > _MOST_BYTES:
            raise BadInput(f"its vocabulary has {len(content):,} bytes; allowed: at most {_MOST_BYTES:,}")
        self._content = content
        package = imported_tokenizers()
        with _its_errors("its vocabulary is no tokenizer.json that the package tokenizers reads"):
            self._tokenizer = package.Tokenizer.from_buffer(content)
            self._tokenizer.no_padding()

    def __getstate__(self) -> dict[str, Any]:
        return {"marks": self.marks, "rows": self.rows, "_content": self._content}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.marks, self.rows = state["marks"], state["rows"]
        self._read(state["_content"])


class BytePairs(Vocabulary):
    """A vocabulary of byte pairs, which `fit` trains. It has ids for all bytes, and so for all texts.

    Args:
        size: The number of ids. Id 0 is that of no token.
    """

    kind: ClassVar[str] = "bytepairs"

    def __init__(self, size: int) -> None:
        imported_tokenizers()
        self.marks, self.rows = False, size
        self._wanted = size
        self._content = b""

    @property
    def is_fitted(self) -> bool:
        return bool(self._content)

    def fit(self, texts: Iterable[Sequence[str]]) -> None:
        package = imported_tokenizers()
        trained = package.Tokenizer(package.models.BPE())
        trained.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=True)
        trained.decoder = package.decoders.ByteLevel()
        alphabet = package.pre_tokenizers.ByteLevel.alphabet()
        trainer = package.trainers.BpeTrainer(
            vocab_size=self._wanted, special_tokens=[_PAD], initial_alphabet=alphabet, show_progress=False
        )
        trained.train_from_iterator(texts, trainer)
        self._read(trained.to_str().encode())

    def origin(self) -> dict[str, Any]:
        assert self.is_fitted
        return super().origin() | {"kind": Vocabulary.kind}

    def identity(self) -> dict[str, Any]:
        return super().identity() if self.is_fitted else {"kind": self.kind, "vocabulary": self._wanted}

    def content(self) -> bytes:
        """The content of its `tokenizer.json`."""
        return self._content

    def restore(self, content: bytes) -> None:
        """Take a vocabulary that was trained before."""
        self._read(content)


@contextmanager
def _its_errors(what: str) -> Iterator[None]:
    """Turn what the package raises on a broken vocabulary, panics that are no `Exception` among it, into one message."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{what}: {reason}") from error


def imported_tokenizers() -> ModuleType:
    """The package tokenizers.

    Raises:
        BadInput: It is not installed.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise BadInput(
            "the vocabulary of this backbone needs the package tokenizers, which is not installed: "
            "pip install 'metashot[text]', or choose backbone=textcnn or backbone=ngrams, which need none"
        ) from error
    return tokenizers
