"""Batch normalisation, max pooling and ReLU of a convolutional block as one operation with derivatives of its own.

What such a block costs is memory traffic. Here each pass reads the activations once or twice and writes them once, instead
of about ten times, and scales only a quarter of them. The first and the second derivative are exact (normalised_pool.c has
the formulas); there is no third one.
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metashot.kernels.compiling import library

_NAME = "normalised_pool"
_FUNCTIONS = ("metashot_forward", "metashot_apply", "metashot_backward", "metashot_double_backward")


class Normalised(NamedTuple):
    """The outcome for G groups of images."""

    values: Tensor  # [G * N, channels, height / pool, width / pool]
    means: Tensor  # [G, channels]
    variances: Tensor  # [G, channels]


def is_available() -> bool:
    """Whether the kernel is there on this machine."""
    return library(_NAME, _FUNCTIONS) is not None


def is_usable(x: Tensor) -> bool:
    """Whether `normalised_pool` can be used for these activations, on this machine and where they are computed."""
    if torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if x.dtype is not torch.float32 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return type(x) is Tensor and x.dim() == 4 and x.numel() > 0 and is_available()


def normalised_pool(
    x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, groups: int, support: int, pool: int
) -> Normalised:
    """Batch normalisation with the statistics of the first images of each group, ReLU, and max pooling.

    Args:
        x: Activations [G * N, channels, height, width], for which `is_usable`.
        weight: The weights [channels].
        bias: The biases [channels].
        epsilon: Added to variances.
        groups: The number G of groups.
        support: The number of images of each group, from the first, that give the statistics.
        pool: 2 for max pooling of 2x2 values, 1 for none.

    Returns:
        The values, and the statistics without gradients.
    """
    images = len(x) // groups
    shape = _Shape(groups, images, min(support, images), *x.shape[2:], x.shape[1], pool, torch.get_num_threads(), epsilon)
    return Normalised(*_Forward.apply(x, weight, bias, shape))  # type: ignore[no-untyped-call]


def scaled_pool(x: Tensor, scale: Tensor, shift: Tensor, pool: int) -> Tensor:
    """Scale and shift each channel, then ReLU and max pooling; without derivatives.

    Args:
        x: Activations [N, channels, height, width], for which `is_usable`.
        scale: The factors [channels].
        shift: What is added [channels].
        pool: 2 for max pooling of 2x2 values, 1 for none.
    """
    count, channels, height, width = x.shape
    shape = _Shape(1, count, count, height, width, channels, pool, torch.get_num_threads(), 0.0)
    values = _images(x, height // pool, width // pool)
    _call("apply", shape, _dense(x), scale.contiguous(), shift.contiguous(), values)
    return values


def channels_last(x: Tensor) -> Tensor:
    """The images with channels last in memory, and with strides that say so although there may be a single channel."""
    _, channels, height, width = x.shape
    return _dense(x).as_strided(x.shape, (channels * height * width, 1, channels * width, channels))


class _Shape(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_long)
            for name in ("groups", "images", "support", "height", "width", "channels", "pool", "threads")
        ),
        ("epsilon", ctypes.c_double),
    )


def _call(function: str, shape: _Shape, *tensors: Tensor) -> None:
    found = library(_NAME, _FUNCTIONS)
    assert found is not None
    if getattr(found, f"metashot_{function}")(ctypes.byref(shape), *(ctypes.c_void_p(t.data_ptr()) for t in tensors)):
        raise MemoryError


def _dense(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _images(like: Tensor, height: int, width: int) -> Tensor:
    """Empty images, whose channels come last in memory."""
    return like.new_empty(like.shape[0], height, width, like.shape[1]).permute(0, 3, 1, 2)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shape: _Shape) -> tuple[Tensor, Tensor, Tensor]:
        dense = _dense(x)
        size = shape.height // shape.pool, shape.width // shape.pool
        values = _images(x, *size)
        pooled = _images(x, *size) if shape.pool > 1 else values.new_empty(0)
        mean, inverse = x.new_empty(2, shape.groups, shape.channels, dtype=torch.float64)
        means, variances = x.new_empty(2, shape.groups, shape.channels)
        parameters = weight.contiguous(), bias.contiguous()
        _call("forward", shape, dense, *parameters, pooled, values, mean, inverse, means, variances)
        ctx.shape = shape
        ctx.save_for_backward(x, weight, pooled, values, mean, inverse)  # x itself: the second derivative flows to it
        ctx.mark_non_differentiable(means, variances)
        return values, means, variances

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, *others = ctx.saved_tensors
        return (*_Backward.apply(gradient, x, weight, *others, ctx.shape), None)  # type: ignore[no-untyped-call]


class _Backward(torch.autograd.Function):
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
        gradient, dense = _dense(gradient), _dense(x)
        of_x = _images(x, shape.height, shape.width)
        sums = mean.new_empty(shape.groups, 2, shape.channels)
        of_weight, of_bias = weight.new_empty(2, shape.channels)
        saved = gradient, dense, weight.contiguous(), pooled, values, mean, inverse
        _call("backward", shape, *saved, of_x, sums, of_weight, of_bias)
        ctx.shape = shape
        ctx.save_for_backward(*saved, sums)
        return of_x, of_weight, of_bias

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_x: Tensor, of_weight: Tensor, of_bias: Tensor) -> tuple[Tensor | None, ...]:
        shape, saved = ctx.shape, ctx.saved_tensors
        gradient, x, weight = saved[:3]
        to_gradient, to_x = torch.empty_like(gradient), _images(x, shape.height, shape.width)
        to_weight = torch.empty_like(weight)
        cotangents = _dense(of_x), of_weight.contiguous(), of_bias.contiguous()
        _call("double_backward", shape, *cotangents, *saved, to_gradient, to_x, to_weight)
        return to_gradient, to_x, to_weight, None, None, None, None, None
