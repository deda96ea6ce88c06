"""A multi-layer perceptron on flattened images, the non-convolutional network of Finn et al. 2017."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from metashot.arguments import Count
from metashot.backbones.normalisation import Normalisation, Protocol


class MLP(nn.Module):
    """Images [T, N, channels, height, width] to features [T, N, features]: linear, batch normalisation, ReLU."""

    def __init__(self, image_shape: tuple[int, int, int], hidden: list[Count], normalisation: Protocol) -> None:
        super().__init__()
        self.transductive = normalisation == "transductive"
        self.normalised_by_support = normalisation == "support"
        sizes = [math.prod(image_shape), *hidden]
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in zip(sizes, sizes[1:], strict=False))
        self.normalisations = nn.ModuleList(Normalisation(size, normalisation) for size in hidden)
        self.features = sizes[-1]

    def forward(self, images: Tensor, support: int) -> Tensor:
        """The first `support` images of each task are its support set."""
        tasks, count = images.shape[:2]
        x = images.reshape(tasks * count, -1)
        for linear, normalisation in zip(self.linears, self.normalisations, strict=True):
            x = F.relu(normalisation(linear(x), tasks, support))
        return x.reshape(tasks, count, self.features)
