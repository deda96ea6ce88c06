"""Batch normalisation, max pooling and ReLU of a convolutional block as one operation with derivatives of its own.

Its cost is dominated by memory traffic. Here each pass reads the activations once or twice and writes them once, instead of
about ten times, and with pooling scales only a quarter of them. The first and the second derivative are exact
(normalised_pool.c has the formulas); there is no third one.
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metashot.kernels.images import call, dense, empty, lengths, refuse_third_derivative, threads_for

_NAME = "normalised_pool"


class Normalised(NamedTuple):
    """The outcome for G groups of images."""

    values: Tensor  # [G * N, channels, height / pool, width / pool]
    means: Tensor  # [G, channels]
    variances: Tensor  # [G, channels]


def normalised_pool(
    x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, groups: int, support: int, pool: int
) -> Normalised:
    """Batch normalisation with the statistics of the first images of each group, ReLU, and max pooling.

    Args:
        x: Activations [G * N, channels, height, width], for which `images.are_usable`.
        weight: The weights [channels], or those of each group [G, channels].
        bias: The biases, likewise.
        epsilon: Added to variances.
        groups: The number G of groups.
        support: The number of images of each group, from the first, that give the statistics.
        pool: 2 for max pooling of 2x2 values, 1 for none.

    Returns:
        The values, and the statistics without gradients.
    """
    images = len(x) // groups
    threads = threads_for(10 * x.numel())
    shape = _Shape(groups, images, min(support, images), *x.shape[2:], x.shape[1], pool, threads, epsilon)
    of_groups = (values.expand(groups, -1) for values in (weight, bias))
    return Normalised(*_NormalisedPool.apply(x, *of_groups, shape))  # type: ignore[no-untyped-call]


class _Shape(ctypes.Structure):
    _fields_ = (
        *lengths("groups", "images", "support", "height", "width", "channels", "pool", "threads"),
        ("epsilon", ctypes.c_double),
    )


class _NormalisedPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shape: _Shape) -> tuple[Tensor, Tensor, Tensor]:
        size = len(x), shape.channels, shape.height // shape.pool, shape.width // shape.pool
        values = empty(x, *size)
        pooled = empty(x, *size) if shape.pool > 1 else values.new_empty(0)
        mean, inverse = x.new_empty(2, shape.groups, shape.channels, dtype=torch.float64)
        means, variances = x.new_empty(2, shape.groups, shape.channels)
        parameters = weight.contiguous(), bias.contiguous()
        call(_NAME, "forward", shape, dense(x), *parameters, pooled, values, mean, inverse, means, variances)
        ctx.shape = shape
        ctx.save_for_backward(x, weight, pooled, values, mean, inverse)  # x itself: the second derivative flows to it
        ctx.mark_non_differentiable(means, variances)
        return values, means, variances

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, *others = ctx.saved_tensors
        return (*_NormalisedPoolGradients.apply(gradient, x, weight, *others, ctx.shape), None)  # type: ignore[no-untyped-call]


class _NormalisedPoolGradients(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        gradient: Tensor,
        x: Tensor,
        weight: Tensor,
        pooled: Tensor,
        values: Tensor,
        mean: Tensor,
        inverse: Tensor,
        shape: _Shape,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gradient, x = dense(gradient), dense(x)
        of_x = torch.empty_like(x)
        sums = mean.new_empty(shape.groups, 2, shape.channels)
        of_weight, of_bias = weight.new_empty(2, shape.groups, shape.channels)
        saved = gradient, x, weight.contiguous(), pooled, values, mean, inverse
        call(_NAME, "backward", shape, *saved, of_x, sums, of_weight, of_bias)
        ctx.shape = shape
        ctx.save_for_backward(*saved, sums)
        return of_x, of_weight, of_bias

    @staticmethod
    def backward(ctx: Any, of_x: Tensor, of_weight: Tensor, of_bias: Tensor) -> tuple[Tensor | None, ...]:
        refuse_third_derivative()
        shape, saved = ctx.shape, ctx.saved_tensors
        gradient, x, weight = saved[:3]
        to_gradient, to_x = torch.empty_like(gradient), torch.empty_like(x)
        to_weight = torch.empty_like(weight)
        cotangents = dense(of_x), of_weight.contiguous(), of_bias.contiguous()
        call(_NAME, "double_backward", shape, *cotangents, *saved, to_gradient, to_x, to_weight)
        return to_gradient, to_x, to_weight, None, None, None, None, None
