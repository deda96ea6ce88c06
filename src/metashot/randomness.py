"""Counter-based random numbers: a key and a counter determine a number, independent of the order of the calls.

Philox4x32-10 of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", vectorised.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_SPARE = 8  # numbers that are drawn in place of repeated ones


def philox(counter: tuple[NDArray[np.uint64], ...], key: tuple[int, int]) -> tuple[NDArray[np.uint64], ...]:
    """Four 32-bit random words (held in uint64) for each counter; counter words broadcast against each other."""
    c0, c1, c2, c3 = np.broadcast_arrays(*counter)
    k0, k1 = key
    for _ in range(10):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> _HALF) ^ c1 ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _HALF) ^ c3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def key_of(*words: int | str) -> tuple[int, int]:
    """A Philox key from anything that names a stream, such as a seed and a split."""
    digest = hashlib.sha256(repr(words).encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def random_words(key: tuple[int, int], number: NDArray[np.int64], stream: Any, size: int) -> NDArray[np.uint64]:
    """Random 32-bit words for each episode.

    Args:
        key: the key of the stream's random numbers, as from `key_of`.
        number: numbers of episodes, [...].
        stream: the index of the stream, or an array of them, which is broadcast with `number`.
        size: how many words each episode gets.

    Returns:
        [..., size].
    """
    episode = number.astype(np.uint64)[..., None]
    streams = np.asarray(stream, dtype=np.uint64)[..., None]
    blocks = np.arange((size + 3) // 4, dtype=np.uint64)
    words = np.stack(philox((blocks, streams, episode & _LOW, episode >> _HALF), key), axis=-1)
    return words.reshape(*words.shape[:-2], -1)[..., :size]


def distinct_numbers(
    key: tuple[int, int], number: NDArray[np.int64], stream: int, bounds: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Random numbers without repetition, at a cost that depends on how many there are and not on their bound.

    They are the first different ones of an endless sequence, so that more of them begin with the same ones.

    Args:
        key: the key of the stream's random numbers.
        number: numbers of episodes, [T].
        stream: the index of the stream, below 256; each row has a stream of its own above it.
        bounds: how many numbers, from 0, each row is drawn from, [T, rows].
        count: how many each row gets.

    Returns:
        [T, rows, count]. A row with a lower bound gets each number once, and then others that mean nothing.
    """
    streams = ((np.arange(bounds.shape[1]) + 1) << 8) + stream
    below, wanted = bounds[..., None].astype(np.uint64), np.minimum(bounds, count)
    drawn = count + _SPARE
    while True:
        words = random_words(key, number[:, None], streams, 2 * drawn)
        candidates = (words[..., ::2] << _HALF | words[..., 1::2]) % below
        is_new = _first_occurrences(candidates)
        if (is_new.sum(-1) >= wanted).all():
            place = np.argsort(~is_new, axis=-1, kind="stable")[..., :count]
            return np.take_along_axis(candidates, place, axis=-1).astype(np.int64)
        drawn *= 2


def _first_occurrences(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether no earlier value along the last axis is the same."""
    order = np.argsort(values, axis=-1, kind="stable")
    in_order = np.take_along_axis(values, order, axis=-1)
    is_new = np.ones(values.shape, dtype=bool)
    is_new[..., 1:] = in_order[..., 1:] != in_order[..., :-1]
    result = np.empty_like(is_new)
    np.put_along_axis(result, order, is_new, axis=-1)
    return result


def uniform(key: tuple[int, int], number: NDArray[np.int64], stream: Any, size: int) -> NDArray[np.float64]:
    """As `random_words`, numbers in [0, 1)."""
    return random_words(key, number, stream, size) / 2.0**32


def normal(key: tuple[int, int], number: NDArray[np.int64], stream: Any, size: int) -> NDArray[np.float64]:
    """As `random_words`, standard normal numbers (Box and Muller 1958); more of them begin with the same ones."""
    u = (random_words(key, number, stream, size + size % 2) + 0.5) / 2.0**32
    radius, angle = np.sqrt(-2 * np.log(u[..., ::2])), 2 * np.pi * u[..., 1::2]
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    found: NDArray[np.float64] = both.reshape(*u.shape)[..., :size]
    return found


def uniform_inside(key: tuple[int, int], number: NDArray[np.int64], stream: Any, size: int) -> NDArray[np.float64]:
    """As `random_words`, numbers in (0, 1), which neither end is among."""
    return (random_words(key, number, stream, size) + 0.5) / 2.0**32
