"""Quantiles of Beta distributions, which turn uniform random numbers into Beta-distributed ones."""

import torch
from torch import Tensor

_HALVINGS = 40
_TINY = 1e-300


def beta_quantiles(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    """The numbers x with P(X <= x) = share for X ~ Beta(a, b), by bisection.

    Args:
        a: Whole numbers of at least 1, [...].
        b: The same.
        shares: In (0, 1), [...].

    Returns:
        [...], in 64 bits.
    """
    a, b, shares = a.double(), b.double(), shares.double()
    low, high = torch.zeros_like(shares), torch.ones_like(shares)
    for _ in range(_HALVINGS):
        x = (low + high) / 2
        above = beta_shares(a, b, x) >= shares
        low, high = torch.where(above, low, x), torch.where(above, x, high)
    return (low + high) / 2


def beta_shares(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """P(X <= x) for X ~ Beta(a, b) with whole numbers a and b, and 0 < x < 1.

    This is the incomplete beta function, by its continued fraction (Lentz's method), which ends for whole numbers.
    """
    mirrored = x > (a + 1) / (a + b + 2)  # where the fraction converges slowly, that of 1 - x converges fast
    a, b, x = torch.where(mirrored, b, a), torch.where(mirrored, a, b), torch.where(mirrored, 1 - x, x)
    front = torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b) + a * x.log() + b * (-x).log1p()
    largest = float(torch.maximum(a, b).max())
    terms = int(min(largest, 20 + 2 * largest**0.5))
    c = torch.ones_like(x)
    d = 1 / _not_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, terms + 1):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            fraction = fraction * c * d
    found = front.exp() * fraction / a
    return torch.where(mirrored, 1 - found, found)


def _not_zero(values: Tensor) -> Tensor:
    return torch.where(values.abs() < _TINY, _TINY, values)
