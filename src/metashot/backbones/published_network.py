"""The base class of backbones that are networks of other packages, with published weights."""

from abc import abstractmethod

import torch
from torch import nn

from metashot.backbones.base import Backbone
from metashot.backbones.published import digest_of


class PublishedNetwork(Backbone):
    """A backbone around a network with published weights.

    The network is in evaluation mode, also where a part of it is trained: its normalisation has the averages of its
    published weights, and nothing is dropped at random.

    A subclass sets `network`, and implements `load_published`. Its constructor does not load weights, since a checkpoint may
    hold them; `bring_back` does.
    """

    starts_trained = True
    network: nn.Module

    @property
    def is_published(self) -> bool:
        return True

    @abstractmethod
    def load_published(self) -> None:
        """Load the published weights into the network, which has 32 bits.

        Raises:
            BadInput: if they cannot be found, or do not fit.
        """

    def bring_back(self) -> None:
        dtype = next(self.network.parameters()).dtype
        self.network.float()  # as they are published, and so that a digest is the same in any precision
        with torch.no_grad():
            self.load_published()
        self.public_digest = digest_of(self.network)
        self.network.to(dtype)

    def freeze(self) -> None:
        super().freeze()
        if self.public_digest is not None and self.public_digest != digest_of(self.network):
            self.public_digest = None  # a part of it was trained, and its state has to hold the weights

    def train(self, mode: bool = True) -> "PublishedNetwork":
        super().train(mode)
        self.network.train(False)
        return self


def identity_of(network: nn.Module) -> list[tuple[int, int]] | None:
    """What changes with the weights; None where others take the place of the parameters for a while, as in an inner loop."""
    parameters = list(network.parameters())
    if not all(isinstance(parameter, nn.Parameter) for parameter in parameters):
        return None
    tensors = [*parameters, *network.buffers()]
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
