"""FC100: Oreshkin, Rodriguez, Lacoste 2018, "TADAM: Task dependent adaptive metric for improved few-shot learning".

The classes of CIFAR-100, split by superclass to make test classes unlike training classes: 12, 4 and 4
superclasses.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import Side
from metashot.sources.getting.download import OfficialFile
from metashot.sources.getting.files import Files, Zip
from metashot.sources.images.cifar100 import (
    CIFAR_100,
    CLASSES,
    LICENCE,
    SUPERCLASSES,
    Cifar100,
    PickledImages,
    find_first,
    is_named,
)
from metashot.sources.official import Official

HELD_OUT = {
    "val": ["large_carnivores", "large_omnivores_and_herbivores", "non-insect_invertebrates", "small_mammals"],
    "test": ["aquatic_mammals", "insects", "medium_mammals", "people"],
}
TRAINING = [name for name in SUPERCLASSES if name not in (*HELD_OUT["val"], *HELD_OUT["test"])]
PICKLES = [f"FC100_{split}.pickle" for split in ("train", "val", "test")]


class FC100(Cifar100):
    """Reads the pickles in which FC100 is distributed, or regroups the images of CIFAR-100 in any form.

    Args:
        image_size: height and width of the images.
    """

    name = "fc100"
    official = Official(
        title="FC100 (Fewshot-CIFAR100)",
        home="https://github.com/ElementAI/TADAM",
        licence=LICENCE,
        files=(
            CIFAR_100,
            OfficialFile(
                "FC100.zip",
                "https://drive.usercontent.google.com/download?id=1_ZsLyqI487NRDQhwvI7rg86FK3YAZvz1&export=download&confirm=t",
                None,  # size and checksum are not published
                None,
            ),
        ),
    )

    def __init__(self, image_size: Side) -> None:
        superclasses = {"train": TRAINING, **HELD_OUT}
        classes = {split: " ".join(SUPERCLASSES[n] for n in names).split() for split, names in superclasses.items()}
        super().__init__(image_size, classes, {})

    def files(self, root: Path) -> list[Path]:
        found = _find(root)
        if found is None:
            return super().files(root)
        return [found] if found.is_file() else [found / name for name in PICKLES if (found / name).exists()]

    def open(self, root: Path, scratch: Path) -> Files:
        found = _find(root)
        if found is None:
            return super().open(root, scratch)
        if found.is_dir():
            return FC100Pickles(found, found)
        archive = Zip(found)
        for name in archive.names():
            if Path(name).name in PICKLES:
                (scratch / Path(name).name).write_bytes(archive.read(name))
        return FC100Pickles(found, scratch)


class FC100Pickles(PickledImages):
    """The pickles of FC100: for each split a table of images and their labels in CIFAR-100."""

    def load(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for part in PICKLES:
            for number, (image, label) in enumerate(self.rows(part, (32, 32, 3), "labels")):
                yield f"data/{self.class_of(label, part, CLASSES)}/{part.removesuffix('.pickle')}_{number:05d}.png", image


def _find(root: Path) -> Path | None:
    return find_first(root, (_has_pickles, _is_zip))


def _has_pickles(path: Path) -> bool:
    return any((path / name).is_file() for name in PICKLES)


def _is_zip(path: Path) -> bool:
    return is_named(path, {"fc100.zip"})
