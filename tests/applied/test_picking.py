"""Without a checkpoint, the images decide between the ready-made learners."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metashot.applied.picking import picked
from metashot.bad_input import BadInput

from .learners import drawings
from .test_photographs import CIFAR, some_of


def support(folder: Path, images: dict[str, list[Image.Image]]) -> str:
    for name, of_class in images.items():
        (folder / name).mkdir(parents=True)
        for place, image in enumerate(of_class):
            image.save(folder / name / f"{place}.png")
    return str(folder)


def drawn(seed: int, count: int = 4) -> list[Image.Image]:
    return [Image.fromarray(255 - pixels) for pixels in drawings(count, seed=seed, side=60)]


def coloured(count: int) -> list[Image.Image]:
    """Smooth random colours, which no pen draws."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC) for pixels in small]


def test_drawings_are_for_drawings_and_photographs_for_photos(tmp_path: Path) -> None:
    of_ink = picked(support(tmp_path / "ink", {"a": drawn(0), "b": drawn(1)}))
    assert (of_ink.name, of_ink.of) == ("drawings", 8)
    assert of_ink.images >= 6
    assert f"{of_ink.images} of 8 support images look like drawings; give ckpt=photos" in str(of_ink)
    of_colours = picked(support(tmp_path / "colours", {"a": coloured(5), "b": drawn(2, 2)}))
    assert (of_colours.name, of_colours.of) == ("photos", 7)
    assert of_colours.images >= 5
    assert f"{of_colours.images} of 7 support images look like photographs; give ckpt=drawings" in str(of_colours)


def test_real_photographs_are_for_photos(tmp_path: Path) -> None:
    found = picked(support(tmp_path, {"a": some_of(CIFAR, "RGB")[:20], "b": some_of(CIFAR, "RGB")[20:40]}))
    assert found.name == "photos"
    assert found.images > 0.75 * found.of


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    folder = Path(support(tmp_path, {"a": drawn(0), "b": drawn(1)}))
    (folder / "a" / "note.txt").write_text("hello")
    assert picked(str(folder)).of == 8
    for file in folder.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"has no image that can be read: .*note.txt"):
        picked(str(folder))


def test_of_many_images_some_are_looked_at(tmp_path: Path) -> None:
    assert picked(support(tmp_path, {"a": drawn(0, 130), "b": drawn(1, 130)})).of == 100


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no class folders"):
        picked(str(tmp_path))
