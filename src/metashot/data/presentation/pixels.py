"""Images: scaled to values between 0 and 1, augmented in training, converted to the shape a learner expects, normalised."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, tensor

from metashot.arguments import Positive
from metashot.bad_input import BadInput
from metashot.data.presentation.augmentation import Augmentation
from metashot.data.presentation.luminance import ITU_R_601
from metashot.data.presentation.presentation import Presentation
from metashot.episodes import Episode
from metashot.sources.source import PIXELS

Interpolation = Literal["bilinear", "bicubic"]


class Pixels(Presentation):
    """Presents uint8 pixels.

    Args:
        augmentation: how training images are changed at random.
        mean: what is subtracted from each channel of images with values between 0 and 1; None for no normalisation.
        std: what each channel is then divided by; None together with `mean`.
    """

    kind: ClassVar[str] = PIXELS
    noun: ClassVar[str] = "images"

    def __init__(self, augmentation: Augmentation, mean: list[float] | None, std: list[Positive] | None) -> None:
        self.augmentation: Augmentation | None = augmentation  # None once it is stopped
        self._given = mean, std
        self.interpolation: Interpolation = "bilinear"  # of images that are resized; changed by `look_like`
        self.normalisation: tuple[Tensor, Tensor] | None = None  # set by `expect`, which knows the channels

    @property
    def augments(self) -> bool:
        return self.augmentation is not None and (self.augmentation.moves or self.augmentation.colours)

    @property
    def margin(self) -> int:
        return 0 if self.augmentation is None else self.augmentation.crop_padding

    def stop_augmenting(self) -> None:
        self.augmentation = None

    def expect(self, item_shape: tuple[int, ...]) -> None:
        super().expect(item_shape)
        self.normalisation = _constants(*self._given, item_shape[0])

    def values(self, items: Tensor) -> Tensor:
        return items.float().div_(255)

    def augmented(self, episode: Episode, key: tuple[int, int]) -> Episode:
        return episode if self.augmentation is None else self.augmentation(episode, key)

    def inputs(self, values: Tensor) -> Tensor:
        """[T, N, channels, height, width]"""
        x, (channels, *size) = values, self.input_shape
        if channels < x.shape[2]:
            x = (x * x.new_tensor(ITU_R_601).view(3, 1, 1)).sum(2, keepdim=True)
        elif channels > x.shape[2]:
            x = x.expand(-1, -1, channels, -1, -1)
        if list(x.shape[3:]) != size:
            resized = F.interpolate(x.flatten(0, 1), size=size, mode=self.interpolation, antialias=True)
            if self.interpolation == "bicubic":
                resized = resized.clamp(0, 1)  # it exceeds the range of the values
            x = resized.view(*x.shape[:3], *size)
        if self.normalisation is None:
            return x
        mean, std = (constant.to(x) for constant in self.normalisation)
        return (x - mean) / std

    def for_display(self, inputs: Tensor) -> Tensor:
        if self.normalisation is None:
            return inputs
        mean, std = (constant.to(inputs) for constant in self.normalisation)
        return inputs * std + mean

    def origin(self) -> dict[str, Any]:
        mean, std = (None, None) if self.normalisation is None else (c.flatten().tolist() for c in self.normalisation)
        resized = {} if self.interpolation == "bilinear" else {"interpolation": self.interpolation}
        return super().origin() | {"mean": mean, "std": std} | resized

    def look_like(self, origin: Mapping[str, Any], name: str) -> str | None:
        """Images of any shape are accepted: they are converted to grayscale or to three channels, and resized."""
        if origin.get("presentation", PIXELS) != PIXELS:
            return super().look_like(origin, name)
        channels, height, width = origin["input_shape"]
        own, wanted = self.item_shape, (channels, height, width)
        self.normalisation = _constants(origin["mean"], origin["std"], channels)
        self.interpolation = origin.get("interpolation", "bilinear")
        self.input_shape = wanted
        if own == wanted:
            return None
        changes = []
        if own[0] != wanted[0]:
            changes.append("made grey" if wanted[0] == 1 else "given three equal colour channels")
        if own[1:] != wanted[1:]:
            changes.append(f"resized from {own[1]}x{own[2]} to {wanted[1]}x{wanted[2]}")
        return f"images of {name} are {' and '.join(changes)}, as the learner was trained on {origin['name']}"


def _constants(mean: list[float] | None, std: list[float] | None, channels: int) -> tuple[Tensor, Tensor] | None:
    """The mean and std of each channel as tensors [channels, 1, 1]."""
    if (mean is None) != (std is None):
        raise BadInput("data.presentation.mean and data.presentation.std belong together: give both, or null for both")
    if mean is None or std is None:
        return None
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise BadInput(
                f"data.presentation.{key}={values} has {len(values)} values; allowed: one for each of the {channels} "
                "channels"
            )
    return tensor(mean).view(-1, 1, 1), tensor(std).view(-1, 1, 1)
