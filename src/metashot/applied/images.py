"""Conversion of a user's images (files, Pillow images, arrays, tensors) to the form that a learner was trained on."""

import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from metashot import configuration
from metashot.applied.photographs import WIDE, is_photographic
from metashot.bad_input import BadValue
from metashot.files.paths import read_file, reason_of
from metashot.sources.getting.files import LARGEST_FILE, printable
from metashot.sources.images.decoding import Decoded, Enlarging, Fit, Unreadable, convert, decode

Ink = Literal["auto", "dark", "bright"]  # the ink of the user's drawings
Inverted = Literal["never", "always", "on bright ground"]

_MIDDLE = 127.5  # between black and white
_CHANNELS = (1, 3, 4)
_LARGEST = "divide them by the largest value they can have, which is 255 for photographs and 16 for scikit-learn's digits"


@dataclass(frozen=True)
class Form:
    """The form of the images that a learner was trained on, and how other images are converted to it."""

    shape: tuple[int, int, int]  # channels, height, width
    fit: Fit  # how an image with another aspect ratio is fitted to this shape
    inverted: Inverted  # which of the given images are inverted
    mean: list[float] | None  # per channel, for images between 0 and 1; None: images are not normalised
    std: list[float] | None
    enlarging: Enlarging = "lanczos"  # how smaller images are enlarged
    of_drawings: bool = False  # whether the learner was trained on drawings with bright ink on a dark background


class Prepared(NamedTuple):
    """An image in the form that a learner expects."""

    pixels: NDArray[np.uint8]  # [channels, height, width]
    was_inverted: bool
    remark: str | None  # a note for the user, such as "animated: its first frame is used"
    is_photographic: bool  # whether the image looks like a photograph; checked only for learners of drawings


def form_of(config: Mapping[str, Any], origin: Mapping[str, Any], ink: Ink) -> Form:
    """The form of a learner's images.

    Args:
        config: The learner's configuration.
        origin: The data that it was trained on.
        ink: The ink of the user's drawings; see `metashot.load`.

    Raises:
        BadValue: This `ink` is not allowed, or not for this learner.
    """
    source = config["data"].get("source")
    of_drawings = bool(getattr(configuration.locate(source, "data.source"), "bright_ink", False))
    if ink not in ("auto", "dark", "bright"):
        raise BadValue(f"ink={ink} cannot be used; allowed: auto, dark, bright")
    if ink == "dark" and not of_drawings:
        raise BadValue(
            f"ink=dark is for learners that were trained on drawings with bright ink, and this one was trained on "
            f"{origin['name']}, whose images are never inverted: leave ink out"
        )
    inverted: Inverted = "never" if not of_drawings or ink == "bright" else "always" if ink == "dark" else "on bright ground"
    channels, height, width = origin["input_shape"]
    # Sources without the argument `fit` squash their images.
    fit = source.get("fit", "squash")
    # Where its images were enlarged as they were presented, so are these.
    enlarging: Enlarging = "bicubic" if origin.get("interpolation") == "bicubic" else "lanczos"
    return Form((channels, height, width), fit, inverted, origin["mean"], origin["std"], enlarging, of_drawings)


def ink_of(form: Form) -> Ink:
    """The `ink` for which `form_of` returns this form."""
    if not form.of_drawings or form.inverted == "on bright ground":
        return "auto"
    return "dark" if form.inverted == "always" else "bright"


def prepared(image: Any, name: str, form: Form) -> Prepared:
    """Convert one image of any kind; `name` identifies it in messages."""
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        try:
            path = path.expanduser()
            content = read_file(path, LARGEST_FILE)
        except (OSError, ValueError, RuntimeError) as error:  # ValueError: no valid path; RuntimeError: unknown ~user
            raise Unreadable(f"{printable(path)}: cannot be read: {reason_of(error)}") from error
        return prepared_file(content, printable(path), form)
    held = _as_pillow(image, name)
    decoded = convert(held, name, form.shape, form.fit, form.enlarging)
    in_colour = convert(held, name, (3, WIDE, WIDE), "squash") if form.of_drawings else None
    return _in_form(decoded, in_colour, form)


def prepared_file(content: bytes, name: str, form: Form) -> Prepared:
    """Convert the content of an image file; `name` identifies it in messages."""
    decoded = decode(content, name, form.shape, form.fit, enlarging=form.enlarging)
    in_colour = decode(content, name, (3, WIDE, WIDE), "squash") if form.of_drawings else None
    return _in_form(decoded, in_colour, form)


def _in_form(decoded: Decoded, in_colour: Decoded | None, form: Form) -> Prepared:
    invert = form.inverted == "always" or (form.inverted == "on bright ground" and _has_bright_border(decoded.pixels))
    photographic = in_colour is not None and is_photographic(in_colour.pixels, min(in_colour.size))
    return Prepared(~decoded.pixels if invert else decoded.pixels, invert, decoded.remark, photographic)


def each_prepared(images: Any, form: Form) -> list[Prepared]:
    """Convert a list of images of any kind, or one array or tensor of images."""
    found = [prepared(image, f"image {place}", form) for place, image in enumerate(one_by_one(images))]
    if not found:
        raise BadValue("no images were given; at least one is needed")
    return found


def all_prepared(images: Any, form: Form) -> NDArray[np.uint8]:
    """Like `each_prepared`, but returns only the pixels [images, channels, height, width]."""
    return np.stack([image.pixels for image in each_prepared(images, form)])


def as_inputs(pixels: NDArray[np.uint8], form: Form, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Pixels [N, channels, height, width] as a network's inputs: scaled to 0 to 1 and normalised."""
    x = torch.from_numpy(pixels).to(device).float().div_(255)
    return normalised(x, form).to(dtype)


def normalised(x: Tensor, form: Form) -> Tensor:
    """Normalise images [N, channels, height, width] between 0 and 1 by the mean and deviation of the training data."""
    if form.mean is None or form.std is None:
        return x
    mean, std = (x.new_tensor(values).view(-1, 1, 1) for values in (form.mean, form.std))
    return (x - mean) / std


def one_by_one(images: Any) -> list[Any]:
    """Split a list, array or tensor of images into single images."""
    if isinstance(images, Tensor) and images.is_nested:
        raise BadValue("images as a nested tensor cannot be used; allowed: a list of tensors, or a dense one")
    if isinstance(images, str | bytes | os.PathLike | Image.Image):
        raise BadValue("one image was given where many are taken; give a list, such as [image]")
    if isinstance(images, np.ndarray | Tensor) and images.ndim > 0 and len(images) == 0:
        return []
    if isinstance(images, Tensor):
        return _of_tensor(images)
    if isinstance(images, np.ndarray) and (images.dtype.kind not in "OUS" or not images.ndim):
        return _of_array(images)
    if isinstance(images, Mapping | Set) or not isinstance(images, Iterable):
        raise BadValue(
            f"images={type(images).__name__} cannot be used; allowed: a list of images, or an array or tensor of them"
        )
    return list(images)


def _of_array(images: NDArray[Any]) -> list[Any]:
    shape = images.shape
    if images.ndim == 4 and shape[3] not in _CHANNELS and shape[1] in _CHANNELS:
        raise BadValue(
            f"an array of shape {shape} has its channels before height and width, as torch has them; numpy's images are "
            "[images, height, width, channels]: use numpy.moveaxis(images, 1, 3), or a tensor"
        )
    if (images.ndim == 4 and shape[3] in _CHANNELS) or (images.ndim == 3 and shape[2] not in _CHANNELS):
        return list(_in_8_bits(images, "images"))
    one = ", which may be one image: give a list, such as [image]" if images.ndim == 3 else ""
    rows = ": give the images back their height and width, as in images.reshape(-1, 8, 8)" if images.ndim == 2 else ""
    raise BadValue(
        f"an array of shape {shape} cannot be used{one or rows}; allowed: [images, height, width] or "
        "[images, height, width, channels] with 1, 3 or 4 channels"
    )


def _of_tensor(images: Tensor) -> list[Any]:
    shape = tuple(images.shape)
    if (images.ndim == 4 and shape[1] in _CHANNELS) or (images.ndim == 3 and shape[0] not in _CHANNELS):
        values = _in_8_bits(_as_array(images), "images")
        return list(np.moveaxis(values, 1, 3) if values.ndim == 4 else values)
    one = ", which may be one image: give a list, such as [image], or say images.unsqueeze(1)" if images.ndim == 3 else ""
    raise BadValue(
        f"a tensor of shape {shape} cannot be used{one}; allowed: [images, channels, height, width] with 1, 3 or 4 "
        "channels, or [images, height, width]"
    )


def _as_pillow(image: Any, name: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Tensor):
        values, allowed = _as_array(image), "channels, height, width"
        grid = np.moveaxis(values, 0, -1) if values.ndim == 3 else values
    elif isinstance(image, np.ndarray):
        values, allowed = image, "height, width, channels"
        grid = values
    else:
        raise BadValue(f"{name} is {type(image).__name__}; allowed: a path, an image of Pillow, an array or a tensor")
    if grid.ndim not in (2, 3) or (grid.ndim == 3 and grid.shape[2] not in _CHANNELS):
        raise BadValue(
            f"{name} has the shape {values.shape}; allowed: [height, width] or [{allowed}] with 1, 3 or 4 channels"
        )
    grid = _in_8_bits(grid, name)
    return Image.fromarray(np.ascontiguousarray(grid[..., 0] if grid.shape[2:] == (1,) else grid))


def _as_array(image: Tensor) -> NDArray[Any]:
    try:
        image = image.detach().resolve_conj().resolve_neg().cpu()
        array: NDArray[Any] = (image.float() if image.dtype == torch.bfloat16 else image).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantised, without memory or of a type that NumPy lacks
        kind = f"{image.dtype}, {image.layout}, on {image.device}"
        raise BadValue(
            f"images as a tensor of {kind} cannot be used; allowed: dense tensors of uint8, bool or floats"
        ) from error
    return array


def _in_8_bits(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    kind = values.dtype.kind
    if values.size == 0:
        raise BadValue(f"{name} of shape {values.shape} has no pixels")
    if values.dtype == np.uint8:
        return values
    if kind == "b":
        return np.where(values, 255, 0).astype(np.uint8)
    if kind not in "iuf":
        raise BadValue(f"{name} has numbers of type {values.dtype}; allowed: uint8, bool, or floats between 0 and 1")
    low, high = float(values.min()), float(values.max())
    if kind == "f":
        if not (low >= 0 and high <= 1):  # `not` around the whole condition, so that NaN is refused too
            raise BadValue(
                f"{name}: floats from {low:g} to {high:g} were found, and they have to lie between 0 and 1: {_LARGEST}"
            )
        in_full = np.asarray(values, dtype=np.float64)
        return np.asarray(np.rint(in_full * 255), dtype=np.uint8)
    if low < 0 or high > 255:
        raise BadValue(f"{name}: whole numbers from {low:g} to {high:g} were found, and they have to lie between 0 and 255")
    return values.astype(np.uint8)


def _has_bright_border(pixels: NDArray[np.uint8]) -> bool:
    border = (pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1])
    return bool(np.concatenate(border, axis=1).mean() > _MIDDLE)
