"""No network: the inputs are the features, such as those that another network computed before."""

import torch
from torch import Tensor

from metashot.backbones.base import Backbone


class Identity(Backbone):
    """Inputs [T, N, ...] to features [T, N, features], flattened. There is nothing to train, and nothing to normalise."""

    has_weights = False
    of_vectors = True
    bits: Tensor

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__(input_shape, "none")
        self.feature_shape = input_shape
        self.register_buffer("bits", torch.zeros(()))  # has the precision that weights have in other backbones

    def forward(self, images: Tensor, support: int) -> Tensor:
        return images.flatten(2).to(self.bits.dtype)
