"""miniImageNet: Vinyals et al. 2016, "Matching networks for one shot learning", as Ravi and Larochelle 2017 split it.

100 classes of ImageNet, 600 images each, 84x84 RGB: 64 classes for training, 16 for validation, 20 for testing.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import Side
from metashot.bad_input import BadInput
from metashot.sources.getting.download import OfficialFile, download
from metashot.sources.getting.files import Files, Folder, open_files, printable
from metashot.sources.getting.pickles import read_pickle
from metashot.sources.images.image_files import Listed, Listing
from metashot.sources.images.imagenet_subset import (
    LICENCE,
    Found,
    ImageNetSubset,
    as_text,
    by_class,
    in_class_folders,
    refuse,
    split_folders,
)
from metashot.sources.images.packed_images import Numbered, Pack, PackedImages, Packing, Place, by_label
from metashot.sources.official import Official
from metashot.sources.splitting import SPLITS, check_disjoint

MIRROR = "https://zenodo.org/record/7978538/files"
LISTS = "https://raw.githubusercontent.com/twitter/meta-learning-lstm/master/data/miniImagenet"
CACHE, PHASES = "cache", "phases"
# The names of each split's pickle: those of Ren et al. and of the mirror; those of Gidaris and Komodakis, whose other
# pickles of the training phase contain further images of the training classes.
PICKLES: dict[str, dict[str, tuple[str, ...]]] = {
    CACHE: {
        "train": ("mini-imagenet-cache-train.pkl",),
        "val": ("mini-imagenet-cache-val.pkl", "mini-imagenet-cache-validation.pkl"),
        "test": ("mini-imagenet-cache-test.pkl",),
    },
    PHASES: {
        "train": ("miniImageNet_category_split_train_phase_train.pickle",),
        "val": ("miniImageNet_category_split_val.pickle",),
        "test": ("miniImageNet_category_split_test.pickle",),
    },
}
COLUMNS = ("filename", "label")


class _Row(NamedTuple):
    """One image in a list."""

    where: str
    file: str
    label: str


class _Pixels(NamedTuple):
    """Stands for an array of images by its position in the file."""

    place: Place
    shape: tuple[int, ...]


class MiniImageNet(ImageNetSubset):
    """Reads pickles, `images` (a folder or zip) with Ravi and Larochelle's lists, or folders train|val|test/class/image.

    Args:
        image_size: height and width of the images.
    """

    name = "miniimagenet"
    plain_name = "miniimagenet"
    home_folder = "mini-imagenet"
    sizes: ClassVar = {"train": (64, 38_400), "val": (16, 9_600), "test": (20, 12_000)}
    official = Official(
        title="miniImageNet",
        home="https://github.com/renmengye/few-shot-ssl-public",
        licence=LICENCE,
        files=(
            # Learn2learn's mirror of the pickles of Ren et al., whose own archive comes last.
            OfficialFile(
                "mini-imagenet-cache-train.pkl",
                f"{MIRROR}/mini-imagenet-cache-train.pkl",
                1_145_461_190,
                "md5:ee4e80dc7b716f3ceec891d199b5277a",
            ),
            OfficialFile(
                "mini-imagenet-cache-validation.pkl",
                f"{MIRROR}/mini-imagenet-cache-validation.pkl",
                292_661_258,
                "md5:c1145a80890b88d54a67d6e0022d53a5",
            ),
            OfficialFile(
                "mini-imagenet-cache-test.pkl",
                f"{MIRROR}/mini-imagenet-cache-test.pkl",
                353_647_539,
                "md5:389b6c59d348b2e1ae9610f00a5e6724",
            ),
            OfficialFile(
                "train.csv",
                f"{LISTS}/train.csv",
                1_228_815,
                "sha256:498519cd8e49ce97ed26a4a3638966698ae41ab35e9c68538319fc9b46ba7d2f",
            ),
            OfficialFile(
                "val.csv",
                f"{LISTS}/val.csv",
                307_215,
                "sha256:5658a59921ca027ee76af92949869c5d6f41d77592ff3b18db325a9d10c893b9",
            ),
            OfficialFile(
                "test.csv",
                f"{LISTS}/test.csv",
                384_015,
                "sha256:2b7cfa78342995761a572a8158e539bc4e0a80f9bbd7d00c1e17a460fbbb93fa",
            ),
            OfficialFile(
                "mini-imagenet.tar.gz",
                "https://drive.usercontent.google.com/download?id=16V_ZlkW4SsnNDtnGmaBRq2OoPmUOc5mY&export=download&confirm=t",
                None,
                "md5:b38f1eb4251fb9459ecc8e7febf9b2eb",
            ),
        ),
    )

    def __init__(self, image_size: Side) -> None:
        super().__init__(3, image_size, "squash", {})

    def find_in(self, folder: Path) -> Found | None:
        for form, names in PICKLES.items():
            pickles = [path for split in SPLITS if (path := _first(folder, names[split]))]
            if pickles:
                return Found(form, folder, pickles)
        splits = split_folders(folder)
        for images in (folder / "images", folder / "images.zip", *self.named_so(folder, (".zip",))):
            lists = [path for split in SPLITS if (path := _list_beside(folder, split))]
            if images.is_file() or (images.is_dir() and (lists or (_has_images(images) and not splits))):
                return Found("images", folder, [images, *lists])
        return Found("folders", folder, list(splits.values())) if splits else None

    def fetched(self, folder: Path) -> Found:
        return Found(CACHE, folder, [download(self._official(PICKLES[CACHE][split]), folder) for split in SPLITS])

    def open_found(self, found: Found, scratch: Path, archive: Path | None) -> tuple[Files, Listed]:
        if found.form == "folders":
            return Folder(found.folder), in_class_folders(found.folder, split_folders(found.folder))
        if found.form == "images":
            return self._open_images(found, archive)
        packs: dict[str, Pack] = {}
        listed: dict[str, dict[str, Numbered]] = {}
        for split, names in PICKLES[found.form].items():
            path = _first(found.folder, names) or self._missing(found, names, archive)
            packs[path.name], classes = _packed(path, scratch, found.form)
            listed[split] = {name: Numbered(path.name, numbers) for name, numbers in classes.items()}
        if found.form == CACHE:
            check_disjoint({split: list(classes) for split, classes in listed.items()}, printable(found.folder))
        return PackedImages(archive or found.folder, packs), listed

    def _open_images(self, found: Found, archive: Path | None) -> tuple[Files, Listing]:
        files = open_files(found.files[0])
        names = files.names()
        inside = {split: next((n for n in names if f"/{n}".endswith(f"/{split}.csv")), None) for split in SPLITS}
        if len(found.files) == 1 and not any(inside.values()):
            listing = by_class(names, printable(files.path))
            if any(listing.values()):
                return files, listing
        rows: dict[str, list[_Row]] = {}
        for split in SPLITS:
            name, path = inside[split], _list_beside(found.folder, split)
            if name is not None and path is None:
                rows[split] = list(_rows(files.read(name), f"{printable(files.path)}: {name}"))
            else:
                path = path or self._missing(found, (f"{split}.csv",), archive)
                rows[split] = list(_rows(path.read_bytes(), printable(path)))
        return files, _as_listed(names, rows, printable(files.path))

    def _missing(self, found: Found, names: tuple[str, ...], archive: Path | None) -> Path:
        """Download a missing file if it is published separately; otherwise raise `BadInput`."""
        if archive is None and found.form != PHASES:
            return download(self._official(names), found.folder)
        others = ", ".join(path.name for path in found.files)
        raise BadInput(
            f"{' or '.join(names)} is not in {printable(found.folder)}, where there is {others}; it is needed too: put it "
            "there"
        )

    def _official(self, names: tuple[str, ...]) -> OfficialFile:
        assert self.official is not None
        return next(file for file in self.official.files if file.name in names)


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _list_beside(folder: Path, split: str) -> Path | None:
    """The list of a split beside the folder of images, in it, or one level up."""
    return _first(folder, (f"{split}.csv", f"images/{split}.csv")) or _first(folder.parent, (f"{split}.csv",))


def _has_images(folder: Path) -> bool:
    """Whether a folder called `images` belongs to this data set: its file names begin with a class of ImageNet."""
    first = next(folder.iterdir(), None)
    return first is not None and re.match(r"n\d{8}", first.name) is not None


def _packed(path: Path, scratch: Path, form: str) -> tuple[Pack, dict[str, NDArray[np.int32]]]:
    """The images of a pickle, and the indices of the images of each class."""
    packing = Packing(path, scratch)

    def take(array: NDArray[Any], start: int | None) -> Any:
        is_images = array.dtype == np.uint8 and array.ndim == 4
        return _Pixels(packing.place(array, start), array.shape) if is_images else array

    content = read_pickle(path, take)
    if not isinstance(content, dict):
        refuse(path, f"it holds a {type(content).__name__}, not a dict")
    content = {as_text(key): value for key, value in content.items()}
    key, other = ("image_data", "class_dict") if form == CACHE else ("data", "labels")
    pixels = content.get(key)
    if not isinstance(pixels, _Pixels) or pixels.shape[3] != 3:
        refuse(path, f"it has no {key!r}, an array of bytes of shape (images, height, width, 3)")
    count, height, width = pixels.shape[:3]
    classes = (
        _numbers_of_classes(path, content.get(other)) if form == CACHE else _numbers_of_labels(path, content.get(other))
    )
    numbers = np.concatenate([np.empty(0, np.int64), *classes.values()])
    if not np.array_equal(np.sort(numbers), np.arange(count)):
        raise BadInput(
            f"{printable(path)}: its {other!r} and its images do not belong together: it has {count} images, and "
            f"{len(numbers)} are given a class, {len(np.unique(numbers))} of them different; fetch it again"
        )
    return packing.pixels(pixels.place, count, height, width), classes


def _numbers_of_classes(path: Path, given: Any) -> dict[str, NDArray[np.int32]]:
    if not isinstance(given, dict) or not all(_is_row_of_numbers(numbers) for numbers in given.values()):
        refuse(path, "it has no 'class_dict', the numbers of the images of each class")
    named = {as_text(name): np.asarray(numbers, np.int32) for name, numbers in given.items()}
    return dict(sorted(named.items()))


def _numbers_of_labels(path: Path, given: Any) -> dict[str, NDArray[np.int32]]:
    if not _is_row_of_numbers(given):
        refuse(path, "it has no 'labels', a whole number for each image")
    return {str(label): numbers for label, numbers in by_label(np.asarray(given, np.int64)).items()}


def _is_row_of_numbers(given: Any) -> bool:
    return isinstance(given, list | np.ndarray) and all(
        isinstance(n, int | np.integer) and abs(int(n)) < 2**31 for n in given
    )


def _rows(content: bytes, where: str) -> Iterator[_Row]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not UTF-8 text ({error}); fetch it again") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or ()]
        for column in COLUMNS:
            if column not in columns:
                raise BadInput(
                    f"{where} has no column {column}: it has {', '.join(map(repr, columns)) or 'none'}, and those of Ravi "
                    f"and Larochelle have {', '.join(COLUMNS)}: {LISTS}"
                )
        reader.fieldnames = columns
        for row in reader:
            file, label = (row[column] for column in COLUMNS)
            if not file or not label:
                raise BadInput(f"{where}, line {reader.line_num}: it has no {'filename' if not file else 'label'}")
            yield _Row(f"{where}, line {reader.line_num}", file.strip(), label.strip())
    except csv.Error as error:
        raise BadInput(f"{where}, line {reader.line_num}: it is no CSV file ({error}); fetch it again") from error


def _as_listed(names: list[str], rows: dict[str, list[_Row]], images: str) -> Listing:
    """The images by split and class, according to the lists."""
    places: dict[str, list[str]] = {}
    for name in names:
        places.setdefault(name.rpartition("/")[2], []).append(name)
    listing: Listing = {}
    taken: dict[str, _Row] = {}
    for split, listed in rows.items():
        classes: dict[str, list[str]] = {}
        for row in listed:
            name = _place(places.get(row.file.rpartition("/")[2], []), row, images)
            before = taken.setdefault(name, row)
            if before is not row:
                raise BadInput(
                    f"{row.where}: {printable(row.file)} is listed before, at {before.where}; remove one of the lines"
                )
            classes.setdefault(printable(row.label), []).append(name)
        listing[split] = dict(sorted(classes.items()))
    check_disjoint({split: list(classes) for split, classes in listing.items()}, images)
    return listing


def _place(candidates: list[str], row: _Row, images: str) -> str:
    """The file that a row refers to; class folders may contain several files of the same name."""
    file = row.file.removeprefix("images/")
    exact = [name for name in candidates if f"/{name}".endswith(f"/{row.label}/{file}")]
    exact = exact or [name for name in candidates if f"/{name}".endswith(f"/{file}")]
    if not exact:
        raise BadInput(f"{row.where}: {printable(row.file)} is not in {images}: fetch the images again, or correct the list")
    if len(exact) > 1:
        raise BadInput(
            f"{row.where}: {printable(row.file)} is in {images} more than once: {printable(', '.join(exact))}; keep one"
        )
    return exact[0]
