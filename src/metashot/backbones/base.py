"""What every backbone is: a network from images to features that knows whose statistics normalise them."""

import math
from abc import abstractmethod

from torch import Tensor, nn

from metashot.backbones.normalisation import Protocol


class Backbone(nn.Module):
    """Images [T, N, channels, height, width] of T tasks to features [T, N, features]."""

    feature_shape: tuple[int, ...]  # of one image's features: channels, height and width of a map, or a length alone

    def __init__(self, input_shape: tuple[int, ...], normalisation: Protocol) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.normalisation = normalisation
        self.draws = False  # whether a pass in training draws random numbers
        self.frozen = False  # whether training leaves it as it is, averages and all

    @property
    def features(self) -> int:
        """Numbers in one image's features."""
        return math.prod(self.feature_shape)

    @property
    def embeds_independently(self) -> bool:
        """Whether an image's features depend on nothing but the image, once training is over."""
        return self.normalisation in ("running", "none")

    @property
    def transductive(self) -> bool:
        """Whether what is said of one image depends on the others that are not in the support set."""
        return self.normalisation == "transductive"

    def freeze(self) -> None:
        self.frozen = True
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode and not self.frozen)
        return self

    @abstractmethod
    def forward(self, images: Tensor, support: int) -> Tensor:
        """The first `support` images of each task are its support set."""
