"""The base class of backbones: networks from images to features, with a protocol for batch normalisation."""

import math
from abc import abstractmethod

from torch import Tensor, nn

from metashot.backbones.normalisation import Protocol


class Backbone(nn.Module):
    """Maps images [T, N, channels, height, width] of T tasks to features [T, N, features].

    A subclass sets `feature_shape` and implements `forward`.

    Args:
        input_shape: The shape of one image.
        normalisation: The statistics that normalise images (see `normalisation.py`).
    """

    feature_shape: tuple[int, ...]  # of one image: (channels, height, width) of its map, or (features,)

    def __init__(self, input_shape: tuple[int, ...], normalisation: Protocol) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.normalisation = normalisation
        self.draws = False  # whether a forward pass in training draws random numbers
        self.frozen = False  # whether weights and running averages are excluded from training

    @property
    def features(self) -> int:
        """The number of features of one image."""
        return math.prod(self.feature_shape)

    @property
    def embeds_independently(self) -> bool:
        """Whether, after training, the features of an image depend on no other image."""
        return self.normalisation in ("running", "none")

    @property
    def transductive(self) -> bool:
        """Whether the features of a query depend on the other queries of its task."""
        return self.normalisation == "transductive"

    def freeze(self) -> None:
        """Exclude weights and running averages from training, permanently."""
        self.frozen = True
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode and not self.frozen)
        return self

    @abstractmethod
    def forward(self, images: Tensor, support: int) -> Tensor:
        """Embed images.

        Args:
            images: [T, N, channels, height, width].
            support: The number of leading images in each task that form its support set.

        Returns:
            Features [T, N, features].
        """
