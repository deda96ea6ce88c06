"""CUB: Wah, Branson, Welinder, Perona, Belongie 2011, "The Caltech-UCSD Birds-200-2011 Dataset".

11,788 photographs of 200 bird species, each with a bounding box.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from metashot.arguments import Seed, Side
from metashot.bad_input import BadInput
from metashot.sources.getting.download import OfficialFile
from metashot.sources.getting.files import Folder, printable, unpack_tar
from metashot.sources.images.decoding import Box, Decoded, Fit, Unreadable, decode
from metashot.sources.images.image_files import ImageFiles, Listing
from metashot.sources.official import Official, find, find_or_fetch
from metashot.sources.splitting import listed_splits, seeded_splits

HOME = "https://data.caltech.edu/records/65de6-vp158"
FOLDER, ARCHIVE = "CUB_200_2011", "CUB_200_2011.tgz"
IMAGES, NAMES, LABELS, BOXES = "images.txt", "classes.txt", "image_class_labels.txt", "bounding_boxes.txt"
# Usual locations: unpacked by hand, from torchmeta, learn2learn or the code of Chen et al. 2019.
PARENTS = ("cub", "", "CUB", "cubirds200", "cub200", "CUB_200_2011", "filelists/CUB")
PLACES = (
    *(str(Path(parent, FOLDER, IMAGES)) for parent in PARENTS),
    *(str(Path(parent, IMAGES)) for parent in PARENTS),
    *(str(Path(parent, ARCHIVE)) for parent in PARENTS),
)

Value = TypeVar("Value")


class Cub(ImageFiles):
    """CUB's species as classes.

    Args:
        split: `seeded` (100 / 50 / 50 species, drawn by seed), or a folder of lists of species.
        split_seed: the seed of the split.
        crop_to_box: whether images are first cropped to the bounding box.
        image_size: height and width of the images.
        fit: how an image of another aspect ratio is fitted to the square.
    """

    name = "cub"
    has_larger_files = True
    official = Official(
        title="Caltech-UCSD Birds-200-2011",
        home=HOME,
        licence="none is stated in the archive, whose README asks for a citation",
        files=(
            OfficialFile(
                ARCHIVE,
                f"{HOME}/files/{ARCHIVE}?download=1",
                1_150_585_339,
                "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            ),
        ),
    )
    species, images = 200, 11_788  # as published
    split_sizes: Mapping[str, int] = {"train": 100, "val": 50, "test": 50}  # species, as in Chen et al. 2019

    def __init__(self, split: str, split_seed: Seed, crop_to_box: bool, image_size: Side, fit: Fit) -> None:
        self.lists = listed_splits(split, ("seeded",))
        super().__init__(
            3, image_size, fit, {"split": self.lists or split, "split_seed": split_seed, "crop_to_box": crop_to_box}
        )
        self.split = split
        self.split_seed = split_seed
        self.crop_to_box = crop_to_box
        self.boxes: dict[str, Box] = {}
        self.origin: Path  # the user's folder or archive
        self._lines: dict[str, dict[int, int]] = {}  # file -> number -> line

    def files(self, root: Path) -> list[Path]:
        found = find(root, PLACES)
        if found is None or found.name == ARCHIVE:
            return [] if found is None else [found]
        wanted = [IMAGES, NAMES, LABELS, *([BOXES] if self.crop_to_box else []), "images"]
        return [path for path in (found.parent / name for name in wanted) if path.exists()]

    def open(self, root: Path, scratch: Path) -> Folder:
        assert self.official is not None
        found = find_or_fetch(root, PLACES, self.official.files[0], "cub")
        self.origin = found.parent if found.name == IMAGES else found
        if found.name == ARCHIVE:
            unpack_tar(found, scratch)
            unpacked = find(scratch, PLACES)
            if unpacked is None or unpacked.name != IMAGES:
                raise BadInput(f"{printable(found)} has no {FOLDER}/{IMAGES}; delete it and fetch it again from {HOME}")
            found = unpacked
        return Folder(found.parent)

    def list_images(self, root: Path) -> Listing:
        there = set(self.opened.names())

        def image(text: str) -> str:
            if text.startswith("/") or ".." in text.split("/"):
                raise ValueError(f"{text} leads outside of the folder images")
            if f"images/{text}" not in there:
                raise ValueError(f"images/{text} is not there")
            return f"images/{text}"

        images = self._table(IMAGES, image)
        species = self._table(NAMES, str)
        labels = self._table(LABELS, lambda text: _label(text, species))
        self._compare(LABELS, labels, images)
        if self.crop_to_box:
            boxes = self._table(BOXES, _box)
            self._compare(BOXES, boxes, images)
            self.boxes = {images[number]: box for number, box in boxes.items()}
        if (len(species), len(images)) != (self.species, self.images):
            raise BadInput(
                f"cub in {printable(self.origin)} has {len(species)} species and {len(images)} images, but {self.species} "
                f"and {self.images} were published: fetch {ARCHIVE} again from {HOME}"
            )
        birds: dict[str, list[str]] = {name: [] for name in species.values()}
        for number, name in images.items():
            birds[species[labels[number]]].append(name)
        return {split: {name: birds[name] for name in names} for split, names in self._splits(birds).items()}

    def decode_image(self, name: str) -> Decoded:
        try:
            return decode(self.opened.read(name), name, self.item_shape, self.fit, self.boxes.get(name))
        except Unreadable as error:  # name the archive rather than the temporary folder
            raise BadInput(f"{printable(self.origin)}: {error}; fetch {ARCHIVE} again from {HOME}") from error

    def _splits(self, birds: Mapping[str, object]) -> dict[str, list[str]]:
        if self.lists is None:
            return seeded_splits(birds, self.split_sizes, self.split_seed)
        known = {short: name for name in birds for short in (name.partition(".")[2], name)}
        splits: dict[str, list[str]] = {}
        listed: dict[str, str] = {}
        for split, names in self.lists.items():
            for name in names:
                if name not in known:
                    raise BadInput(
                        f"data.source.split={self.split}: the {split} list has {name}, which {NAMES} of cub does not; "
                        f"allowed: names such as {next(iter(birds))}, with or without the number"
                    )
                if known[name] in listed:
                    raise BadInput(
                        f"data.source.split={self.split}: {known[name]} is listed twice, in {listed[known[name]]} and in "
                        f"{split}; each class may be listed once"
                    )
                listed[known[name]] = split
            splits[split] = [known[name] for name in names]
        return splits

    def _table(self, file: str, read: Callable[[str], Value]) -> dict[int, Value]:
        """The lines of a file by the number at their beginning, parsed with `read`."""
        if not (self.opened.path / file).is_file():
            raise BadInput(f"{printable(self.origin)} has no {file}; fetch {ARCHIVE} again from {HOME}")
        table: dict[int, Value] = {}
        lines = self._lines[file] = {}
        for line, content in enumerate(self.opened.read(file).splitlines(), 1):
            if not content.strip():
                continue
            try:
                given, _, text = content.decode().strip().partition(" ")
                number = _number(given)
                if number in table:
                    raise ValueError(f"the number {number} is on line {lines[number]} already")
                table[number], lines[number] = read(text.strip()), line
            except ValueError as error:  # UnicodeDecodeError is a ValueError
                raise BadInput(
                    f"{printable(self.origin)}: {file}, line {line}: {printable(str(error))}; fetch {ARCHIVE} again from "
                    f"{HOME}"
                ) from error
        return table

    def _compare(self, file: str, table: Mapping[int, object], images: Mapping[int, object]) -> None:
        for number in sorted(images.keys() ^ table.keys()):
            has, has_not = (IMAGES, file) if number in images else (file, IMAGES)
            raise BadInput(
                f"{printable(self.origin)}: {has_not} has no line for image {number}, which {has} has on line "
                f"{self._lines[has][number]}; fetch {ARCHIVE} again from {HOME}"
            )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{text!r} is no number")
    return int(text)


def _label(text: str, species: Mapping[int, str]) -> int:
    label = _number(text)
    if label not in species:
        raise ValueError(f"the label {label} is not among the {len(species)} of {NAMES}")
    return label


def _box(text: str) -> Box:
    try:
        left, top, width, height = map(float, text.split())
    except ValueError:
        width = math.nan
    if not (0 < width < math.inf and 0 < height < math.inf and math.isfinite(left + top)):
        raise ValueError(f"{text!r} is no box: left, top, width and height in pixels")
    return left, top, width, height
