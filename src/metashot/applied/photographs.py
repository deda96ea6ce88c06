"""Detection of photographs, which are out of distribution for a learner that was trained on drawings.

Once uneven lighting is removed, a drawing has two grey levels, background and ink, with little between them, and ink of one
colour. Photographs have all grey levels, or several colours. The thresholds were measured on Omniglot and CIFAR-FS, and
tests bound the error rate on both.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 28  # pixels; images are resized to a square of this side before the test
WIDE = 4 * SIDE  # in which what an image shows is told from its margin

_SMALLEST = 20  # pixels of the smaller side; smaller images are mostly edges, and even drawings then have all grey levels
_BETWEEN = 0.2  # share of pixels between the levels of background and ink; drawings have fewer
_SEPARATED = 0.86  # share of the variance that two levels explain; in drawings it is larger
_COLOURED, _SHARE_OF_COLOURED = 60, 0.1  # difference between a pixel's channels, and the least share of such pixels
_OF_ONE_HUE = 0.7  # length of the mean direction of the pixels' hues
_SMALLEST_CONTENT = 64  # pixels of what an image shows on a plain ground
_PLAIN, _SHARE_OF_PLAIN = 24, 0.9  # difference from the ground's colour, and the share of the border that is below it
_TOLD = 0.5  # share of images from which on to warn; a few may be drawings with many grey levels


class PhotographsGiven(UserWarning):
    """A learner that was trained on drawings was given images that look like photographs."""


def is_photographic(pixels: NDArray[np.uint8], smaller_side: int) -> bool:
    """Whether a colour image, or what it shows on a plain ground, looks like a photograph.

    Args:
        pixels: The resized image [3, WIDE, WIDE].
        smaller_side: The smaller side of the original image in pixels.
    """
    if _looks_photographic(_reduced(pixels), smaller_side):
        return True
    content = _without_margin(pixels)
    height, width = content.shape[1:]
    pixels_left = min(height, width) / WIDE * smaller_side
    if min(height, width) < SIDE or pixels_left < _SMALLEST_CONTENT or max(height, width) == WIDE == min(height, width):
        return False
    ground: NDArray[np.float64] = np.median(_border(pixels), axis=1)
    return _looks_photographic(_reduced(content), pixels_left, ground - ground.mean())


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image [3, height, width] resized to [3, SIDE, SIDE]."""
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
    return np.moveaxis(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)), -1, 0)


def _without_margin(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part of an image that is not of the colour of its border; the whole where the border has no single colour."""
    border = _border(pixels)
    ground = np.median(border, axis=1)
    if (np.abs(border - ground[:, None]).max(0) <= _PLAIN).mean() < _SHARE_OF_PLAIN:
        return pixels
    rows, columns = np.nonzero(np.abs(pixels - ground[:, None, None]).max(0) > _PLAIN)
    if not len(rows):
        return pixels
    return pixels[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The pixels [3, N] of the border."""
    sides = (pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1])
    border: NDArray[np.int64] = np.concatenate(sides, axis=1).astype(np.int64)
    return border


def _looks_photographic(pixels: NDArray[np.uint8], smaller_side: float, ground: NDArray[np.float64] | None = None) -> bool:
    """Whether an image [3, SIDE, SIDE] looks like a photograph, on a ground of this chroma where that is known."""
    colours = pixels.astype(np.float64)
    if _has_several_hues(colours, ground):
        return True
    if smaller_side < _SMALLEST:
        return False
    grey = np.tensordot([0.299, 0.587, 0.114], colours, axes=1)  # [SIDE, SIDE]
    versions = (grey, _in_even_light(grey))
    between = min(_share_between(levels) for levels in versions)
    separated = max(_explained_by_two(levels) for levels in versions)
    return between > _BETWEEN and separated < _SEPARATED


def are_told(count: int, images: int) -> bool:
    """Whether `count` photographs among `images` are worth a warning."""
    return count > 0 and count >= _TOLD * images


def warning_of(count: int, images: int, data: str) -> str | None:
    """The warning for `count` photographs among `images`, given to a learner that was trained on `data`; None for few."""
    if not are_told(count, images):
        return None
    looks = "image looks like a photograph" if count == images == 1 else "images look like photographs"
    return (
        f"{count} of {images} {looks}, but this learner was trained on drawings ({data}): answers are often wrong; use the "
        "ready-made learner photos, or one that was trained on photographs, as by data=cifarfs or data=folder"
    )


def _in_even_light(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract a plane that is fitted to the background, which covers most of a drawing."""
    rows, columns = np.mgrid[0 : grey.shape[0], 0 : grey.shape[1]] / SIDE - 0.5
    places = np.stack([np.ones(grey.size), rows.ravel(), columns.ravel()], axis=1)
    values, ground = grey.ravel(), np.ones(grey.size, dtype=bool)
    left = values
    for _ in range(6):  # each round leaves out pixels far from the plane, which are ink
        plane, *_ = np.linalg.lstsq(places[ground], values[ground], rcond=None)
        left = values - places @ plane
        ground = np.abs(left) <= 2.5 * np.median(np.abs(left)) + 1
    return left.reshape(grey.shape)


def _share_between(levels: NDArray[np.float64]) -> float:
    """The share of pixels in the middle half of the range between the darkest and the brightest level."""
    low, high = np.percentile(levels, [1, 99])
    quarter = max(high - low, 1.0) / 4
    return float(((levels > low + quarter) & (levels < high - quarter)).mean())


def _explained_by_two(levels: NDArray[np.float64]) -> float:
    """The between-class variance at the best threshold, as a share of the total variance (Otsu 1979)."""
    ordered = np.sort(levels.ravel())
    count, sums = len(ordered), np.cumsum(ordered)
    below = np.arange(1, count)
    lower, upper = sums[:-1] / below, (sums[-1] - sums[:-1]) / (count - below)
    share = below / count
    return float((share * (1 - share) * (lower - upper) ** 2).max() / max(ordered.var(), 1e-9))


def _has_several_hues(colours: NDArray[np.float64], ground: NDArray[np.float64] | None = None) -> bool:
    """Whether colours differ in hue, relative to the background's colour: paper may be tinted, and ink coloured."""
    chroma = colours - colours.mean(0)
    chroma -= np.median(chroma, axis=(1, 2), keepdims=True) if ground is None else ground[:, None, None]
    coloured = np.ptp(chroma, axis=0) > _COLOURED  # [SIDE, SIDE]
    if coloured.mean() < _SHARE_OF_COLOURED:
        return False
    red, green, blue = chroma[:, coloured]
    hues = (red - green) / np.sqrt(2) + 1j * (red + green - 2 * blue) / np.sqrt(6)
    return bool(np.abs(hues.sum()) < _OF_ONE_HUE * np.abs(hues).sum())
