"""What backbones of texts share: the tokenizers that they may ask for, and ids hashed into the rows of a table."""

from typing import Any, Literal

import torch
from torch import Tensor

TokenKind = Literal["characters", "words", "bytepairs"]

_MULTIPLIER, _BITS = 0x9E3779B1, 0xFFFFFFFF  # of Fibonacci hashing: Knuth, "The art of computer programming", volume 3


def wanted(tokens: TokenKind, buckets: int, length: int) -> dict[str, Any]:
    """The inputs of a backbone that learns its own table of tokens.

    Args:
        tokens: What a token is.
        buckets: The rows of the table.
        length: The most tokens that are read of a text.
    """
    tokenizer: dict[str, Any] = {"kind": tokens}
    if tokens == "words":
        tokenizer["buckets"] = buckets
    if tokens == "bytepairs":
        tokenizer["vocabulary"] = buckets
    return {"input_shape": [2, length], "tokenizer": tokenizer}


def ids_and_mask(x: Tensor) -> tuple[Tensor, Tensor]:
    """The ids and the mask of inputs [T, N, 2, L]: [T * N, L] each, integers and booleans."""
    flat = x.flatten(0, 1)
    return flat[:, 0].long(), flat[:, 1] != 0


def hashed(ids: Tensor, buckets: int) -> Tensor:
    """Any integers from 0 to 2^32 in [0, buckets)."""
    mixed = (ids * _MULTIPLIER) & _BITS
    return torch.remainder(mixed ^ (mixed >> 15), buckets)
