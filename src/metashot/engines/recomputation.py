"""OptimizerState for time: keep what goes into a function, and compute what is inside again when it is differentiated.

`torch.utils.checkpoint` cannot do that around `torch.func.grad`, which does not let it hook into what is kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Function = Callable[..., tuple[Tensor, ...]]


def recomputed(function: Function, arguments: Sequence[Tensor], others: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`function(*arguments)`, which may also depend on the tensors `others` without being handed them."""
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
        reached = [position for position, tensor in enumerate(inputs) if tensor.requires_grad]
        pairs = [
            (value, given)
            for value, given in zip(values, gradients, strict=True)
            if given is not None and value.requires_grad
        ]
        found = torch.autograd.grad(
            [value for value, _ in pairs],
            [inputs[position] for position in reached],
            [given for _, given in pairs],
            allow_unused=True,
        )
        result: list[Tensor | None] = [None] * len(inputs)
        for position, gradient in zip(reached, found, strict=True):
            result[position] = gradient
        return None, None, *result
