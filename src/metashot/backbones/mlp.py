"""A multi-layer perceptron on flattened inputs, the non-convolutional network of Finn et al. 2017."""

import itertools
import math
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from metashot.arguments import Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation, Protocol


class MLP(Backbone):
    """Maps inputs [T, N, ...] to features [T, N, features]; a layer is linear, batch normalisation, ReLU."""

    of_vectors: ClassVar[bool] = True

    def __init__(self, input_shape: tuple[int, ...], hidden: list[Units], normalisation: Protocol) -> None:
        super().__init__(input_shape, normalisation)
        sizes = [math.prod(input_shape), *hidden]
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes))
        self.normalisations = nn.ModuleList(Normalisation(size, normalisation) for size in hidden)
        self.feature_shape = (sizes[-1],)

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        x = images.reshape(tasks * count, -1)
        for linear, normalisation in zip(self.linears, self.normalisations, strict=True):
            x = F.relu(normalisation(linear(x), tasks, support))
        return x.reshape(tasks, count, self.features)
