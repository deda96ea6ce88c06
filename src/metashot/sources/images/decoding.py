"""One image file of any kind becomes uint8 pixels of a wanted shape, or is said to be unreadable."""

import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from metashot.bad_input import BadInput

Fit = Literal["squash", "crop", "pad"]  # how an image of another aspect ratio becomes the wanted rectangle
Box = tuple[float, float, float, float]  # left, top, width, height in pixels of the upright image

# Named one by one because Pillow also knows formats that run a program (EPS), and some that any text file passes for.
_FORMATS = (
    *("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000"),
    *("ICO", "ICNS", "DIB", "PCX", "SGI", "SUN", "DDS", "PSD", "QOI", "TGA"),
)
_ORIENTATION_KEYS = {"exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pixels of a side, as in a JPEG. Scaling goes through an image as high as this one and as wide as the wanted one: of one
# pixel by 80 million, which are 300 kB of PNG, it would take 9 GB. Of how many pixels there are, Pillow has its own limit.
_LONGEST_SIDE = 65_535
_TRANSPARENT = "transparent: shown on white"
_SIXTEEN_BITS = "16 bits a channel: scaled to 8"
_SIXTEEN_TO_EIGHT = np.rint(np.arange(65536) / 257).astype(np.uint8)

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what Pillow finds in a damaged file is said by Unreadable
_stderr_is_away = threading.Lock()


class Unreadable(BadInput):
    """A file that cannot be decoded; a data set of a user's own skips and counts it."""


@dataclass(frozen=True)
class Decoded:
    pixels: NDArray[np.uint8]  # [channels, height, width]
    remark: str | None  # what was done that the user should know, such as "animated: its first frame is used"
    size: tuple[int, int]  # width and height of the image that it was made of


def decode(content: bytes, name: str, shape: tuple[int, int, int], fit: Fit, box: Box | None = None) -> Decoded:
    """The image in `content` as `shape`: 1 channel is luminance, 3 are RGB. `name` is for messages.

    `box` is cut out first, in whole pixels; what of it lies outside the image is ignored.
    """
    _, height, width = shape
    remarks: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _read(content, name, 2 * max(height, width) if box is None else None, remarks)
    if box is not None:
        image = _cut(image, box, name)
    try:
        return Decoded(_pixels(image, shape, fit), "; ".join(remarks) or None, image.size)
    except MemoryError as error:
        raise _lacks_memory(image, name) from error


def convert(image: Image.Image, name: str, shape: tuple[int, int, int], fit: Fit) -> Decoded:
    """As `decode`, of an image that Pillow holds already, and which stays as it is."""
    remarks: list[str] = []
    _refuse_too_long(image, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            pixels = _pixels(_upright(image, remarks), shape, fit)
    except Exception as error:  # its file may have been closed or cut off, and it may have no pixels
        raise Unreadable(f"{name}: cannot be used ({error or type(error).__name__})") from error
    return Decoded(pixels, "; ".join(remarks) or None, image.size)


def _pixels(image: Image.Image, shape: tuple[int, int, int], fit: Fit) -> NDArray[np.uint8]:
    """Of an image of mode L or RGB: [channels, height, width]."""
    channels, height, width = shape
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")
    stored = np.asarray(_fitted(image, width, height, fit))
    if stored.ndim == 2:
        return np.repeat(stored[None], channels, axis=0)
    return np.ascontiguousarray(stored.transpose(2, 0, 1))


def _read(content: bytes, name: str, enough: int | None, remarks: list[str]) -> Image.Image:
    """The upright, opaque image of mode L or RGB; a JPEG may come smaller, but not below `enough` pixels a side."""
    if not content:
        raise Unreadable(f"{name}: is empty")
    image: Image.Image | None = None
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        _refuse_too_long(image, name)
        if image.format in ("PNG", "TIFF"):
            _mind_the_depth(image, remarks)
        if getattr(image, "is_animated", False):
            if image.format == "TIFF":
                remarks.append("several pages: its first page is used")
            elif image.format in ("PNG", "GIF", "WEBP", "AVIF"):  # the others hold sizes, layers or previews
                remarks.append("animated: its first frame is used")
        if enough is not None:
            image.draft(None, (enough, enough))
        with _libtiff_silenced() if image.format == "TIFF" else nullcontext():
            image.load()
        return _upright(image, remarks)
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(f"{name}: is not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"{name}: has too many pixels to be read safely") from error
    except Exception as error:  # a damaged file takes Pillow anywhere: SyntaxError, struct.error, MemoryError, ...
        if isinstance(error, MemoryError) and image is not None and not _there_is_memory_for(image):
            raise _lacks_memory(image, name) from error
        raise Unreadable(f"{name}: is cut off or damaged") from error


def _refuse_too_long(image: Image.Image, name: str) -> None:
    if max(image.size) > _LONGEST_SIDE:
        raise Unreadable(f"{name}: has {image.width:,} x {image.height:,} pixels, and {_LONGEST_SIDE:,} a side can be read")


def _lacks_memory(image: Image.Image, name: str) -> BadInput:
    return BadInput(
        f"there is too little memory to read {name} of {image.width} x {image.height} pixels: close other programs, "
        "or make the image smaller"
    )


def _there_is_memory_for(image: Image.Image) -> bool:
    """Whether memory was really short: a damaged file can ask for any amount, and is left out; a whole one is not."""
    try:
        np.empty((image.height, image.width, 4), np.uint8)
    except MemoryError:
        return False
    return True


def _upright(image: Image.Image, remarks: list[str]) -> Image.Image:
    """The image as L or RGB, turned as its camera says."""
    turn = _turn(image, remarks)
    plain = _eight_bits(image, remarks)
    return plain if turn is None else plain.transpose(turn)


@contextmanager
def _libtiff_silenced() -> Iterator[None]:
    """libtiff writes what it finds in a damaged file to the terminal by itself, past Python's warnings."""
    with _stderr_is_away, open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _mind_the_depth(image: Any, remarks: list[str]) -> None:
    """Pillow brings other depths to 8 bits by itself, but leaves a PNG's transparent colour as it stands in the file."""
    layout = str(image.tile[0].args)
    if ";16" in layout and image.mode.startswith("RGB"):
        remarks.append(_SIXTEEN_BITS)
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and layout == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    elif isinstance(transparent, int) and layout in ("L;2", "L;4"):
        image.info["transparency"] = transparent * (85 if layout == "L;2" else 17)


def _turn(image: Image.Image, remarks: list[str]) -> Image.Transpose | None:
    """What makes the image upright; Pillow has turned a TIFF already."""
    if _ORIENTATION_KEYS.isdisjoint(image.info):
        return None
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels are whole, so the image is still worth having
        remarks.append("damaged EXIF: shown as stored")
        return None


def _eight_bits(image: Image.Image, remarks: list[str]) -> Image.Image:
    """The image as L or RGB, on white where it is transparent."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _scaled(image, remarks)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        alpha = layered.getchannel("A")
        opaque = layered.convert("RGB")
        if alpha.getextrema() == (255, 255):
            return opaque
        remarks.append(_TRANSPARENT)
        white = Image.new("RGB", image.size, "white")
        white.paste(opaque, mask=alpha)
        return white
    if mode in ("L", "RGB"):
        return image
    if mode == "CMYK":
        remarks.append("CMYK: converted to RGB")
    return image.convert("L" if mode == "1" else "RGB")


def _scaled(image: Image.Image, remarks: list[str]) -> Image.Image:
    """Grey values of more than 8 bits, which Pillow's `convert` would clip at 255."""
    values = np.asarray(image)
    if image.mode.startswith("I;16") or image.format == "PPM":
        grey = _SIXTEEN_TO_EIGHT[values]
        remarks.append(_SIXTEEN_BITS)
    else:
        finite = values[np.isfinite(values)]
        low, high = float(finite.min()), float(finite.max())
        known = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
        grey = np.rint((known - low) * (255 / (high - low or 1.0))).astype(np.uint8)
        kind = "floating point" if image.mode == "F" else "32 bits a channel"
        remarks.append(f"{kind}: scaled from the image's own range")
    transparent = image.info.get("transparency")
    if transparent is not None and (hidden := values == transparent).any():
        grey[hidden] = 255
        remarks.append(_TRANSPARENT)
    return Image.fromarray(grey)


def _cut(image: Image.Image, box: Box, name: str) -> Image.Image:
    left, top, width, height = box
    edges = np.clip(np.rint((left, top, left + width, top + height)), 0, (*image.size, *image.size))
    if not (edges[0] < edges[2] and edges[1] < edges[3]):  # asked this way round, NaN is refused too
        raise Unreadable(f"{name}: nothing of the image ({image.width} x {image.height}) lies in the box {box}")
    return image.crop(tuple(int(edge) for edge in edges))  # type: ignore[arg-type]


def _fitted(image: Image.Image, width: int, height: int, fit: Fit) -> Image.Image:
    """Lanczos, the filter of the data scripts that came with MAML."""
    if image.size == (width, height):
        return image
    across, down = image.width * height, image.height * width  # compares the two aspect ratios in whole numbers
    if fit == "squash" or across == down:
        return image.resize((width, height), Image.Resampling.LANCZOS)
    if fit == "crop":
        # The edges of the cut lie on pixels of the scaled image, as if it had been scaled as a whole and then cut.
        if across > down:
            step = image.height / height
            left = (round(image.width / step) - width) // 2 * step
            part = (left, 0.0, left + width * step, float(image.height))
        else:
            step = image.width / width
            top = (round(image.height / step) - height) // 2 * step
            part = (0.0, top, float(image.width), top + height * step)
        return image.resize((width, height), Image.Resampling.LANCZOS, box=part)
    if across > down:
        inner = (width, max(1, round(image.height * width / image.width)))
    else:
        inner = (max(1, round(image.width * height / image.height)), height)
    white = Image.new(image.mode, (width, height), "white")
    scaled = image if inner == image.size else image.resize(inner, Image.Resampling.LANCZOS)
    white.paste(scaled, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return white
