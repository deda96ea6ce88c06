"""Random augmentation of training images, batched and on the device that holds the images.

The random numbers for an image are a pure function of the seed, the split, the episode number and the position of the image
in the episode, so an episode looks the same in any batch and on any device. torchvision's v2 transforms draw once for a
whole batch and from a global generator, so the few transforms needed are implemented here; each produces the same pixels as
its torchvision counterpart.
"""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.arguments import AtLeast, AtMost
from metashot.bad_input import BadInput
from metashot.data.presentation.luminance import TORCHVISION
from metashot.episodes import Episode, Examples
from metashot.randomness import uniform

Share = Annotated[float, AtLeast(0), AtMost(1)]

_SUPPORT, _QUERY, _CLASSES = 16, 17, 18  # random streams of an episode, besides those of the sampler
# What each of the random numbers of an image decides. Each has a fixed index, so enabling one does not change the others.
_ROW, _COLUMN, _FLIP, _TURN, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(8)


class Augmentation:
    """Crops, flips and rotates images, then changes brightness, contrast, saturation and hue, in this order.

    Args:
        crop_padding: pixels of black padding on each side, from which a crop of the original size is cut.
        flip: probability of a horizontal flip.
        brightness: b, where the brightness factor is drawn between 1 - b and 1 + b.
        contrast: likewise for the contrast factor.
        saturation: likewise for the saturation factor.
        hue: the largest hue shift, as a fraction of the colour circle.
        quarter_turns: `image` rotates each image by a random multiple of 90 degrees, `class` all images of a class in an
            episode by the same one, `none` rotates nothing.
    """

    def __init__(
        self,
        crop_padding: Annotated[int, AtLeast(0), AtMost(256)],
        flip: Share,
        brightness: Share,
        contrast: Share,
        saturation: Share,
        hue: Annotated[float, AtLeast(0), AtMost(0.5)],
        quarter_turns: Literal["none", "image", "class"],
    ) -> None:
        self.crop_padding = crop_padding
        self.flip = flip
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.quarter_turns = quarter_turns
        self.moves = crop_padding > 0 or flip > 0 or quarter_turns != "none"
        self.colours = max(brightness, contrast, saturation, hue) > 0

    def __call__(self, episode: Episode, key: tuple[int, int]) -> Episode:
        """Augment the images of an episode.

        Args:
            episode: images [T, N, channels, height, width] with values between 0 and 1.
            key: the sampler's key, from which the random numbers are derived.

        Returns:
            The episode with augmented images.

        Raises:
            BadInput: if quarter turns are configured and the images are not square.
        """
        if not (self.moves or self.colours):
            return episode
        numbers = episode.number.cpu().numpy()

        def changed(examples: Examples, stream: int) -> Examples:
            count = examples.y.shape[1]
            if count == 0:
                return examples
            share = uniform(key, numbers, stream, count * 8).reshape(len(numbers), count, 8)
            if self.quarter_turns == "class":
                class_shares = uniform(key, numbers, _CLASSES, episode.classes.shape[1])
                share[..., _TURN] = np.take_along_axis(class_shares, examples.y.cpu().numpy(), axis=1)
            return replace(examples, x=self.apply(examples.x, torch.from_numpy(share)))

        return Episode(changed(episode.support, _SUPPORT), changed(episode.query, _QUERY), episode.number, episode.classes)

    def apply(self, x: Tensor, share: Tensor) -> Tensor:
        """Augment images [T, N, channels, height, width] with eight random numbers in [0, 1) per image, [T, N, 8]."""
        images, share = x.flatten(0, 1), share.flatten(0, 1).to(x.device)
        if self.moves:
            images = self._moved(images, share)
        if self.colours:
            images = self._coloured(images, share.to(x.dtype))
        return images.view_as(x)

    def _moved(self, images: Tensor, share: Tensor) -> Tensor:
        height, width = images.shape[2:]
        images = self._cropped(images, share) if self.crop_padding else images.clone()
        flipped = share[:, _FLIP] < self.flip
        images[flipped] = images[flipped].flip(3)
        if self.quarter_turns != "none":
            if height != width:
                raise BadInput(
                    f"data.presentation.augmentation.quarter_turns={self.quarter_turns} needs square images, and these are "
                    f"{height}x{width}: use data.presentation.augmentation.quarter_turns=none"
                )
            turns = (share[:, _TURN] * 4).long()
            for quarter in (1, 2, 3):
                chosen = turns == quarter
                images[chosen] = images[chosen].rot90(quarter, (2, 3))
        return images

    def _cropped(self, images: Tensor, share: Tensor) -> Tensor:
        """Index into a view of all row-length windows, which takes no memory of its own."""
        count, channels, height, width = images.shape
        windows = F.pad(images, [self.crop_padding] * 4).unfold(3, width, 1)  # [M, channels, rows, offsets, width]
        offset = (share[:, [_ROW, _COLUMN]] * (2 * self.crop_padding + 1)).long()  # [M, 2]
        image = torch.arange(count, device=images.device)[:, None, None]
        channel = torch.arange(channels, device=images.device)[:, None]
        rows = (torch.arange(height, device=images.device) + offset[:, :1])[:, None]  # [M, 1, height]
        return windows[image, channel, rows, offset[:, 1, None, None]]

    def _coloured(self, images: Tensor, share: Tensor) -> Tensor:
        def factor(kind: int, most: float) -> Tensor:
            return (1 + most * (2 * share[:, kind] - 1)).view(-1, 1, 1, 1)

        if self.brightness:
            images = (images * factor(_BRIGHTNESS, self.brightness)).clamp_(0, 1)
        if self.contrast:
            images = _blend(images, _mean(_grey(images)), factor(_CONTRAST, self.contrast))
        if self.saturation and images.shape[1] == 3:
            images = _blend(images, _grey(images), factor(_SATURATION, self.saturation))
        if self.hue and images.shape[1] == 3:
            images = _hue_shifted(images, (self.hue * (2 * share[:, _HUE] - 1)).view(-1, 1, 1))
        return images


def _blend(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    return (factor * images).add_((1 - factor) * others).clamp_(0, 1)


def _grey(images: Tensor) -> Tensor:
    """[M, 1, height, width]"""
    if images.shape[1] != 3:
        return images
    red, green, blue = (channel * share for channel, share in zip(images.unbind(1), TORCHVISION, strict=True))
    return red.add_(green).add_(blue)[:, None]


def _mean(images: Tensor) -> Tensor:
    """The mean of each image, [M, 1, 1, 1]."""
    # The order in which a device adds depends on the batch and its threads; integers have the same sum in any order.
    total = (images * 2.0**40).long().sum((1, 2, 3), keepdim=True)
    return total.to(images.dtype) / (2.0**40 * images[0].numel())


def _hue_shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Convert RGB to HSV, shift the hue and convert back."""
    # The hue follows from sorting the channels with minima and maxima and recording the swaps. Selecting with torch.where
    # takes three times as long, because a processor cannot predict the branches of neighbouring pixels.
    red, green, blue = images.unbind(1)
    high, low = torch.maximum(green, blue), torch.minimum(green, blue)
    value, middle = torch.maximum(red, high), torch.minimum(red, high)
    swapped, beyond = (green < blue).to(images), (red < high).to(images)
    start = beyond * (12 * swapped - 2) - 6 * swapped  # red 0 or -6, green -2, blue 4: count the hue up or down
    apart = middle - low
    low = torch.minimum(middle, low)
    chroma = value - low
    sixths = apart.div_(chroma.clamp(min=torch.finfo(images.dtype).tiny)).add_(start).abs_().add_(6 * shift)
    sixths -= (sixths / 6).floor_().mul_(6)  # the hue on a circle of length six: [M, height, width]
    share = torch.stack([(sixths - 3).abs_() - 1, 2 - (sixths - 2).abs_(), 2 - (sixths - 4).abs_()], dim=1)
    return share.clamp_(0, 1).mul_(chroma[:, None]).add_(low[:, None])
