"""A user's own images: class folders, class folders inside train, val and test, or a CSV file."""

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from metashot.arguments import Positive, Seed, Side
from metashot.bad_input import BadInput
from metashot.sources.class_folders import listed, split_folders
from metashot.sources.getting.csv_rows import csv_rows
from metashot.sources.getting.files import LARGEST_FILE, Folder, printable
from metashot.sources.images.decoding import Decoded, Fit, decode
from metashot.sources.images.image_files import ImageFiles, Listing
from metashot.sources.splitting import (
    SPLITS,
    refuse_few_classes,
    refuse_shared_classes,
    shares_of_splits,
    split_called,
    take_from_train,
)

_IMAGES = {
    *("apng", "avif", "avifs", "bmp", "dds", "dib", "gif", "icns", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpf", "jpg"),
    *("jpx", "pbm", "pcx", "pfm", "pgm", "png", "pnm", "ppm", "psd", "qoi", "ras", "sgi", "tga", "tif", "tiff", "webp"),
}
_UNSUPPORTED = {
    *("arw", "cr2", "cr3", "dng", "heic", "heics", "heif", "heifs", "hif", "jxl", "nef", "orf", "raf", "raw", "rw2", "svg"),
}
_CSV = (".csv", ".tsv", ".txt")
_COLUMNS = ("file", "class")  # and "split"
_ALLOWED = "allowed: a folder class/image or train|val|test/class/image, or a .csv file with the columns file,class[,split]"


class _Row(NamedTuple):
    """One image in a CSV file."""

    line: int
    file: str
    label: str
    split: str | None


class OwnImages(ImageFiles):
    """Splits are taken from the folders or the CSV file, or drawn over classes if there are none.

    A missing split is drawn from the classes of train. Unreadable files are left out and counted.

    Args:
        image_size: height and width of the decoded images.
        channels: 1 for grayscale, 3 for RGB.
        fit: how an image of another aspect ratio is fitted to the square.
        shares: the proportions of train, val and test if splits are drawn.
        split_seed: the seed with which splits are drawn.
    """

    name = "folder"
    has_larger_files = True
    skips_unreadable = True

    def __init__(
        self, image_size: Side, channels: Literal[1, 3], fit: Fit, shares: list[Positive], split_seed: Seed
    ) -> None:
        of_splits = shares_of_splits(shares)
        super().__init__(channels, image_size, fit, {"shares": shares, "split_seed": split_seed})
        self.shares = of_splits
        self.split_seed = split_seed

    def known_as(self, name: str, root: Path) -> str:
        """Specific to this folder, since a name such as `1` may mean anything elsewhere; the path is hashed for privacy."""
        folder = (root if root.is_dir() else root.parent).resolve()
        return f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}/{name}"

    def files(self, root: Path) -> Sequence[Path | str]:
        """The folders with images, without a folder of banks beside them, or the CSV file and its images."""
        if os.path.isdir(root):
            names = Folder(root).names()
            tops = sorted({name.partition("/")[0] for name in names if "/" in name and _kind(name) in _IMAGES})
            return [root / top for top in tops] or [root]  # notices that a folder was emptied
        if not os.path.isfile(root):
            return []
        return [root, *(os.path.join(root.parent, row.file) for row in _read_rows(root))]  # creating a Path for each is slow

    def open(self, root: Path, scratch: Path) -> Folder:
        if os.path.isdir(root):
            return Folder(root)
        if not os.path.isfile(root):
            what = "is neither a folder nor a file" if os.path.exists(root) else "does not exist"
            raise BadInput(f"data.root={printable(root)} {what}; {_ALLOWED}")
        return Folder(root.parent)

    def list_images(self, root: Path) -> Listing:
        self.notes = []
        given, is_divided = self._in_folders(root) if os.path.isdir(root) else self._in_csv(root)
        where = f"data.root={printable(root)}"
        refuse_shared_classes(where, given)
        if "train" not in given:
            raise BadInput(f"{where} has images for {' and '.join(given)} and none for train, which is needed")
        self.notes += take_from_train(where, given, self.shares, self.split_seed, is_divided, self._noted())
        refuse_few_classes(where, given)
        return {split: {name: given[split][name] for name in sorted(given[split])} for split in SPLITS}

    def decode_image(self, name: str) -> Decoded:
        return decode(self.opened.read(name), printable(name), self.item_shape, self.fit)

    def _in_folders(self, root: Path) -> tuple[Listing, bool]:
        """The images in class folders, and whether these are in split folders; otherwise all images are in train."""
        assert isinstance(self.opened, Folder)
        names = self.opened.names()
        others = self.opened.others()
        self._say(others, "{} no {} and left out (pipes, sockets or devices)", "is|are", "file|files", thing="image|images")
        images = [name for name in names if _kind(name) in _IMAGES]
        tops = {name.partition("/")[0] for name in images if "/" in name}
        self._say_what_is_unsupported(names)
        others = [name for name in names if _kind(name) not in _IMAGES and _kind(name) not in _UNSUPPORTED]
        beside = [name for name in others if "/" not in name or name.partition("/")[0] in tops]
        self._say(beside, "{} no {} and left out", "is|are", "image|images")
        splits = split_folders(root, images, "images", _ALLOWED)
        above = 2 if splits else 1  # the number of folders above an image
        given: Listing = {}
        loose = []
        for name in images:
            parts = name.split("/", above)
            if len(parts) <= above:
                loose.append(name)
            else:
                classes = given.setdefault(splits.get(parts[0], "train"), {})
                classes.setdefault(printable(parts[above - 1]), []).append(name)
        self._say(loose, "{} in no class folder and {} left out", "lies|lie", "is|are")
        if not given:
            what = "has no images in class folders" if names else "is empty"
            raise BadInput(f"data.root={printable(root)} {what}{self._noted()}; {_ALLOWED}")
        self._say_what_is_empty(given, splits)
        return given, bool(splits)

    def _in_csv(self, root: Path) -> tuple[Listing, bool]:
        """The images in a CSV file, and whether it has splits."""
        rows = _read_rows(root)
        self._say_what_is_unsupported(row.file for row in rows)
        folder = os.path.abspath(root.parent)
        first: dict[str, _Row] = {}
        missing: list[str] = []
        again: list[str] = []
        otherwise: list[str] = []
        for row in rows:
            path = os.path.normpath(os.path.join(folder, row.file))
            before = first.setdefault(path, row)
            if before is not row:
                differs = (before.label, before.split) != (row.label, row.split)
                (otherwise if differs else again).append(f"lines {before.line} and {row.line}: {row.file}")
            elif not os.path.isfile(path):
                missing.append(f"line {row.line}: {path}")
        if missing:
            count = f"{len(missing)} of its files {'is' if len(missing) == 1 else 'are'}"
            raise BadInput(f"{printable(root)}: {count} not there: {listed(missing)}; files are sought beside the CSV file")
        if otherwise:
            raise BadInput(
                f"{printable(root)} gives a file two classes or splits: {listed(otherwise)}; keep one line of each"
            )
        self._say(again, "{} named twice in the CSV file and counted once", "is|are")
        given: Listing = {}
        for path, row in first.items():
            if _kind(row.file) not in _UNSUPPORTED:
                given.setdefault(row.split or "train", {}).setdefault(printable(row.label), []).append(path)
        for classes in given.values():
            for paths in classes.values():
                paths.sort()
        if not given:
            raise BadInput(f"{printable(root)} names no image that can be used{self._noted()}")
        return given, any(row.split for row in rows)

    def _say_what_is_unsupported(self, names: Iterable[str]) -> None:
        unsupported = [name for name in names if _kind(name) in _UNSUPPORTED]
        kinds = ", ".join(sorted({_kind(name).upper() for name in unsupported}))
        self._say(
            unsupported, f"{{}} of a kind that is not supported ({kinds}; convert to JPEG or PNG) and left out", "is|are"
        )

    def _say_what_is_empty(self, given: Listing, splits: Mapping[str, str]) -> None:
        assert isinstance(self.opened, Folder)
        empty = []
        for top in splits or ("",):
            classes = given[splits.get(top, "train")]
            empty += [f"{top}/{name}".lstrip("/") for name in self.opened.folders(top) if printable(name) not in classes]
        self._say(empty, "{} without images and left out", "is|are", thing="folder|folders")

    def _say(self, names: Collection[str], what: str, *forms: str, thing: str = "file|files") -> None:
        """Record a note about some files; each of `forms` is "singular|plural"."""
        if names:
            number = len(names) > 1
            noun, *words = (form.split("|")[number] for form in (thing, *forms))
            self.notes.append(f"{len(names)} {noun} {what.format(*words)}: {listed(names)}")

    def _noted(self) -> str:
        return f" ({'; '.join(self.notes)})" if self.notes else ""


def _kind(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _read_rows(path: Path) -> list[_Row]:
    """The rows of a CSV file with the columns file, class and, optionally, split, in any order and among others."""
    if path.suffix.lower() not in _CSV:
        raise BadInput(f"data.root={printable(path)} is neither a folder nor a .csv file; {_ALLOWED}")
    rows: list[_Row] = []
    wrong: list[str] = []
    columns: list[str] = []
    for line, fields in csv_rows(path, LARGEST_FILE):
        if not columns:
            columns = [field.lower() for field in fields]
            file, label, split = _places(path, columns)
        elif len(fields) != len(columns):
            wrong.append(f"line {line} has {len(fields)} values, the header has {len(columns)}")
        elif not fields[file] or not fields[label]:
            wrong.append(f"line {line} has no {_COLUMNS[bool(fields[file])]}")
        elif split is not None and not split_called(fields[split]):
            wrong.append(f"line {line} has split {fields[split]!r}, allowed: {', '.join(SPLITS)}")
        else:
            rows.append(_Row(line, fields[file], fields[label], None if split is None else split_called(fields[split])))
    if wrong:
        raise BadInput(
            f"{printable(path)} has {len(wrong)} line{'s' if len(wrong) > 1 else ''} that cannot be used: {listed(wrong)}"
        )
    if not rows:
        what = "has a header and no lines below it" if columns else "is empty"
        raise BadInput(f"{printable(path)} {what}; it needs the header file,class[,split] and a line for each image")
    return rows


def _places(path: Path, columns: list[str]) -> tuple[int, int, int | None]:
    """The indices of the columns file, class and split."""
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise BadInput(
            f"{printable(path)} has no column {' and no column '.join(missing)}; its first line has "
            f"{printable(', '.join(columns))}, but has to be a header with file, class and, if wanted, split"
        )
    twice = [name for name in (*_COLUMNS, "split") if columns.count(name) > 1]
    if twice:
        raise BadInput(f"{printable(path)} has two columns {twice[0]}; keep one of them")
    return columns.index("file"), columns.index("class"), columns.index("split") if "split" in columns else None
