"""The tokens of texts, computed once and kept in a folder beside the banks, and trained vocabularies."""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metashot.bad_input import BadInput
from metashot.data.bank import Bank
from metashot.data.tokenizers.tokenizer import Tokenizer
from metashot.data.tokenizers.vocabulary import BytePairs
from metashot.files.paths import read_file
from metashot.files.whole_folders import make_once, whole_folder
from metashot.sources.texts.code_points import texts_of

_AT_ONCE = 10_000  # texts in memory at a time
_TOKENS, _MANIFEST, _VOCABULARY = "tokens.npy", "manifest.json", "tokenizer.json"
_VERSION = 1  # of what tokenizers return
_MOST_BYTES = 2**26  # of a vocabulary
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError)


class TokenBank(NamedTuple):
    """The tokens of a split."""

    bank: Bank  # of items `int32 [length]`
    cut: int  # texts with more tokens


def token_bank(bank: Bank, tokenizer: Tokenizer, length: int, of: Mapping[str, Any], banks: Path) -> TokenBank:
    """Load the tokens of a split, or compute and store them.

    Args:
        bank: the texts of the split, as code points.
        tokenizer: the tokenizer.
        length: the most tokens of a text.
        of: everything that determines the texts.
        banks: the folder of the banks.

    Raises:
        BadInput: if they cannot be stored there.
    """
    identity = {"of": dict(of), "tokenizer": tokenizer.identity(), "length": length, "version": _VERSION}
    folder = banks / f"tokens-{_digest(identity)}"
    shape = (len(bank.items), length)

    def make() -> None:
        with whole_folder(folder) as temporary:
            kept = np.lib.format.open_memmap(temporary / _TOKENS, "w+", np.int32, shape)  # type: ignore[no-untyped-call]
            cut = first = 0
            for texts in pieces(bank):
                found = tokenizer.encode(texts, length)
                kept[first : first + len(texts)] = found.ids
                cut, first = cut + found.cut, first + len(texts)
            kept.flush()
            (temporary / _MANIFEST).write_text(json.dumps({"identity": identity, "cut": cut, "checksum": _checksum(kept)}))

    with _writing(banks):
        make_once(folder, lambda: _found(folder, shape) is not None, make)
    found = _found(folder, shape)
    assert found is not None
    items, cut = found
    return TokenBank(Bank(items, bank.classes, bank.items_per_class), cut)


def train_vocabulary(tokenizer: BytePairs, bank: Bank, of: Mapping[str, Any], banks: Path) -> None:
    """Train a vocabulary on the texts of the training split, or load the one that was trained before.

    Args:
        tokenizer: the untrained vocabulary.
        bank: the texts, as code points.
        of: everything that determines the texts.
        banks: the folder of the banks.

    Raises:
        BadInput: if it cannot be stored there.
    """
    identity = {"of": dict(of), "tokenizer": tokenizer.identity(), "version": _VERSION}
    folder = banks / f"vocabulary-{_digest(identity)}"

    def is_current() -> bool:
        try:
            tokenizer.restore(read_file(folder / _VOCABULARY, _MOST_BYTES))
            return True
        except (OSError, BadInput):
            return False

    def make() -> None:
        tokenizer.fit(pieces(bank))
        with whole_folder(folder) as temporary:
            (temporary / _VOCABULARY).write_bytes(tokenizer.content())

    with _writing(banks):
        make_once(folder, is_current, make)


def pieces(bank: Bank) -> Iterator[list[str]]:
    """The texts of a bank, some at a time."""
    for first in range(0, len(bank.items), _AT_ONCE):
        yield texts_of(np.asarray(bank.items[first : first + _AT_ONCE]))


def _found(folder: Path, shape: tuple[int, int]) -> tuple[NDArray[np.int32], int] | None:
    """The stored tokens, and how many texts were cut; None if they are missing or damaged."""
    path = folder / _TOKENS
    try:
        if path.is_symlink() or not path.is_file():
            return None
        items = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]
        if items.dtype != np.int32 or items.shape != shape or not items.flags.c_contiguous:
            return None
        manifest = json.loads(read_file(folder / _MANIFEST, _MOST_BYTES))
        cut, is_whole = manifest["cut"], manifest["checksum"] == _checksum(items)
        return (items, cut) if type(cut) is int and is_whole else None
    except _DAMAGE:
        return None


def _checksum(items: NDArray[np.int32]) -> int:
    found = 0
    for first in range(0, len(items), _AT_ONCE):
        found = zlib.crc32(np.ascontiguousarray(items[first : first + _AT_ONCE]).view(np.uint8).data, found)
    return found


def _digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _writing(banks: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"the tokens of the texts cannot be written to {banks}: {error.strerror or error}; choose another folder with "
            "data.banks"
        ) from error
