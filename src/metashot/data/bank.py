"""The items of one split as one contiguous array of any type, memory-mapped from a bank's folder or held by a device."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.sources.building import read_manifest


class Bank:
    """The items of one split, class by class, on the device that will use them."""

    def __init__(self, items: NDArray[Any] | Tensor, classes: list[str], items_per_class: NDArray[np.int64]) -> None:
        self.items = items  # [items, *item_shape], such as uint8 pixels; an array is read from its file as it is used
        self.classes = classes
        self.items_per_class = items_per_class

    @classmethod
    def open(cls, folder: Path, split: str) -> "Bank":
        """Map one split of a built bank into memory; nothing is read before it is used, so it may be larger than memory."""
        about = read_manifest(folder)["splits"][split]
        items = np.load(folder / f"{split}.npy", mmap_mode="r")
        return cls(items, about["classes"], np.asarray(about["counts"], dtype=np.int64))

    @property
    def item_shape(self) -> tuple[int, ...]:
        return tuple(self.items.shape[1:])

    def placed_on(self, device: torch.device) -> "Bank":
        """The bank on a GPU where it leaves half of the free memory for the work, else where it is."""
        if device.type != "cuda" or isinstance(self.items, Tensor):
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.items.nbytes >= free / 2:
            return self
        return Bank(torch.from_numpy(np.array(self.items)).to(device), self.classes, self.items_per_class)

    def gather(self, indices: NDArray[np.int64], device: torch.device) -> Tensor:
        """The items at `indices` on a device, as they are: [*indices.shape, *item_shape]."""
        flat = indices.reshape(-1)
        if isinstance(self.items, Tensor):
            items = self.items[torch.from_numpy(flat).to(self.items.device)]
        else:
            items = torch.from_numpy(np.take(self.items, flat, axis=0))
        return items.to(device).reshape(*indices.shape, *self.item_shape)
