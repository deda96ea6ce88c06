"""The gates of the LSTM whose cells are the parameters of a learner, as one operation with a derivative of its own.

In the operations of PyTorch, an inner step and its derivative are dozens of passes over the numbers of all coordinates. Here
each of the two reads its inputs once and writes its outcome once; the derivative computes the gates again (lstm_cell.c has
the formulas). There is no second derivative.
"""

import ctypes
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from metashot.kernels.compiling import library
from metashot.kernels.images import FUNCTIONS, call, lengths, threads_for

_NAME = "lstm_cell"
_ACTIVATION = 10  # multiplications that one takes, about


class Weights(NamedTuple):
    """What all coordinates share."""

    lstm: Tensor  # [4 * hidden, 4 + hidden], of which columns 2 and 3, for the loss, are not used
    gate_i: Tensor  # [hidden + 2]
    bias_i: Tensor  # a scalar
    gate_f: Tensor
    bias_f: Tensor


class Gates(NamedTuple):
    """The state of each coordinate after a step."""

    i: Tensor  # [coordinates]
    f: Tensor
    h: Tensor  # [coordinates, hidden]
    c: Tensor


def are_available() -> bool:
    """Whether the kernels are there on this machine."""
    return library(_NAME, FUNCTIONS[_NAME]) is not None


def are_usable(weights: Weights, *numbers: Tensor) -> bool:
    """Whether the kernels can be used for these weights and numbers of coordinates, which `vmap` may have batched."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return False
    transforms = torch._C._functorch.get_interpreter_stack() or []
    if any(one.key() != torch._C._functorch.TransformType.Vmap for one in transforms):
        return False
    if torch.is_autocast_enabled("cpu") or forward_ad._current_level >= 0:
        return False
    if any(map(torch._C._functorch.is_batchedtensor, weights)):
        return False
    if not all(one.dtype is torch.float32 and one.device.type == "cpu" for one in (*weights, *numbers)):
        return False
    return all(one.numel() > 0 for one in numbers) and are_available()


def gates(weights: Weights, bias: Tensor, theta: Tensor, gradient: Tensor, before: Gates, exponent: float) -> Gates:
    """The gates of all coordinates of a task.

    Args:
        weights: The weights of all gates, for which `are_usable`, and the biases of the output gates.
        bias: The biases [4 * hidden] of the plain LSTM, to which the loss is added already.
        theta: The parameters [coordinates] of the learner.
        gradient: Their gradient [coordinates].
        before: The state after the step before.
        exponent: Gradients of at least e^-exponent are split into size and sign.
    """
    # A task dimension of 1, which `vmap` replaces. In memory, h and c are [hidden, coordinates].
    numbers = (values.unsqueeze(0) for values in (bias, theta, gradient, *before))
    found: tuple[Tensor, ...] = _Gates.apply(*weights, *numbers, exponent)
    return Gates(*(values.squeeze(0) for values in found))


class _Shape(ctypes.Structure):
    _fields_ = (
        *lengths("tasks", "coordinates", "hidden", "threads"),
        ("least", ctypes.c_double),
        ("scale", ctypes.c_double),
    )


def _described(h: Tensor, exponent: float) -> _Shape:
    tasks, coordinates, hidden = h.shape
    operations = tasks * coordinates * 4 * hidden * (2 + hidden + 2 * _ACTIVATION)
    return _Shape(tasks, coordinates, hidden, threads_for(operations), math.exp(-exponent), exponent)


def _dense(values: Tensor) -> Tensor:
    """Anything, with the coordinates last in memory where it has the shape [T, coordinates, hidden]."""
    return (values.transpose(1, 2) if values.dim() == 3 else values).contiguous()


def _empty(like: Tensor) -> Tensor:
    """Without values, likewise."""
    return like.new_empty(like.shape) if like.dim() < 3 else like.new_empty(like.mT.shape).mT


class _Gates(torch.autograd.Function):
    """Of T tasks: the weights, then bias [T, 4 * hidden], theta, gradient, i, f [T, coordinates], and h, c
    [T, coordinates, hidden]; then the exponent."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        *tensors, exponent = arguments
        found = tuple(map(_empty, tensors[8:]))
        call(_NAME, "gates", _described(tensors[-1], exponent), *map(_dense, tensors), *found)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.exponent = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # (see `images.refuse_third_derivative`)
            raise RuntimeError("the fused gates of algo=metalstm have no second derivative: use METASHOT_KERNELS=0")
        tensors = ctx.saved_tensors
        of_weights = [_empty(one) for one in tensors[:6]]
        of_numbers = [_empty(one) if ctx.needs_input_grad[place] else None for place, one in enumerate(tensors) if place > 5]
        given = [None if one is None else _dense(one) for one in upstream]
        shape = _described(tensors[-1], ctx.exponent)
        call(_NAME, "of_gates", shape, *map(_dense, tensors), *given, *of_weights, *of_numbers)
        return *of_weights, *of_numbers, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """The tasks of all calls together, with the same weights."""
        *tensors, exponent = arguments
        size = info.batch_size
        batched = [
            (one.expand(size, *one.shape) if dim is None else one.movedim(dim, 0)).flatten(0, 1)
            for one, dim in zip(tensors[5:], in_dims[5:-1], strict=True)
        ]
        found: tuple[Tensor, ...] = _Gates.apply(*tensors[:5], *batched, exponent)
        return tuple(one.view(size, -1, *one.shape[1:]) for one in found), (0,) * len(found)
