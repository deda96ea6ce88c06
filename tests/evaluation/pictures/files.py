"""What tests of pictures look at: the file that was written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

# Short, long, with accents, in other scripts, with letters that the font lacks or that run from right to left, and alike.
NAMES = ("fox", "Käse", "ελληνικά", "Кириллица", "字", "🦊", "שלום", "$a$ 100%", "a_class/with a long name of number 7")
NAMES += tuple(f"extraordinarily_long_names_of_number_{number}" for number in range(11))


def written(folder: Path, draw: Callable[[Path], None]) -> NDArray[np.uint8]:
    """The grey pixels [height, width] of a picture that is whole, alone in its folder and of a size that can be read."""
    path = folder / "new" / "picture.png"
    draw(path)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert 300 < image.width < 2400
        assert 150 < image.height < 2000
        pixels = np.array(image.convert("L"))
    assert (pixels < 100).sum() > 100  # something dark is on it
    return pixels


def clear_of_the_edges(pixels: NDArray[np.uint8]) -> bool:
    """Whether nothing runs out of the picture."""
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    return all(bool((edge > 250).all()) for edge in edges)


def words_of(monkeypatch: pytest.MonkeyPatch, draw: Callable[[Path], None], path: Path) -> list[str]:
    """All texts of a picture."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *given, **named: (figures.append(self), save(self, *given, **named)))
    draw(path)
    return [text.get_text() for text in figures[0].findobj(Text)]
