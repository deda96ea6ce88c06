"""What every backbone is: a network from images to features that knows whose statistics normalise them."""

from abc import abstractmethod

from torch import Tensor, nn

from metashot.backbones.normalisation import Protocol


class Backbone(nn.Module):
    """Images [T, N, channels, height, width] of T tasks to features [T, N, features]."""

    features: int

    def __init__(self, input_shape: tuple[int, ...], normalisation: Protocol) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.normalisation = normalisation

    @property
    def transductive(self) -> bool:
        """Whether what is said of one image depends on the others that are not in the support set."""
        return self.normalisation == "transductive"

    @abstractmethod
    def forward(self, images: Tensor, support: int) -> Tensor:
        """The first `support` images of each task are its support set."""
