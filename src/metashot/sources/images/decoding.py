"""Decodes image files of many formats to uint8 pixels of a given shape, or reports them as unreadable."""

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

Fit = Literal["squash", "crop", "pad"]  # how an image of another aspect ratio is fitted to the target shape
Enlarging = Literal["lanczos", "bicubic"]  # the filter by which smaller images are enlarged
Box = tuple[float, float, float, float]  # left, top, width, height in pixels of the upright image

# Listed explicitly, because Pillow also supports formats that run a program (EPS), and some that any text file passes as.
_FORMATS = (
    *("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000"),
    *("ICO", "ICNS", "DIB", "PCX", "SGI", "SUN", "DDS", "PSD", "QOI", "TGA"),
)
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")  # brands of photographs of phones
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
# The longest side in pixels, as in JPEG. Resizing creates an intermediate image of the original height and the target width:
# for an image of 1 x 80 million pixels, a PNG of 300 kB, it would take 9 GB. Pillow itself limits the number of pixels.
_LONGEST_SIDE = 65_535
_TRANSPARENT = "transparent: shown on white"
_ROWS = 256  # of an image that are put on white at a time
_SIXTEEN_BITS = "16 bits a channel: scaled to 8"
_SIXTEEN_TO_EIGHT = np.rint(np.arange(65536) / 257).astype(np.uint8)

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # damage to a file is reported by Unreadable instead
_stderr_is_away = threading.Lock()


class Unreadable(BadInput):
    """A file that cannot be decoded; the user's own data sets skip and count such files."""


@dataclass(frozen=True)
class Decoded:
    pixels: NDArray[np.uint8]  # [channels, height, width]
    remark: str | None  # a note for the user, such as "animated: its first frame is used"
    size: tuple[int, int]  # width and height of the original image


def decode(
    content: bytes,
    name: str,
    shape: tuple[int, int, int],
    fit: Fit,
    box: Box | None = None,
    enlarging: Enlarging = "lanczos",
) -> Decoded:
    """Decode an image file.

    Args:
        content: the content of the file.
        name: its name, for messages.
        shape: the target (channels, height, width); 1 channel is luminance, 3 are RGB.
        fit: how an image of another aspect ratio is fitted to the shape.
        box: the part of the image to use, rounded to whole pixels and clipped to the image.
        enlarging: how an image that is smaller is enlarged.

    Returns:
        The decoded image.

    Raises:
        Unreadable: if the file is damaged, unsupported or too large.
        BadInput: if memory runs out.
    """
    _, height, width = shape
    remarks: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _read(content, name, 2 * max(height, width) if box is None else None, remarks)
    if box is not None:
        image = _cut(image, box, name)
    try:
        return Decoded(_pixels(image, shape, fit, enlarging), "; ".join(remarks) or None, image.size)
    except MemoryError as error:
        raise _lacks_memory(image, name) from error


def convert(
    image: Image.Image, name: str, shape: tuple[int, int, int], fit: Fit, enlarging: Enlarging = "lanczos"
) -> Decoded:
    """Convert an image that Pillow has already opened, without changing it.

    Args:
        image: the image.
        name: its name, for messages.
        shape: the target (channels, height, width); 1 channel is luminance, 3 are RGB.
        fit: how an image of another aspect ratio is fitted to the shape.
        enlarging: how an image that is smaller is enlarged.

    Returns:
        The converted image.

    Raises:
        Unreadable: if the image cannot be used.
    """
    remarks: list[str] = []
    _refuse_too_long(image, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            pixels = _pixels(_upright(image, remarks), shape, fit, enlarging)
    except Exception as error:  # its file may be closed or truncated, or it may have no pixels
        raise Unreadable(f"{name}: cannot be used ({error or type(error).__name__})") from error
    return Decoded(pixels, "; ".join(remarks) or None, image.size)


def claimed_pixels(content: bytes) -> int:
    """The number of pixels that an image file says it has; 0 if it does not say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return image.width * image.height
    except Exception:  # whatever is wrong with it is said when it is decoded
        return 0


def _pixels(image: Image.Image, shape: tuple[int, int, int], fit: Fit, enlarging: Enlarging) -> NDArray[np.uint8]:
    """The pixels [channels, height, width] of an image of mode L or RGB."""
    channels, height, width = shape
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")
    stored = np.asarray(_fitted(image, width, height, fit, enlarging))
    if stored.ndim == 2:
        return np.repeat(stored[None], channels, axis=0)
    return np.ascontiguousarray(stored.transpose(2, 0, 1))


def _read(content: bytes, name: str, enough: int | None, remarks: list[str]) -> Image.Image:
    """Read an upright, opaque image of mode L or RGB; a JPEG may be scaled down, but not below `enough` pixels per side."""
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
            elif image.format in ("PNG", "GIF", "WEBP", "AVIF"):  # other formats store sizes, layers or previews
                remarks.append("animated: its first frame is used")
        if enough is not None:
            image.draft(None, (enough, enough))
        with _libtiff_silenced() if image.format == "TIFF" else nullcontext():
            image.load()
        return _upright(image, remarks)
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        if content[4:8] == b"ftyp" and content[8:12] in _HEIC:
            raise Unreadable(f"{name}: is a HEIC image, which cannot be read: convert it to JPEG or PNG") from error
        raise Unreadable(f"{name}: is not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"{name}: has too many pixels to be read safely") from error
    except Exception as error:  # for a damaged file Pillow raises SyntaxError, struct.error, MemoryError, ...
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
    """Whether the image would fit into memory: if so, a MemoryError means a damaged file that asked for any amount."""
    try:
        np.empty((image.height, image.width, 4), np.uint8)
    except MemoryError:
        return False
    return True


def _upright(image: Image.Image, remarks: list[str]) -> Image.Image:
    """The image as L or RGB, rotated according to its EXIF orientation."""
    turn = _turn(image, remarks)
    plain = _eight_bits(image, remarks)
    return plain if turn is None else plain.transpose(turn)


@contextmanager
def _libtiff_silenced() -> Iterator[None]:
    """Silence libtiff, which prints errors in a damaged file directly to the terminal, bypassing Python's warnings."""
    with _stderr_is_away, open(os.devnull, "w") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _mind_the_depth(image: Any, remarks: list[str]) -> None:
    """Scale a PNG's transparent colour to 8 bits, since Pillow converts only the pixels."""
    layout = str(image.tile[0].args)
    if ";16" in layout and image.mode.startswith("RGB"):
        remarks.append(_SIXTEEN_BITS)
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and layout == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    elif isinstance(transparent, int) and layout in ("L;2", "L;4"):
        image.info["transparency"] = transparent * (85 if layout == "L;2" else 17)


def _turn(image: Image.Image, remarks: list[str]) -> Image.Transpose | None:
    """The transposition that makes the image upright; Pillow has already applied it to a TIFF."""
    if _ORIENTATION_KEYS.isdisjoint(image.info):
        return None
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels are intact, so the image is still usable
        remarks.append("damaged EXIF: shown as stored")
        return None


def _eight_bits(image: Image.Image, remarks: list[str]) -> Image.Image:
    """The image as L or RGB, with white in place of transparency."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _scaled(image, remarks)
    if image.has_transparency_data:
        layered = image if image.mode == "RGBA" else image.convert("RGBA")
        if layered.getchannel("A").getextrema() == (255, 255):
            return layered.convert("RGB")
        remarks.append(_TRANSPARENT)
        white = Image.new("RGB", image.size, "white")
        for top in range(0, image.height, _ROWS):  # which saves two more images in memory
            part = layered.crop((0, top, image.width, min(top + _ROWS, image.height)))
            white.paste(part.convert("RGB"), (0, top), part.getchannel("A"))
        return white
    if mode in ("L", "RGB"):
        return image
    if mode == "CMYK":
        remarks.append("CMYK: converted to RGB")
    return image.convert("L" if mode == "1" else "RGB")


def _scaled(image: Image.Image, remarks: list[str]) -> Image.Image:
    """Scale grey values of more than 8 bits to 8 bits; Pillow's `convert` would clip them at 255."""
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
    if not (edges[0] < edges[2] and edges[1] < edges[3]):  # phrased so that NaN is refused, too
        raise Unreadable(f"{name}: nothing of the image ({image.width} x {image.height}) lies in the box {box}")
    return image.crop(tuple(int(edge) for edge in edges))  # type: ignore[arg-type]


def _fitted(image: Image.Image, width: int, height: int, fit: Fit, enlarging: Enlarging) -> Image.Image:
    """Resize with Lanczos, the filter in the data scripts of MAML, unless an image is enlarged by another."""
    if image.size == (width, height):
        return image
    is_smaller = image.width <= width and image.height <= height
    kernel = Image.Resampling.BICUBIC if is_smaller and enlarging == "bicubic" else Image.Resampling.LANCZOS
    across, down = image.width * height, image.height * width  # compare the two aspect ratios as integers
    if fit == "squash" or across == down:
        return image.resize((width, height), kernel)
    if fit == "crop":
        # The crop is aligned to pixels of the resized image, as if the whole image had been resized and then cropped.
        if across > down:
            step = image.height / height
            left = (round(image.width / step) - width) // 2 * step
            part = (left, 0.0, left + width * step, float(image.height))
        else:
            step = image.width / width
            top = (round(image.height / step) - height) // 2 * step
            part = (0.0, top, float(image.width), top + height * step)
        return image.resize((width, height), kernel, box=part)
    if across > down:
        inner = (width, max(1, round(image.height * width / image.width)))
    else:
        inner = (max(1, round(image.width * height / image.height)), height)
    white = Image.new(image.mode, (width, height), "white")
    scaled = image if inner == image.size else image.resize(inner, kernel)
    white.paste(scaled, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return white
