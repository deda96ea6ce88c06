"""Layers whose parameters may have a leading task dimension, which passes of several tasks with kernels need."""

import torch
from torch import Tensor, nn

from metashot.kernels.convolution import block, convolution


class Convolution(nn.Conv2d):
    """A 3x3 convolution with a padding of 1, without a bias, since the normalisation that follows would cancel it."""

    takes_tasks = True

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 3, stride, 1, bias=False)

    def with_kernel(self, x: Tensor) -> Tensor:
        """As a forward pass, for images that kernels can use; the weights may be those of each task."""
        return convolution(x, self.weight, self.stride[0])

    def as_block(self, x: Tensor, scale: Tensor, shift: Tensor, pool: int) -> Tensor:
        """The same with a factor and a shift for each channel, ReLU and max pooling, without derivatives."""
        return block(x, self.weight, self.stride[0], scale, shift, pool)


class Linear(nn.Linear):
    """A linear layer for [T, N, features]."""

    takes_tasks = True

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return super().forward(x)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.transpose(1, 2))
