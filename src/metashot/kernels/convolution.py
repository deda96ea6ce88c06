"""3x3 convolutions of several tasks with weights of their own, as one operation with derivatives of its own.

PyTorch's convolutions spend a tenth of a millisecond before they start, and the second derivative is composed of several of
them. Here all derivatives consist of three kernels, each of which computes the tasks of a step together. There is no third
derivative.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from metashot.kernels.images import call, dense, empty, lengths, refuse_third_derivative, threads_for


def convolution(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A 3x3 convolution with a padding of 1.

    Args:
        x: Images [G * N, channels, height, width], for which `images.are_usable`.
        weight: The weights [outputs, channels, 3, 3], or those of each of G groups of images [G, outputs, channels, 3, 3].
        stride: 1 or 2.
    """
    outcome: Tensor = _Convolution.apply(x, *_described(x, weight, stride))
    return outcome


def block(x: Tensor, weight: Tensor, stride: int, scale: Tensor, shift: Tensor, pool: int) -> Tensor:
    """A convolution as above, a factor and a shift for each channel, ReLU and max pooling; without derivatives.

    Args:
        x: As above.
        weight: As above.
        stride: As above.
        scale: The factors [outputs], or those of each of G groups of images [G, outputs].
        shift: What is added, likewise.
        pool: 2 for max pooling of 2x2 values, 1 for none.
    """
    groups = len(scale) if scale.dim() == 2 else 1
    sets, shape = _described(x, weight, stride, groups, pool)
    height, width = (size // pool for size in _outcome_size(shape))
    outcome = empty(x, len(x), shape.outputs, height, width)
    of_groups = (values.expand(shape.groups, -1).contiguous() for values in (scale, shift))
    call("convolution", "block", shape, dense(x), sets.contiguous(), *of_groups, outcome)
    return outcome


class _Shape(ctypes.Structure):
    _fields_ = lengths("groups", "images", "height", "width", "inputs", "outputs", "stride", "shared", "pool", "threads")


def _described(x: Tensor, weight: Tensor, stride: int, groups: int = 1, pool: int = 1) -> tuple[Tensor, _Shape]:
    """The weights [sets, outputs, channels, 3, 3], and all lengths."""
    sets = weight if weight.dim() == 5 else weight.unsqueeze(0)
    if sets.shape[2] != x.shape[1]:
        raise ValueError(f"images of {x.shape[1]} channels, and weights for {sets.shape[2]}")
    groups = max(len(sets), groups)
    size = len(x) // groups, *x.shape[2:], x.shape[1], sets.shape[1]
    threads = threads_for(9 * x.numel() * sets.shape[1] // stride**2)
    return sets, _Shape(groups, *size, stride, len(sets) == 1, pool, threads)


def _outcome_size(shape: _Shape) -> tuple[int, int]:
    return (shape.height - 1) // shape.stride + 1, (shape.width - 1) // shape.stride + 1


def _outcome(shape: _Shape, x: Tensor, weight: Tensor, x2: Tensor | None = None, weight2: Tensor | None = None) -> Tensor:
    """The convolution, or the sum of two; the images are dense."""
    outcome = empty(x, len(x), shape.outputs, *_outcome_size(shape))
    call("convolution", "convolution", shape, x, weight, x2, weight2, outcome)
    return outcome


def _to_inputs(shape: _Shape, gradient: Tensor, weight: Tensor) -> Tensor:
    of_x = empty(gradient, len(gradient), shape.inputs, shape.height, shape.width)
    call("convolution", "to_inputs", shape, gradient, weight, of_x)
    return of_x


def _to_weights(shape: _Shape, gradient: Tensor, x: Tensor) -> Tensor:
    sets = 1 if shape.shared else shape.groups
    of_weight = x.new_empty(sets, shape.outputs, shape.inputs, 3, 3)
    call("convolution", "to_weights", shape, gradient, x, of_weight)
    return of_weight


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with the strides of shared weights, as devices that add gradients up expect it."""
    if len(weight) > 1 or gradient.stride() == weight.stride():
        return gradient
    return torch.empty_strided(weight.shape, weight.stride()).copy_(gradient)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shape: _Shape) -> Tensor:
        ctx.shape = shape
        ctx.save_for_backward(x, weight)
        return _outcome(shape, dense(x), weight.contiguous())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*_ConvolutionGradients.apply(gradient, *ctx.saved_tensors, ctx.shape, ctx.needs_input_grad[:2]), None)


class _ConvolutionGradients(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, x: Tensor, weight: Tensor, shape: _Shape, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        given, gradient, x, weight = weight, dense(gradient), dense(x), weight.contiguous()
        ctx.shape = shape
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gradient, x, weight)
        return (
            _to_inputs(shape, gradient, weight) if wanted[0] else None,
            _laid_out_as(given, _to_weights(shape, gradient, x)) if wanted[1] else None,
        )

    @staticmethod
    def backward(ctx: Any, of_x: Tensor | None, of_weight: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_third_derivative()
        gradient, x, weight = ctx.saved_tensors
        of_x = None if of_x is None else dense(of_x)
        of_weight = None if of_weight is None else of_weight.contiguous()
        to_gradient, to_x, to_weight = ctx.needs_input_grad[:3]
        pairs = [pair for pair in ((of_x, weight), (x, of_weight)) if pair[0] is not None and pair[1] is not None]
        return (
            _outcome(ctx.shape, *pairs[0], *(pairs[1] if len(pairs) > 1 else ())) if to_gradient and pairs else None,
            _to_inputs(ctx.shape, gradient, of_weight) if to_x and of_weight is not None else None,
            _to_weights(ctx.shape, gradient, of_x) if to_weight and of_x is not None else None,
            None,
            None,
        )
