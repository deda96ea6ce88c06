"""Forward and backward of conv4 with 64 channels on 360 images (28x28), by memory format and precision.

The images are normalised as four tasks of 90 images each, as in training.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.timing import Row, alternate
from metashot.backbones.conv4 import Conv4
from metashot.training.memory import keep_freed_memory

TASKS, IMAGES, SHAPE = 4, 90, (1, 28, 28)


def measure() -> list[Row]:
    keep_freed_memory()  # as in every run
    images = torch.rand(TASKS, IMAGES, *SHAPE)

    def by(memory_format: torch.memory_format, half: bool) -> Callable[[], None]:
        backbone = Conv4(SHAPE, 64, "pool", "running").to(memory_format=memory_format)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                features: Tensor = backbone(images, support=0)
            features.float().square().mean().backward()

        return step

    return alternate(
        {
            "contiguous, float32": by(torch.contiguous_format, half=False),
            "channels last, float32": by(torch.channels_last, half=False),
            "contiguous, bfloat16": by(torch.contiguous_format, half=True),
            "channels last, bfloat16": by(torch.channels_last, half=True),
        },
        rounds=20,
    )
