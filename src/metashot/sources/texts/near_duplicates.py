"""Texts of one split that are nearly the same as texts of another, which would make unseen classes partly seen.

Texts are compared without case and punctuation. Two are near duplicates if the Jaccard similarity of their sets of
character 4-grams is at least `LEAST_SIMILARITY`. Candidates are found by MinHash with bands (Broder 1997; Leskovec,
Rajaraman, Ullman 2014, chapter 3) and then compared exactly, so what is reported is true; 99 % of the pairs with a
similarity of 0.8 become candidates, and nearly all of the more similar ones. Time and memory are linear in the number of
characters and texts: many texts in one bucket are each compared with a few of the others.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_SIMILARITY = 0.8
_BANDS, _ROWS = 16, 6  # a pair of similarity s is a candidate with probability 1 - (1 - s^6)^16
_GRAM = 4  # characters
_PARTNERS = 2  # texts of another split that a text is compared with, in one bucket
_MOST_CANDIDATES = 2**20  # of one band
_HASHED_AT_ONCE = 2**17  # characters, which stay in the processor's cache
_READ_AT_ONCE, _TEXTS_AT_ONCE = 2**24, 2**13  # characters at most, and texts
_WORDS = re.compile(r"\w+")

Read = Callable[[NDArray[Any]], list[str]]


def near_duplicates(read: Read, splits: NDArray[np.int8], of_splits: int, longest: int) -> NDArray[np.int64]:
    """Find a near duplicate of each text in each of the other splits.

    Args:
        read: returns the texts of some rows.
        splits: the number of each row's split; rows with a negative number are left out.
        of_splits: how many splits there are.
        longest: the most characters of a text, which bounds how many are read at a time.

    Returns:
        [N, splits]: a row of that split that is nearly the same; -1 if none was found.
    """
    partners = np.full((len(splits), of_splits), -1, np.int64)
    rows = np.flatnonzero(splits >= 0)
    if not len(rows):
        return partners
    at_once = max(1, min(_TEXTS_AT_ONCE, _READ_AT_ONCE // longest))
    # Equal texts of one split are represented by the first of them.
    digests = np.concatenate([_digests(read(piece)) for piece in _pieces(rows, at_once)])
    order = np.lexsort((rows, splits[rows], digests))
    digest, split = digests[order], splits[rows][order]
    is_first = np.concatenate([[True], (digest[1:] != digest[:-1]) | (split[1:] != split[:-1])])
    entries = rows[order][is_first]  # [E], ordered by text, then by split
    found = _Found(read, entries, split[is_first], of_splits, at_once)
    found.add_equal(digest[is_first])
    keys = _band_keys(read, entries, at_once)
    for band in range(_BANDS):
        found.add_similar(keys[band])
    of_entries = np.where(found.partners >= 0, entries[found.partners], -1)  # [E, splits]
    partners[rows[order]] = of_entries[np.cumsum(is_first) - 1]
    return partners


class _Found:
    """The near duplicates found so far.

    Args:
        read: returns the texts of some rows.
        entries: the rows that are compared.
        splits: the split of each of them.
        of_splits: how many splits there are.
        at_once: how many texts are read at a time.
    """

    def __init__(
        self, read: Read, entries: NDArray[np.int64], splits: NDArray[np.int8], of_splits: int, at_once: int
    ) -> None:
        self.read = read
        self.at_once = at_once
        self.entries = entries
        self.splits = splits.astype(np.int64)
        self.partners = np.full((len(entries), of_splits), -1, np.int64)
        self._compared = np.empty(0, np.int64)  # pairs that are not similar

    def add_equal(self, digests: NDArray[np.uint64]) -> None:
        for distance in range(1, self.partners.shape[1]):
            first = np.flatnonzero(digests[distance:] == digests[:-distance])
            self._note(first, first + distance)

    def add_similar(self, keys: NDArray[np.uint32]) -> None:
        """Compare texts with the same key in one band."""
        one, other = self._candidates(keys)
        open_ = (self.partners[one, self.splits[other]] < 0) | (self.partners[other, self.splits[one]] < 0)
        one, other = one[open_], other[open_]
        codes = np.unique(np.minimum(one, other) * len(self.entries) + np.maximum(one, other))
        codes = np.setdiff1d(codes, self._compared, assume_unique=True)
        if len(codes) > _MOST_CANDIDATES:
            codes = codes[np.linspace(0, len(codes) - 1, _MOST_CANDIDATES).astype(np.int64)]
        one, other = np.divmod(codes, len(self.entries))
        alike = np.zeros(len(codes), bool)
        for first in range(0, len(codes), self.at_once):
            piece = slice(first, first + self.at_once)
            texts, others = self.read(self.entries[one[piece]]), self.read(self.entries[other[piece]])
            alike[piece] = similarities(texts, others) >= LEAST_SIMILARITY
        self._note(one[alike], other[alike])
        self._compared = np.union1d(self._compared, codes[~alike])

    def _note(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
        self.partners[one[::-1], self.splits[other[::-1]]] = other[::-1]  # reversed: the first pair stays
        self.partners[other[::-1], self.splits[one[::-1]]] = one[::-1]

    def _candidates(self, keys: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of entries of different splits with the same key, a few for each entry."""
        order = np.lexsort((self.splits, keys))
        key, split = keys[order], self.splits[order]
        firsts = np.flatnonzero(np.concatenate([[True], (key[1:] != key[:-1]) | (split[1:] != split[:-1])]))
        counts = np.diff(np.append(firsts, len(order)))  # a group has one key and one split
        pairs = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        for distance in range(1, self.partners.shape[1]):
            left = np.flatnonzero(key[firsts][distance:] == key[firsts][:-distance])
            for own, of in ((left, left + distance), (left + distance, left)):
                for step in range(_PARTNERS):
                    fits = counts[of] > step
                    pairs.append(_paired(firsts[own[fits]], counts[own[fits]], firsts[of[fits]], counts[of[fits]], step))
        one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return order[one], order[other]


def _paired(
    first: NDArray[np.int64], count: NDArray[np.int64], of_first: NDArray[np.int64], of_count: NDArray[np.int64], step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each element of some groups with one element of another group."""
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    partner = (within + step) % np.repeat(of_count, count)
    return np.repeat(first, count) + within, np.repeat(of_first, count) + partner


def similarities(texts: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """The Jaccard similarities of pairs of texts.

    Args:
        texts: the first text of each pair.
        others: the second one.

    Returns:
        [pairs]
    """
    one, other = _sets(texts), _sets(others)
    both = np.sort(np.concatenate([one, other]))
    numbers = (both >> np.uint64(44)).astype(np.int64)
    shared = np.bincount(numbers[:-1][both[1:] == both[:-1]], minlength=len(texts))
    similar: NDArray[np.float64] = shared / (np.bincount(numbers, minlength=len(texts)) - shared)
    return similar


def _sets(texts: Sequence[str]) -> NDArray[np.uint64]:
    """The different grams of texts as numbers: that of the text in the upper 20 bits, a hash of the gram in the others."""
    grams, counts = _grams(texts)
    numbers = np.repeat(np.arange(len(texts), dtype=np.uint64), counts)
    return np.unique(numbers << np.uint64(44) | grams >> np.uint64(20))


def _band_keys(read: Read, entries: NDArray[np.int64], at_once: int) -> NDArray[np.uint32]:
    """A hash of the minima of each band: [bands, E]."""
    random = np.random.default_rng(0)
    factors = random.integers(2**32, size=(_BANDS, _ROWS), dtype=np.uint32) | np.uint32(1)
    offsets = random.integers(2**32, size=(_BANDS, _ROWS), dtype=np.uint32)
    keys = np.zeros((_BANDS, len(entries)), np.uint32)
    first = 0
    for piece in _pieces(entries, at_once):
        for texts in _limited(read(piece)):
            grams, counts = _grams(texts)
            short = (grams >> np.uint64(32)).astype(np.uint32)
            starts = np.cumsum(counts) - counts
            hashed = np.empty_like(short)
            last = first + len(texts)
            for band in range(_BANDS):
                for row in range(_ROWS):
                    np.bitwise_xor(short, offsets[band, row], out=hashed)
                    np.multiply(hashed, factors[band, row], out=hashed)
                    minima = np.minimum.reduceat(hashed, starts)  # [texts]
                    keys[band, first:last] = (keys[band, first:last] ^ minima) * np.uint32(0x9E3779B1) + np.uint32(row)
            first = last
    return keys


def _limited(texts: list[str]) -> Iterator[list[str]]:
    """Divide texts into lists of about `_HASHED_AT_ONCE` characters."""
    piece, size = [], 0
    for text in texts:
        piece.append(text)
        size += len(text)
        if size >= _HASHED_AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _grams(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the character 4-grams of texts, one text after the other, and how many each text has."""
    normal = [_normal(text) for text in texts]
    sizes = np.fromiter(map(len, normal), np.int64, len(normal))
    points = np.frombuffer("".join(normal).encode("utf-32-le"), "<u4").astype(np.uint64)
    hashed = np.zeros(len(points) - _GRAM + 1, np.uint64)
    for place in range(_GRAM):
        hashed = hashed * np.uint64(0x100000001B3) + points[place : place + len(hashed)]
    hashed ^= hashed >> np.uint64(31)  # mixed as in splitmix64
    hashed *= np.uint64(0x7FB5D329728EA185)
    hashed ^= hashed >> np.uint64(27)
    hashed *= np.uint64(0x81DADEF4BC2DD44D)
    hashed ^= hashed >> np.uint64(33)
    counts = sizes - _GRAM + 1
    is_inside = np.ones(len(points), bool)
    ends = np.cumsum(sizes)
    for before in range(1, _GRAM):  # grams that reach into the next text
        is_inside[ends - before] = False
    return hashed[is_inside[: len(hashed)]], counts


def _normal(text: str) -> str:
    """A text without case and punctuation, unless it has nothing else; at least `_GRAM` characters."""
    text = text.casefold()
    return " ".join(_WORDS.findall(text)).ljust(_GRAM) if _WORDS.search(text) else text.ljust(_GRAM)


def _digests(texts: Sequence[str]) -> NDArray[np.uint64]:
    joined = b"".join(blake2b(_normal(text).encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, np.uint64)


def _pieces(rows: NDArray[np.int64], at_once: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(rows), at_once):
        yield rows[first : first + at_once]
