"""The contact sheet: the support images of each class, and each query with what it was taken for."""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_SIDE = 72  # pixels of an image's longer side on the sheet
_GAP, _LINE = 10, 14  # pixels between images, and of a line of text
_COLUMNS = 12
_SHOWN_SUPPORT, _SHOWN_QUERIES = 24, 1200  # the rest is left to the table
_NAME_WIDTH = 150
_INK, _PALE, _PAPER = (20, 20, 20), (120, 120, 120), (255, 255, 255)
_FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def sheet(
    classes: Sequence[str],
    support: NDArray[np.uint8],
    support_y: NDArray[np.int64],
    queries: NDArray[np.uint8],
    files: Sequence[str],
    probabilities: NDArray[np.float64],
    bright_ink: bool,
) -> bytes:
    """A PNG. Images are [N, channels, height, width], probabilities [N, classes]; drawings are shown as dark ink."""
    names = [_readable(name, f"class {place}") for place, name in enumerate(classes)]
    height, width = _size(support.shape[2], support.shape[3])
    row, answered = height + _GAP, height + 3 * _LINE + _GAP
    step = max(width, _SIDE) + _GAP
    shown = min(len(queries), _SHOWN_QUERIES)
    columns = min(_COLUMNS, max(shown, 1))
    of_classes = [support[support_y == label][:_SHOWN_SUPPORT] for label in range(len(classes))]
    lines = [-(-len(images) // _COLUMNS) for images in of_classes]
    widest = max(min(max(map(len, of_classes)), _COLUMNS), 1)
    page = Image.new(
        "RGB",
        (
            2 * _GAP + max(_NAME_WIDTH + widest * step, columns * step, 420),
            2 * _GAP + 3 * _LINE + sum(lines) * row + _GAP + -(-shown // columns) * answered,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(page)
    top = _GAP
    draw.text((_GAP, top), "learned from", _PALE, _font())
    top += _LINE + 4
    for name, images, rows in zip(names, of_classes, lines, strict=True):
        draw.text((_GAP, top + height // 2 - _LINE // 2), _cut(name, _NAME_WIDTH - _GAP), _INK, _font())
        for place, pixels in enumerate(images):
            corner = (_GAP + _NAME_WIDTH + place % _COLUMNS * step, top + place // _COLUMNS * row)
            _paste(page, pixels, corner, (width, height), bright_ink)
        top += rows * row
    top += _GAP
    more = f", the first {shown} of {len(queries)}" if shown < len(queries) else ""
    draw.text((_GAP, top), f"asked{more}: file, answer, probability", _PALE, _font())
    top += _LINE + 4
    for place in range(shown):
        left, upper = _GAP + place % columns * step, top + place // columns * answered
        best = int(probabilities[place].argmax())
        _paste(page, queries[place], (left, upper), (width, height), bright_ink)
        told = (Path(files[place]).name, names[best], f"{probabilities[place, best]:.0%}")
        for line, (text, ink) in enumerate(zip(told, (_PALE, _INK, _INK), strict=True)):
            readable = _readable(text, f"image {place}")
            draw.text((left, upper + height + 1 + line * _LINE), _cut(readable, step - 4), ink, _font())
    content = io.BytesIO()
    page.save(content, "PNG")
    return content.getvalue()


def _size(height: int, width: int) -> tuple[int, int]:
    scale = _SIDE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _paste(
    page: Image.Image, pixels: NDArray[np.uint8], corner: tuple[int, int], size: tuple[int, int], bright_ink: bool
) -> None:
    shown = ~pixels if bright_ink else pixels
    image = Image.fromarray(np.ascontiguousarray(shown[0] if len(shown) == 1 else shown.transpose(1, 2, 0))).convert("RGB")
    page.paste(image.resize(size, Image.Resampling.BICUBIC if size[0] < image.width else Image.Resampling.NEAREST), corner)
    (left, upper), (width, height) = corner, size
    ImageDraw.Draw(page).rectangle((left - 1, upper - 1, left + width, upper + height), outline=(205, 205, 205))


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONT), 11)


@cache
def _letters() -> frozenset[int]:
    with TTFont(_FONT) as font:
        return frozenset(font.getBestCmap())


def _readable(text: str, otherwise: str) -> str:
    """A text that the font can show, or what stands for it."""
    return text if all(ord(letter) in _letters() for letter in text) else otherwise


def _cut(text: str, width: int) -> str:
    """As much of a text as fits."""
    if _font().getlength(text) <= width:
        return text
    while text and _font().getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
