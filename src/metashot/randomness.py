"""Counter-based random numbers: a key and a counter determine a number, independent of the order of the calls.

Philox4x32-10 of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", vectorised.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


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


def random_words(key: tuple[int, int], number: NDArray[np.int64], stream: int, size: int) -> NDArray[np.uint64]:
    """Random 32-bit words for each episode.

    Args:
        key: the key of the stream's random numbers, as from `key_of`.
        number: numbers of episodes, [...].
        stream: the index of the stream.
        size: how many words each episode gets.

    Returns:
        [..., size].
    """
    episode = number.astype(np.uint64)[..., None]
    blocks = np.arange((size + 3) // 4, dtype=np.uint64)
    words = philox((blocks, np.uint64(stream), episode & _LOW, episode >> _HALF), key)  # type: ignore[arg-type]
    return np.stack(words, axis=-1).reshape(*number.shape, -1)[..., :size]


def uniform(key: tuple[int, int], number: NDArray[np.int64], stream: int, size: int) -> NDArray[np.float64]:
    """As `random_words`, numbers in [0, 1)."""
    return random_words(key, number, stream, size) / 2.0**32


def uniform_inside(key: tuple[int, int], number: NDArray[np.int64], stream: int, size: int) -> NDArray[np.float64]:
    """As `random_words`, numbers in (0, 1), which neither end is among."""
    return (random_words(key, number, stream, size) + 0.5) / 2.0**32
