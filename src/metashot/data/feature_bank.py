"""Features of images in place of the images, for evaluations in which an image occurs in many episodes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class FeatureBank:
    """The features of some images of a bank, gathered by the places of the images in it."""

    def __init__(self, features: Tensor, places: NDArray[np.int64]) -> None:
        self.features = features  # [images, features]
        self.places = places  # [images], in ascending order

    def gather(self, indices: NDArray[np.int64], device: torch.device) -> Tensor:
        """[*indices.shape, features]"""
        rows = torch.from_numpy(np.searchsorted(self.places, indices)).to(self.features.device)
        return self.features[rows].to(device)
