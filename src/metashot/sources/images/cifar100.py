"""CIFAR-100's images in their usual forms: a folder or zip of PNG files, as in CIFAR-FS, or the original pickles.

CIFAR-100: Krizhevsky 2009, "Learning multiple layers of features from tiny images": 100 classes of 20 superclasses, 600
images each, 32x32 RGB. CIFAR-FS and FC100 are two ways to split its classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metashot.bad_input import BadInput
from metashot.sources.getting.download import OfficialFile
from metashot.sources.getting.files import Files, open_files, printable, unpack_tar
from metashot.sources.getting.pickles import read_pickle
from metashot.sources.images.image_files import ImageFiles, Listing
from metashot.sources.images.packed_images import as_image_file
from metashot.sources.official import find_or_fetch

SUPERCLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
CLASSES = sorted(" ".join(SUPERCLASSES.values()).split())  # in the order of the labels

LICENCE = "none stated; the home of CIFAR-100 asks that Krizhevsky 2009 be cited"
CIFAR_100 = OfficialFile(
    "cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    169_001_437,
    "md5:eb9058c3a382ffc7106e4002c42a8d85",
)

_PICKLES = ("train", "test", "meta")
# The names, as returned by `plain_name`, of folders with images and of archives of the two forms.
_FOLDERS = {"cifarfs", "cifar100", "cifar100python", "fc100", "cifar"}
_ZIPS = {"cifarfs.zip", "cifar100.zip"}
_TARS = {"cifar100python.tar.gz", "cifar100python.tgz", "cifar100python.tar"}


class Cifar100(ImageFiles):
    """A data set of CIFAR-100's images.

    Args:
        image_size: height and width of the images.
        classes: the classes of each split.
        options: all other settings that determine the images, for `identity`.
    """

    images_of_a_class: ClassVar[int] = 600

    def __init__(self, image_size: int, classes: dict[str, list[str]], options: dict[str, Any]) -> None:
        super().__init__(3, image_size, "squash", options)
        self.classes = classes

    def known_as(self, name: str, root: Path) -> str:
        return f"cifar100/{name}"  # CIFAR-FS and FC100 have the same classes

    def files(self, root: Path) -> list[Path]:
        found = _find(root)
        if found is None or found.is_file():
            return [found] if found else []
        # Other content of the folder, such as the bank itself, is ignored.
        parts = ("data", "splits") if _has_class_folders(found) else _PICKLES
        return [found / part for part in parts if (found / part).exists()]

    def open(self, root: Path, scratch: Path) -> Files:
        found = _find(root) or find_or_fetch(root, (), CIFAR_100, "cifar100")
        if _is_tar(found):
            unpack_tar(found, scratch)
            for folder in (scratch, *filter(Path.is_dir, scratch.iterdir())):
                if _has_pickles(folder):
                    return CifarPickles(found, folder)
            raise BadInput(f"{printable(found)} is not CIFAR-100's archive: it lacks {', '.join(_PICKLES)}; fetch it again")
        return open_files(found) if _is_zip(found) or _has_class_folders(found) else CifarPickles(found, found)

    def published(self) -> dict[str, tuple[int, int]]:
        return {split: (len(names), len(names) * self.images_of_a_class) for split, names in self.classes.items()}

    def splits_of_files(self) -> dict[str, list[str]]:
        """The classes of each split, which may be listed in the opened files."""
        return self.classes

    def list_images(self, root: Path) -> Listing:
        found: dict[str, list[str]] = {}
        for name in self.opened.names():
            parts = name.split("/")
            if len(parts) > 2 and parts[-3] == "data" and name.lower().endswith(".png"):
                found.setdefault(parts[-2], []).append(name)
        splits = self.splits_of_files()
        for split, names in splits.items():
            absent = [name for name in names if name not in found]
            if absent:
                raise BadInput(
                    f"{printable(self.opened.path)} has no images data/{absent[0]}/*.png, and the {split} split of "
                    f"{self.name} has that class ({len(absent)} of its {len(names)} classes are missing): "
                    "fetch the archive again, or correct the list"
                )
        return {split: {name: found[name] for name in names} for split, names in splits.items()}


class PickledImages(ABC):
    """Images in pickles, presented as the files `data/<class>/<image>.png` of CIFAR-FS.

    Args:
        path: the user's folder or archive, for messages.
        folder: the folder of the pickles, which differs from `path` if they were unpacked.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.folder)  # each process maps the pickles itself

    def names(self) -> list[str]:
        return sorted(self._images)

    def read(self, name: str) -> bytes:
        image = self._images[name]
        return as_image_file(image.tobytes(), *image.shape[:2])

    @abstractmethod
    def load(self) -> Iterable[tuple[str, NDArray[np.uint8]]]:
        """The name and the pixels [height, width, channels] of each image."""

    def rows(self, part: str, layout: tuple[int, ...], *columns: str) -> Iterator[tuple[Any, ...]]:
        """Read the rows of a table in a pickle.

        Args:
            part: the name of the pickle.
            layout: the shape of one row of the column `data`.
            *columns: the names of further columns.

        Returns:
            For each row its entry in `data` and in the further columns.

        Raises:
            BadInput: if the pickle does not have this form.
        """
        table = self.pickle(part)
        lacking = [key for key in ("data", *columns) if key not in table]
        if lacking:
            raise self.not_official(part, f"it has no {lacking[0]!r}")
        data, others = table["data"], [table[column] for column in columns]
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != layout:
            raise self.not_official(
                part, f"its 'data' is no array of bytes of shape (images, {str(layout)[1:].rstrip(',)')})"
            )
        if not all(isinstance(column, list | np.ndarray) and len(column) == len(data) for column in others):
            raise self.not_official(part, f"it has {len(data)} images and not as many {' and '.join(columns)}")
        return zip(data, *others, strict=True)

    def pickle(self, part: str) -> dict[str, Any]:
        try:
            table = read_pickle(self.folder / part)
        except BadInput as error:  # the name of a temporary folder means nothing to the user
            raise BadInput(str(error).replace(str(self.folder), str(self.path))) from error
        if not isinstance(table, dict):
            raise self.not_official(part, f"it holds a {type(table).__name__}, not a dict")
        return table

    def class_of(self, label: Any, part: str, names: list[str]) -> str:
        if not isinstance(label, int | np.integer) or not 0 <= label < len(names):
            raise self.not_official(part, f"it has the label {label!r:.50}; allowed: 0 to {len(names) - 1}")
        return names[label]

    def not_official(self, part: str, reason: str) -> BadInput:
        return BadInput(f"{printable(self.path / part)} is not the official pickle: {reason}; fetch it again")

    @cached_property
    def _images(self) -> dict[str, NDArray[np.uint8]]:
        return dict(self.load())


class CifarPickles(PickledImages):
    """CIFAR-100's original pickles; images have the same names, and so the same order, as in CIFAR-FS."""

    def load(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        names = self.pickle("meta").get("fine_label_names")
        if not isinstance(names, list) or sorted(map(str, names)) != CLASSES:
            raise self.not_official("meta", "its 'fine_label_names' are not the 100 classes")
        for part in ("train", "test"):
            for row, label, name in self.rows(part, (3 * 32 * 32,), "fine_labels", "filenames"):
                yield f"data/{self.class_of(label, part, names)}/{name}", row.reshape(3, 32, 32).transpose(1, 2, 0)


def known_folders(root: Path, depth: int = 2) -> Iterator[Path]:
    """The folder itself and the folders below it that have one of the usual names."""
    yield root
    if depth:
        for path in sorted(root.iterdir()):
            if plain_name(path) in _FOLDERS and path.is_dir():
                yield from known_folders(path, depth - 1)


def find_first(root: Path, kinds: Iterable[Callable[[Path], bool]]) -> Path | None:
    """Find a file or folder in the known folders.

    Args:
        root: the folder of data sets.
        kinds: tests of a path, in the order of preference.

    Returns:
        The first path that passes the first test that any path passes; None if no path passes any.

    Raises:
        BadInput: if a folder cannot be read.
    """
    try:
        if not root.is_dir():
            return None
        folders = list(known_folders(root))
        files = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()]
        return next((path for is_wanted in kinds for path in (*folders, *files) if is_wanted(path)), None)
    except OSError as error:
        raise BadInput(f"{printable(error.filename or root)} cannot be read: {error.strerror}; see data.root") from error


def is_named(path: Path, names: Collection[str]) -> bool:
    return path.is_file() and plain_name(path) in names


def plain_name(path: Path) -> str:
    """A file name in lower case, without hyphens and underscores."""
    return path.name.lower().replace("-", "").replace("_", "")


def _find(root: Path) -> Path | None:
    return find_first(root, (_is_zip, _has_class_folders, _has_pickles, _is_tar))


def _is_zip(path: Path) -> bool:
    return is_named(path, _ZIPS)


def _is_tar(path: Path) -> bool:
    return is_named(path, _TARS)


def _has_class_folders(path: Path) -> bool:
    return (path / "data").is_dir() and any((path / "data" / name).is_dir() for name in CLASSES)


def _has_pickles(path: Path) -> bool:
    return all((path / part).is_file() for part in _PICKLES)
