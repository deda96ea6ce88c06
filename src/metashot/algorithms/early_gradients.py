"""Gradients of a sum of losses, computed loss by loss, so that the graph of only one of them is in memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class EarlyGradients:
    """A sum of losses; the graph of each is freed as soon as the loss is added.

    Args:
        parameters: The tensors that the losses are differentiated by.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self.gradients: list[Tensor | None] = [None] * len(parameters)
        self.sum: Tensor | None = None

    def add(self, loss: Tensor) -> None:
        """Add a scalar and its gradients, which are computed without autocast, as Lightning's backward pass is."""
        with torch.autocast(loss.device.type, enabled=False):
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        self.gradients = [_sum(total, gradient) for total, gradient in zip(self.gradients, found, strict=True)]
        self.sum = _sum(self.sum, loss.detach())

    def loss(self) -> Tensor:
        """The sum, whose backward pass only passes on the gradients that have been computed.

        Parameters that no loss depends on receive no gradient, as if the losses had been summed with their graphs.
        """
        assert self.sum is not None
        known = [(own, value) for own, value in zip(self.parameters, self.gradients, strict=True) if value is not None]
        parameters, gradients = zip(*known, strict=True)
        loss: Tensor = _WithGradients.apply(self.sum, len(known), *gradients, *parameters)  # type: ignore[no-untyped-call]
        return loss


def _sum(total: Tensor | None, value: Tensor | None) -> Tensor | None:
    if total is None or value is None:
        return value if total is None else total
    return total + value


class _WithGradients(torch.autograd.Function):
    """A value whose gradients are given."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[:count])
        return value.clone()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        known = [value * gradient for value in ctx.saved_tensors]
        return None, None, *([None] * len(known)), *known
