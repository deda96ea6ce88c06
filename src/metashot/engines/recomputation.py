"""Activation checkpointing: save only the inputs of a function, and recompute its activations in the backward pass.

`torch.utils.checkpoint` cannot do this around `torch.func.grad`, which does not support its hooks on saved tensors.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Function = Callable[..., tuple[Tensor, ...]]


def recomputed(function: Function, arguments: Sequence[Tensor], others: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Call a function, and recompute its activations in the backward pass.

    Args:
        function: Maps tensors to tensors; it is called again in the backward pass and must compute the same.
        arguments: Its arguments.
        others: Further tensors that its results depend on, such as the parameters of a network that it calls.

    Returns:
        `function(*arguments)`.
    """
    values: tuple[Tensor, ...] = _Recomputed.apply(function, len(arguments), *arguments, *others)  # type: ignore[no-untyped-call]
    return values


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.function, ctx.count = function, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return function(*tensors[:count])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        arguments, others = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        with torch.enable_grad():
            arguments = [argument.detach().requires_grad_(argument.requires_grad) for argument in arguments]
            values = ctx.function(*arguments)
        inputs = [*arguments, *others]
        differentiated = [position for position, tensor in enumerate(inputs) if tensor.requires_grad]
        pairs = [
            (value, gradient)
            for value, gradient in zip(values, gradients, strict=True)
            if gradient is not None and value.requires_grad
        ]
        input_gradients = torch.autograd.grad(
            [value for value, _ in pairs],
            [inputs[position] for position in differentiated],
            [gradient for _, gradient in pairs],
            allow_unused=True,
        )
        result: list[Tensor | None] = [None] * len(inputs)
        for position, gradient in zip(differentiated, input_gradients, strict=True):
            result[position] = gradient
        return None, None, *result
