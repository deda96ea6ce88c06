"""The items of one split as one contiguous array of any type, memory-mapped from a bank's folder or stored on a device."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.sources.building import read_manifest


class Bank:
    """The items of one split, ordered by class.

    Args:
        items: [items, *item_shape], such as uint8 pixels; a memory-mapped array is read as it is used.
        classes: the class names.
        items_per_class: the number of items of each class, in the order of `classes`.
    """

    is_whole = True  # whether it holds all items of its split

    def __init__(self, items: NDArray[Any] | Tensor, classes: list[str], items_per_class: NDArray[np.int64]) -> None:
        self.items = items  # [items, *item_shape]
        self.classes = classes
        self.items_per_class = items_per_class

    @classmethod
    def open(cls, folder: Path, split: str) -> "Bank":
        """Memory-map one split of a built bank, which may be larger than memory, since items are read only when used.

        Args:
            folder: the bank's folder.
            split: the name of the split.

        Returns:
            The bank of the split.
        """
        about = read_manifest(folder)["splits"][split]
        items = np.load(folder / f"{split}.npy", mmap_mode="r")
        return cls(items, about["classes"], np.asarray(about["counts"], dtype=np.int64))

    @property
    def item_shape(self) -> tuple[int, ...]:
        return tuple(self.items.shape[1:])

    def placed_on(self, device: torch.device) -> "Bank":
        """Copy the bank to a GPU if that leaves at least half of the GPU's free memory for training.

        Args:
            device: the device that will use the items.

        Returns:
            A copy of the bank on the device, or this bank.
        """
        if device.type != "cuda" or isinstance(self.items, Tensor):
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.items.nbytes >= free / 2:
            return self
        return Bank(torch.from_numpy(np.array(self.items)).to(device), self.classes, self.items_per_class)

    def gather(self, indices: NDArray[np.int64], device: torch.device) -> Tensor:
        """Read items and place them on a device, without converting them.

        Args:
            indices: positions of items in the bank.
            device: where the items are needed.

        Returns:
            [*indices.shape, *item_shape]
        """
        flat = indices.reshape(-1)
        if isinstance(self.items, Tensor):
            items = self.items[torch.from_numpy(flat).to(self.items.device)]
        else:
            items = torch.from_numpy(np.take(self.items, flat, axis=0))
        return items.to(device).reshape(*indices.shape, *self.item_shape)
