"""The contact sheet of a prediction: each class with its support images, and each query with its predicted class."""

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from metashot.applied.labels import UNKNOWN
from metashot.evaluation.pictures.letters import FONT, shown_letters
from metashot.files.outputs import SOFTWARE

_SIDE = 72  # pixels of an image's longer side on the sheet
_GAP, _LINE = 10, 14  # pixels between images, and the height of a line of text
_COLUMNS = 12
_SHOWN_SUPPORT, _SHOWN_QUERIES = 24, 1200  # support images per class, and queries; the table has the remaining queries
_NAME_WIDTH = 150
_INK, _PALE, _PAPER = (20, 20, 20), (120, 120, 120), (255, 255, 255)
_KEPT = 3  # letters of a common prefix or suffix that stay where the rest of it is left out
_DASH = 4  # pixels
_SURE, _AHEAD = 0.5, 0.2  # the least probability of a confident prediction, and its least margin over the next class
UNCERTAIN = f"below {100 * _SURE:.0f} %, or less than {100 * _AHEAD:.0f} points ahead of the next class"
_OF_DRAWINGS = "drawings are shown dark on light; the learner sees them light on dark"


def sheet(
    classes: Sequence[str],
    support: NDArray[np.uint8],
    support_y: NDArray[np.int64],
    queries: NDArray[np.uint8],
    files: Sequence[str],
    probabilities: NDArray[np.float64],
    unknown: NDArray[np.bool_],
    bright_ink: bool,
) -> bytes:
    """Draw the contact sheet.

    Args:
        classes: The class names.
        support: The support images [N, channels, height, width].
        support_y: Their labels [N].
        queries: The query images [Q, channels, height, width].
        files: The file of each query.
        probabilities: The class probabilities of each query [Q, classes].
        unknown: Which queries are answered with "unknown" [Q].
        bright_ink: Whether the images are drawings with bright ink, which are then shown inverted.

    Returns:
        The content of a PNG file.
    """
    names = [shown_letters(name) or f"class {place}" for place, name in enumerate(classes)]
    doubtful = uncertain(probabilities) & ~unknown
    height, width = _size(support.shape[2], support.shape[3])
    row, answered = height + _GAP, height + 3 * _LINE + _GAP
    step = max(width, _SIDE) + _GAP
    shown = min(len(queries), _SHOWN_QUERIES)
    columns = min(_COLUMNS, max(shown, 1))
    per_class = [support[support_y == label][:_SHOWN_SUPPORT] for label in range(len(classes))]
    lines = [-(-len(images) // _COLUMNS) for images in per_class]
    widest = max(min(max(map(len, per_class)), _COLUMNS), 1)
    more = f", the first {shown} of {len(queries)}" if shown < len(queries) else ""
    heading = "learned from" + (f" ({_OF_DRAWINGS})" if bright_ink else "")
    readable = [shown_letters(name) or f"image {place}" for place, name in enumerate(_without_extensions(files[:shown]))]
    short_files = shortened(readable, step - 4, _width)
    legend = f"asked{more}: file, answer, probability" + (f"; dashed and with ?: {UNCERTAIN}" if doubtful.any() else "")
    legend += f"; solid frame: {UNKNOWN}, and below it the likeliest class" if unknown.any() else ""
    if any(text.startswith(f"{place + 1}: ") and text != readable[place] for place, text in enumerate(short_files)):
        legend += "; numbers before names: rows of the table"
    page = Image.new(
        "RGB",
        (
            2 * _GAP + max(_NAME_WIDTH + widest * step, columns * step, 420, *map(round, map(_width, (heading, legend)))),
            2 * _GAP + 3 * _LINE + sum(lines) * row + _GAP + -(-shown // columns) * answered,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(page)
    top = _GAP
    draw.text((_GAP, top), heading, _PALE, _font())
    top += _LINE + 4
    for name, images, rows in zip(shortened(names, _NAME_WIDTH - _GAP, _width), per_class, lines, strict=True):
        draw.text((_GAP, top + height // 2 - _LINE // 2), name, _INK, _font())
        for place, pixels in enumerate(images):
            corner = (_GAP + _NAME_WIDTH + place % _COLUMNS * step, top + place // _COLUMNS * row)
            _paste(page, pixels, corner, (width, height), bright_ink)
        top += rows * row
    top += _GAP
    draw.text((_GAP, top), legend, _PALE, _font())
    top += _LINE + 4
    short_names = shortened(names, step - 4, _width)
    nearest = shortened(names, step - 4 - _width(" 100 %"), _width) if unknown.any() else short_names
    for place in range(shown):
        left, upper = _GAP + place % columns * step, top + place // columns * answered
        best = int(probabilities[place].argmax())
        _paste(page, queries[place], (left, upper), (width, height), bright_ink)
        if doubtful[place]:
            _dash(draw, (left - 2, upper - 2, left + width + 1, upper + height + 1))
        answer, probability = (
            short_names[best],
            f"{100 * probabilities[place, best]:.0f} %" + (" ?" if doubtful[place] else ""),
        )
        if unknown[place]:
            draw.rectangle((left - 3, upper - 3, left + width + 2, upper + height + 2), outline=_INK, width=3)
            answer, probability = UNKNOWN, f"{nearest[best]} {probability}"
        texts = (short_files[place], answer, probability)
        for line, (text, ink) in enumerate(zip(texts, (_PALE, _INK, _PALE if unknown[place] else _INK), strict=True)):
            draw.text((left, upper + height + 1 + line * _LINE), text, ink, _font())
    content, software = io.BytesIO(), PngInfo()
    for key, value in SOFTWARE.items():
        software.add_text(key, value)
    page.save(content, "PNG", pnginfo=software)
    return content.getvalue()


def _without_extensions(files: Sequence[str]) -> list[str]:
    """The names of files, without extensions except where files differ in nothing else."""
    paths = [Path(file) for file in files]
    of_stem: dict[str, set[str]] = {}
    for path in paths:
        of_stem.setdefault(path.stem, set()).add(path.name)
    return [path.stem if len(of_stem[path.stem]) == 1 else path.name for path in paths]


def uncertain(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which predictions, given their probabilities [N, classes], are uncertain: see `UNCERTAIN`."""
    second, best = np.sort(probabilities, axis=1)[:, -2:].T
    return np.asarray((best < _SURE) | (best - second < _AHEAD))


def shortened(names: Sequence[str], width: float, width_of: Callable[[str], float]) -> list[str]:
    """Shorten names to a width, and keep different names distinct.

    Names that are too long first lose the prefix and suffix that they share, then their middle; names that still look the
    same are numbered.
    """
    long = sorted({name for name in names if width_of(name) > width})
    first = max(0, _in_common(long) - _KEPT)
    last = max(0, _in_common([name[::-1] for name in long]) - _KEPT)

    def short(name: str, room: float) -> str:
        without_head = f"…{name[first:]}" if first else name
        without_both = f"{without_head[: len(without_head) - last]}…" if last and first + last < len(name) else without_head
        fitting = [text for text in (name, without_head, without_both) if width_of(text) <= room]
        return fitting[0] if fitting else _without_middle(without_both, room, width_of)

    found = [short(name, width) for name in names]
    of_text: dict[str, set[str]] = {}
    for name, text in zip(names, found, strict=True):
        of_text.setdefault(text, set()).add(name)
    for place, text in enumerate(found):
        if len(of_text[text]) > 1:
            number = f"{place + 1}: "
            found[place] = number + short(names[place], width - width_of(number))
    return found


def _in_common(names: Sequence[str]) -> int:
    """The length of the prefix that several names share."""
    if len(names) < 2:
        return 0
    return next((at for at, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1), min(map(len, names)))


def _without_middle(text: str, width: float, width_of: Callable[[str], float]) -> str:
    """Keep as much of both ends as fits, and more of the end, where similar names usually differ."""
    for kept in range(len(text) - 1, 0, -1):
        head = kept * 2 // 5
        shorter = f"{text[:head]}…{text[len(text) - (kept - head) :]}"
        if width_of(shorter) <= width:
            return shorter
    return "…"


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
    return ImageFont.truetype(str(FONT), 11)


def _width(text: str) -> float:
    return _font().getlength(text)


def _dash(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    """Draw a dashed frame, which is visible without colour."""
    left, upper, right, lower = box
    for start in range(left, right, 2 * _DASH):
        for level in (upper, lower):
            draw.line((start, level, min(start + _DASH, right), level), _INK, 2)
    for start in range(upper, lower, 2 * _DASH):
        for level in (left, right):
            draw.line((level, start, level, min(start + _DASH, lower)), _INK, 2)
