"""The images of one split as one contiguous array of `uint8`, memory-mapped from a bank's folder or held by a device."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.sources.building import read_manifest


class ImageBank:
    """The images of one split, class by class, on the device that will use them."""

    def __init__(self, images: NDArray[np.uint8] | Tensor, classes: list[str], images_per_class: NDArray[np.int64]) -> None:
        self.images = images  # uint8 [images, channels, height, width]; an array is read from its file as it is used
        self.classes = classes
        self.images_per_class = images_per_class

    @classmethod
    def open(cls, folder: Path, split: str) -> "ImageBank":
        """Map one split of a built bank into memory; nothing is read before it is used, so it may be larger than memory."""
        about = read_manifest(folder)["splits"][split]
        images = np.load(folder / f"{split}.npy", mmap_mode="r")
        return cls(images, about["classes"], np.asarray(about["counts"], dtype=np.int64))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def placed_on(self, device: torch.device) -> "ImageBank":
        """The bank on a GPU where it leaves half of the free memory for the work, else where it is."""
        if device.type != "cuda" or isinstance(self.images, Tensor):
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.images.nbytes >= free / 2:
            return self
        return ImageBank(torch.from_numpy(np.array(self.images)).to(device), self.classes, self.images_per_class)

    def gather(self, indices: NDArray[np.int64], device: torch.device) -> Tensor:
        """The images at `indices` on a device, scaled to [0, 1]: float32 [*indices.shape, channels, height, width]."""
        flat = indices.reshape(-1)
        if isinstance(self.images, Tensor):
            images = self.images[torch.from_numpy(flat).to(self.images.device)]
        else:
            images = torch.from_numpy(np.take(self.images, flat, axis=0))
        return images.to(device).reshape(*indices.shape, *self.image_shape).float().div_(255)
