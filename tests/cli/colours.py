"""Folders of images for tests: noisy images of one colour, and the weights of a tiny network that reads their names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("red_car", "blue-car", "tree", "apple", "pear", "dog", "cat", "house", "boat", "mouse", "cup", "lamp")


def drawn(seed: int, count: int = 6) -> NDArray[np.uint8]:
    """Noisy images of one colour: [count, 40, 40, 3]."""
    random = np.random.default_rng(seed)
    noise = random.integers(-40, 40, (count, 40, 40, 3))
    return np.clip(random.integers(0, 255, 3) + noise, 0, 255).astype(np.uint8)


def written(folder: Path, classes: Sequence[str] = CLASSES) -> None:
    for seed, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(drawn(seed)):
            Image.fromarray(image).save(folder / name / f"{number}.png")


def tiny_clip(file: Path) -> None:
    """Write the weights of a small random network with a text tower."""
    import torch
    from safetensors.torch import save_file

    from metashot.backbones import open_clip_networks

    torch.manual_seed(0)
    network = open_clip_networks.built(open_clip_networks.named("test-clip"))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
