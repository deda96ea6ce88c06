"""Precomputed features in place of images, for evaluations in which an image occurs in many episodes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class FeatureBank:
    """The features of some images of a bank.

    Args:
        features: [images, features].
        places: the positions of the images in the bank, [images], in ascending order.
    """

    is_whole = False  # whether it holds all items of its split

    def __init__(self, features: Tensor, places: NDArray[np.int64]) -> None:
        self.features = features
        self.places = places

    def gather(self, indices: NDArray[np.int64], device: torch.device) -> Tensor:
        """Read the features of images and place them on a device.

        Args:
            indices: positions of images in the bank, all of which have to be in `places`.
            device: where the features are needed.

        Returns:
            [*indices.shape, features]
        """
        rows = torch.from_numpy(np.searchsorted(self.places, indices)).to(self.features.device)
        return self.features[rows].to(device)
