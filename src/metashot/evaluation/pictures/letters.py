"""Which names the pictures' font can draw: matplotlib and Pillow draw an empty box for a letter that the font lacks."""

import unicodedata
from functools import cache
from pathlib import Path

import matplotlib
from fontTools.ttLib import TTFont

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
_RIGHT_TO_LEFT = ("R", "AL")  # would be drawn from left to right, and Arabic letters unjoined


def shown_letters(name: str) -> str | None:
    """The name in the form that the font can draw, or None if it cannot."""
    composed = unicodedata.normalize("NFC", name)  # some file systems store a letter and its accent separately
    if not composed.isprintable() or not composed.strip():
        return None
    return composed if all(_is_shown(letter) for letter in composed) else None


def _is_shown(letter: str) -> bool:
    return ord(letter) in _letters() and unicodedata.bidirectional(letter) not in _RIGHT_TO_LEFT


@cache
def _letters() -> frozenset[int]:
    with TTFont(FONT) as font:
        return frozenset(font.getBestCmap())
