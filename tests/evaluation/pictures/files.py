"""What tests of pictures look at: the file that was written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


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
