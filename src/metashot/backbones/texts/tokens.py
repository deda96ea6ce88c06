"""What backbones of texts share: the tokenizers that they may ask for, and ids hashed into the rows of a table."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from metashot.bad_input import BadInput

FEWEST_BYTEPAIRS = 257  # ids of the bytes and of the padding

TokenKind = Literal["characters", "words", "bytepairs"]

_MULTIPLIER, _BITS = 0x9E3779B1, 0xFFFFFFFF  # of Fibonacci hashing: Knuth, "The art of computer programming", volume 3


def wanted(tokens: TokenKind, buckets: int, length: int) -> dict[str, Any]:
    """The inputs of a backbone that learns its own table of tokens.

    Args:
        tokens: What a token is.
        buckets: The rows of the table.
        length: The most tokens that are read of a text.
    """
    if tokens == "bytepairs" and buckets < FEWEST_BYTEPAIRS:
        raise BadInput(
            f"backbone.buckets={buckets} is too small a vocabulary of byte pairs, which has the 256 bytes and the padding: "
            f"give at least {FEWEST_BYTEPAIRS}, such as 4096"
        )
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


class Frequencies(nn.Module):
    """How often each token is among those of the training split; it is kept in checkpoints.

    Args:
        tokens: The number of ids.
    """

    shares: Tensor

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.register_buffer("shares", torch.zeros(tokens))

    def learn(self, counts: Tensor) -> None:
        """Take the counts of the tokens of the training split.

        Args:
            counts: [ids], of which the last ones may be left out.
        """
        self.shares.zero_()
        self.shares[: len(counts)] = counts.to(self.shares) / counts.sum().clamp(min=1)

    def rarity(self, ids: Tensor, smoothing: float) -> Tensor:
        """a / (a + p(w)) of tokens w, where a is the smoothing: between 0 and 1, and 1 for tokens that were never seen."""
        return smoothing / (smoothing + self.shares[ids])
