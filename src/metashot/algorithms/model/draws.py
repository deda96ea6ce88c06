"""Random numbers of training episodes, each a function of the episode's number alone, on whatever device and in whatever
batch.
"""

import torch
from torch import Tensor

from metashot.randomness import key_of


class Draws:
    """Streams of random numbers, one for each of T episodes.

    Args:
        purpose: The name of the streams, such as that of the algorithm.
        number: The numbers [T] of the episodes.
    """

    def __init__(self, purpose: str, number: Tensor) -> None:
        self.generators = [torch.Generator().manual_seed(_seed(purpose, value)) for value in number.tolist()]

    def normal(self, like: Tensor, *shape: int) -> Tensor:
        """Numbers [T, *shape] of the standard normal distribution, with the dtype and the device of `like`."""
        drawn = [torch.randn(shape, generator=generator, dtype=torch.float32) for generator in self.generators]
        return torch.stack(drawn).to(like)

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """Set a share `rate` of the numbers in x [T, ...] to zero, and divide the rest by 1 - rate."""
        if not rate:
            return x
        drawn = [torch.rand(x.shape[1:], generator=generator, dtype=torch.float32) for generator in self.generators]
        return x * (torch.stack(drawn) >= rate).to(x) / (1 - rate)


def _seed(purpose: str, number: int) -> int:
    high, low = key_of(purpose, number)
    return ((high << 32) | low) >> 1  # below 2^63
