"""Random changes of training images, in batches and on the images' own device.

The random numbers of an image are a pure function of the seed, the split, the episode's number and the image's place in
it, so an episode looks the same in any batch and on any device. torchvision's v2 transforms draw once for a whole batch and
from a global generator, which is why these few are ours; each gives the pixels that torchvision's function gives.
"""

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

_SUPPORT, _QUERY, _CLASSES = 16, 17, 18  # the random streams of an episode, beside those of the sampler
# What each random number of an image decides. Every kind has its place, so that one more or less leaves the others alone.
_ROW, _COLUMN, _FLIP, _TURN, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(8)


class Augmentation:
    """Crop, flip and quarter turns, then brightness, contrast, saturation and hue, in this order for every image.

    A crop of the old size is cut out of the image with a black margin of `crop_padding` pixels. Factors of brightness,
    contrast and saturation lie between 1 - b and 1 + b; hue moves by at most its share of the colour circle. With
    `quarter_turns=class` all images of a class of an episode turn by the same multiple of 90 degrees.
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
        """The episode with changed images; x are [T, N, channels, height, width] between 0 and 1."""
        if not (self.moves or self.colours):
            return episode
        numbers = episode.number.cpu().numpy()

        def changed(examples: Examples, stream: int) -> Examples:
            count = examples.y.shape[1]
            if count == 0:
                return examples
            share = uniform(key, numbers, stream, count * 8).reshape(len(numbers), count, 8)
            if self.quarter_turns == "class":
                of_classes = uniform(key, numbers, _CLASSES, episode.classes.shape[1])
                share[..., _TURN] = np.take_along_axis(of_classes, examples.y.cpu().numpy(), axis=1)
            return Examples(self.apply(examples.x, torch.from_numpy(share)), examples.y)

        return Episode(changed(episode.support, _SUPPORT), changed(episode.query, _QUERY), episode.number, episode.classes)

    def apply(self, x: Tensor, share: Tensor) -> Tensor:
        """Images [T, N, channels, height, width] changed by eight numbers in [0, 1) each: [T, N, 8]."""
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
        """Row by row out of all windows of a row's length, which are a view and cost no memory."""
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
    """Of each image: [M, 1, 1, 1]."""
    # Whole numbers have the same sum in any order, and in which order a device adds depends on the batch and its threads.
    total = (images * 2.0**40).long().sum((1, 2, 3), keepdim=True)
    return total.to(images.dtype) / (2.0**40 * images[0].numel())


def _hue_shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Through hue, saturation and value, and back."""
    # The hue comes from ordering the channels by minima and maxima and noting which changed places. Choosing with
    # torch.where takes three times as long: a processor cannot guess the choices of neighbouring pixels.
    red, green, blue = images.unbind(1)
    high, low = torch.maximum(green, blue), torch.minimum(green, blue)
    value, middle = torch.maximum(red, high), torch.minimum(red, high)
    swapped, beyond = (green < blue).to(images), (red < high).to(images)
    start = beyond * (12 * swapped - 2) - 6 * swapped  # red 0 or -6, green -2, blue 4: up or down the circle from there
    apart = middle - low
    low = torch.minimum(middle, low)
    chroma = value - low
    sixths = apart.div_(chroma.clamp(min=torch.finfo(images.dtype).tiny)).add_(start).abs_().add_(6 * shift)
    sixths -= (sixths / 6).floor_().mul_(6)  # the hue, around a circle of six: [M, height, width]
    share = torch.stack([(sixths - 3).abs_() - 1, 2 - (sixths - 2).abs_(), 2 - (sixths - 4).abs_()], dim=1)
    return share.clamp_(0, 1).mul_(chroma[:, None]).add_(low[:, None])
