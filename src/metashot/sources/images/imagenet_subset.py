"""The common parts of miniImageNet and tieredImageNet: their usual locations, and ImageNet's terms."""

import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from metashot.bad_input import BadInput
from metashot.sources.getting.files import Files, Folder, printable, unpack_tar
from metashot.sources.images.image_files import ImageFiles, Listed, Listing
from metashot.sources.official import refuse_missing_root
from metashot.sources.splitting import SPLITS, check_disjoint, split_called

LICENCE = (
    "the images are ImageNet's, for non-commercial research and education only: "
    "see the terms of access at https://www.image-net.org/download.php"
)
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
_WORDNET = re.compile(r"n\d{8}")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Found:
    """The data set as found on disk, in one of its forms."""

    form: str
    folder: Path
    files: list[Path]  # that the bank depends on


class ImageNetSubset(ImageFiles):
    """A data set with published splits, in one of several forms, found under its usual names.

    A subclass recognises the form of a folder in `find_in`, opens images in `open_found` and downloads them in `fetched`.

    Attributes:
        plain_name: the beginning of the names of its folders and archives, in lower-case letters and digits.
        home_folder: the folder to download it to.
        sizes: the published numbers of classes and images of each split.
    """

    plain_name: ClassVar[str]
    home_folder: ClassVar[str]
    sizes: ClassVar[dict[str, tuple[int, int]]]

    def published(self) -> dict[str, tuple[int, int]]:
        return self.sizes

    def known_as(self, name: str, root: Path) -> str:
        """WordNet identifiers are the same in all subsets of ImageNet; other names are specific to the data set."""
        return f"{'imagenet' if _WORDNET.fullmatch(name) else self.name}/{name}"

    @abstractmethod
    def find_in(self, folder: Path) -> Found | None:
        """Look for the data set directly in a folder.

        Args:
            folder: the folder.

        Returns:
            The data set; None if it is not there.
        """

    @abstractmethod
    def open_found(self, found: Found, scratch: Path, archive: Path | None) -> tuple[Files, Listed]:
        """Open the images and assign them to splits and classes.

        Args:
            found: the data set on disk.
            scratch: a temporary folder.
            archive: the archive that `found.folder` was unpacked from, which messages name instead of the folder.

        Returns:
            The opened files, and the names of the images of each class of each split.
        """

    @abstractmethod
    def fetched(self, folder: Path) -> Found:
        """Download the data set to a folder."""

    def files(self, root: Path) -> list[Path]:
        found = self._find(root)
        return found.files if found else []

    def open(self, root: Path, scratch: Path) -> Files:
        refuse_missing_root(root, self.home_folder)
        found = self._find(root) or self.fetched(root / self.home_folder)
        opened, self.listed = (
            self._open_tar(found, scratch) if found.form == "tar" else self.open_found(found, scratch, None)
        )
        return opened

    def list_images(self, root: Path) -> Listed:
        return self.listed

    def _find(self, root: Path) -> Found | None:
        if not root.is_dir():
            return None
        try:
            folders = list(self._folders(root))
            for folder in folders:
                if found := self.find_in(folder):
                    return found
            tars = [path for folder in folders for path in self.named_so(folder, _TARS)]
        except OSError as error:
            raise BadInput(f"{printable(error.filename or root)} cannot be read: {error.strerror}; see data.root") from error
        return Found("tar", tars[0].parent, tars[:1]) if tars else None

    def _folders(self, folder: Path, depth: int = 2) -> Iterable[Path]:
        """A folder and the folders below it that are named after the data set."""
        yield folder
        if depth:
            for inner in self.named_so(folder):
                yield from self._folders(inner, depth - 1)

    def named_so(self, folder: Path, endings: Sequence[str] = ()) -> list[Path]:
        """The folders in a folder that are named after the data set, or the files if `endings` are given."""
        return [
            path
            for path in sorted(folder.iterdir())
            if "".join(filter(str.isalnum, path.name.lower())).startswith(self.plain_name)
            and (path.is_file() and path.name.lower().endswith(tuple(endings)) if endings else path.is_dir())
        ]

    def _open_tar(self, found: Found, scratch: Path) -> tuple[Files, Listed]:
        (archive,) = found.files
        unpacked = scratch / "unpacked"
        unpacked.mkdir()
        unpack_tar(archive, unpacked)
        folders = [unpacked, *sorted(filter(Path.is_dir, unpacked.iterdir()))]
        inner = next(filter(None, map(self.find_in, folders)), None)
        if inner is None:
            raise BadInput(
                f"{printable(archive)} does not hold {self.name} in a known form; fetch it again, or unpack it by hand"
            )
        try:
            return self.open_found(inner, scratch, archive)
        except BadInput as error:  # the name of a temporary folder means nothing to the user
            raise BadInput(str(error).replace(str(inner.folder), str(archive))) from error


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders train, val and test in a folder if all three exist and contain folders; else empty."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        split = split_called(path.name)
        if split and path.is_dir() and any(map(Path.is_dir, path.iterdir())):
            found.setdefault(split, path)
    return found if found.keys() == set(SPLITS) else {}


def in_class_folders(folder: Path, splits: dict[str, Path]) -> Listing:
    """The images in the class folders of each split folder."""
    for path in splits.values():
        for name in Folder(path).folders():
            if next((path / name).iterdir(), None) is None:
                raise BadInput(f"{printable(path / name)} is an empty class folder: fetch its images again, or remove it")
    names = (f"{path.name}/{name}" for path in splits.values() for name in Folder(path).names())
    return by_class(names, str(folder))


def by_class(names: Iterable[str], where: str) -> Listing:
    """The images among these names by split and class, taken from names such as `.../train/<class>/<image>`."""
    listing: Listing = {split: {} for split in SPLITS}
    for name in names:
        *_, folder, label, image = ("", "", *name.split("/"))
        split = split_called(folder)
        if split and image.lower().endswith(_IMAGES):
            listing[split].setdefault(printable(label), []).append(name)
    check_disjoint({split: list(classes) for split, classes in listing.items()}, where)
    return {split: dict(sorted(classes.items())) for split, classes in listing.items()}


def as_text(name: Any) -> str:
    """A name in a pickle, which Python 2 may have written as bytes."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def refuse(path: Path, reason: str) -> NoReturn:
    raise BadInput(f"{printable(path)} is not the official file: {reason}; fetch it again")
