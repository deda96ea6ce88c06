"""Whether an image looks like a photograph, which a learner of drawings has never seen the like of.

A drawing has two grey levels, ground and ink, and little between them, once light that falls unevenly on the paper is
taken out; and ink of one colour. Photographs have all levels, or several colours. The thresholds were measured on
Omniglot and CIFAR-FS, and tests hold the share of wrong answers on both.
"""

import numpy as np
from numpy.typing import NDArray

SIDE = 28  # pixels of the square that is looked at

_SMALLEST = 20  # pixels of a side; a smaller image is all edges: drawings, too, then have all levels
_BETWEEN = 0.2  # share of pixels between the levels of ground and ink, of which a drawing has less
_SEPARATED = 0.86  # share of the variance that two levels explain, of which a drawing has more
_COLOURED, _SHARE_OF_COLOURED = 60, 0.1  # levels by which channels differ, and the share of pixels in which they do
_OF_ONE_HUE = 0.7  # length of the mean direction of the pixels' hues
_TOLD = 0.5  # share of images; of fewer the learner may know the rest, and some drawings have many levels


class PhotographsGiven(UserWarning):
    """A learner that was trained on drawings was given what looks like photographs."""


def is_photographic(pixels: NDArray[np.uint8], smaller_side: int) -> bool:
    """Of an image in colour [3, SIDE, SIDE], whose smaller side had so many pixels."""
    colours = pixels.astype(np.float64)
    if _has_several_hues(colours):
        return True
    if smaller_side < _SMALLEST:
        return False
    grey = np.tensordot([0.299, 0.587, 0.114], colours, axes=1)  # [SIDE, SIDE]
    versions = (grey, _in_even_light(grey))
    between = min(_share_between(levels) for levels in versions)
    separated = max(_explained_by_two(levels) for levels in versions)
    return between > _BETWEEN and separated < _SEPARATED


def are_told(count: int, images: int) -> bool:
    """Whether so many photographs among so many images are worth a warning."""
    return count > 0 and count >= _TOLD * images


def warning_of(count: int, images: int, data: str) -> str | None:
    """What has to be said of `count` photographs among so many images, to a learner that was trained on that data."""
    if not are_told(count, images):
        return None
    looks = "image looks like a photograph" if count == images == 1 else "images look like photographs"
    return (
        f"{count} of {images} {looks}, but this learner was trained on drawings ({data}): answers are near chance; use a "
        "learner that was trained on photographs, as by data=cifarfs or data=folder"
    )


def _in_even_light(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is left of an image without the plane that its ground lies in, for the ground is most of a drawing."""
    rows, columns = np.mgrid[0 : grey.shape[0], 0 : grey.shape[1]] / SIDE - 0.5
    places = np.stack([np.ones(grey.size), rows.ravel(), columns.ravel()], axis=1)
    values, ground = grey.ravel(), np.ones(grey.size, dtype=bool)
    left = values
    for _ in range(6):  # each time without what lies far from the plane, which is ink
        plane, *_ = np.linalg.lstsq(places[ground], values[ground], rcond=None)
        left = values - places @ plane
        ground = np.abs(left) <= 2.5 * np.median(np.abs(left)) + 1
    return left.reshape(grey.shape)


def _share_between(levels: NDArray[np.float64]) -> float:
    """How many pixels lie in the middle half between the darkest and the brightest."""
    low, high = np.percentile(levels, [1, 99])
    quarter = max(high - low, 1.0) / 4
    return float(((levels > low + quarter) & (levels < high - quarter)).mean())


def _explained_by_two(levels: NDArray[np.float64]) -> float:
    """The variance between two classes as a share of all of it, by the best threshold (Otsu 1979)."""
    ordered = np.sort(levels.ravel())
    count, sums = len(ordered), np.cumsum(ordered)
    below = np.arange(1, count)
    lower, upper = sums[:-1] / below, (sums[-1] - sums[:-1]) / (count - below)
    share = below / count
    return float((share * (1 - share) * (lower - upper) ** 2).max() / max(ordered.var(), 1e-9))


def _has_several_hues(colours: NDArray[np.float64]) -> bool:
    """Whether its colours point in several directions, seen from that of the ground: paper may be tinted, ink coloured."""
    chroma = colours - colours.mean(0)
    chroma -= np.median(chroma, axis=(1, 2), keepdims=True)
    coloured = np.ptp(chroma, axis=0) > _COLOURED  # [SIDE, SIDE]
    if coloured.mean() < _SHARE_OF_COLOURED:
        return False
    red, green, blue = chroma[:, coloured]
    hues = (red - green) / np.sqrt(2) + 1j * (red + green - 2 * blue) / np.sqrt(6)
    return bool(np.abs(hues.sum()) < _OF_ONE_HUE * np.abs(hues).sum())
