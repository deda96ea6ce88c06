"""Which names the font of the pictures can show: matplotlib and Pillow draw an empty box for a letter that a font lacks."""

import unicodedata
from functools import cache
from pathlib import Path

import matplotlib
from fontTools.ttLib import TTFont

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
_RIGHT_TO_LEFT = ("R", "AL")  # which would be drawn from left to right, and Arabic in letters that do not join


def shown_letters(name: str) -> str | None:
    """The name as the font shows it, or nothing if it cannot."""
    composed = unicodedata.normalize("NFC", name)  # some file systems keep a letter and its accent apart
    if not composed.isprintable() or not composed.strip():
        return None
    return composed if all(_is_shown(letter) for letter in composed) else None


def _is_shown(letter: str) -> bool:
    return ord(letter) in _letters() and unicodedata.bidirectional(letter) not in _RIGHT_TO_LEFT


@cache
def _letters() -> frozenset[int]:
    with TTFont(FONT) as font:
        return frozenset(font.getBestCmap())
