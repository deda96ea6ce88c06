"""Omniglot: Lake, Salakhutdinov, Tenenbaum 2015, "Human-level concept learning through probabilistic program induction".

1,623 characters of 50 alphabets, each drawn once by twenty people. As in few-shot papers, images are 28x28 with bright ink,
and the rotations of each character by 90, 180 and 270 degrees can be three further classes.
"""

from pathlib import Path

import numpy as np

from metashot.arguments import Seed, Side
from metashot.bad_input import BadInput
from metashot.sources.getting.download import OfficialFile
from metashot.sources.getting.files import Files, open_files
from metashot.sources.images.image_files import ImageFiles, Listing
from metashot.sources.official import Official, find, find_or_fetch
from metashot.sources.source import Drawn
from metashot.sources.splitting import SPLITS, listed_splits, seeded_order, seeded_splits

HOME = "https://github.com/brendenlake/omniglot"
BACKGROUND, EVALUATION = "images_background", "images_evaluation"
# Usual locations: unpacked by hand, from torchvision, learn2learn or torchmeta, or a clone of the official repository.
FOLDERS = ("omniglot", "", "omniglot-py", "Omniglot", "omniglot/omniglot-py", "omniglot/python", "omniglot/raw", "python")
CHARACTERS = {BACKGROUND: 964, EVALUATION: 659}
DRAWINGS = 20
VINYALS = Path(__file__).parent / "vinyals"  # lists as in the code of Snell et al. 2017
MAML_SPLIT = {"train": 1100, "val": 100, "test": 423}  # characters, as in Finn et al. 2017
VALIDATION_ALPHABETS = 5  # of the thirty background alphabets, for `lake`, which has no validation split
QUARTERS = (0, 90, 180, 270)
FILES = (
    OfficialFile(
        "images_background.zip",
        f"{HOME}/raw/master/python/images_background.zip",
        9_464_212,
        "md5:68d2efa1b9178cc56df9314c21c6e718",
    ),
    OfficialFile(
        "images_evaluation.zip",
        f"{HOME}/raw/master/python/images_evaluation.zip",
        6_462_886,
        "md5:6b91aef0f799c5bb55b94e3f2daec811",
    ),
)


class Omniglot(ImageFiles):
    """Omniglot's characters as classes.

    Args:
        split: `maml` (1,100 / 100 / 423 characters, drawn by seed), `lake`, `vinyals`, or a folder of lists. `lake` tests on
            the evaluation alphabets and validates on five background alphabets, drawn by seed; `vinyals` is the split of
            Vinyals et al. 2016 (1,028 / 172 / 423 characters), where papers count rotated characters as classes everywhere.
        split_seed: the seed of the split.
        rotations: the splits in which a rotated character is a class of its own.
        image_size: height and width of the images.
    """

    name = "omniglot"
    bright_ink = True
    official = Official(
        title="Omniglot",
        home=HOME,
        licence="MIT",
        files=FILES,
    )

    def __init__(self, split: str, split_seed: Seed, rotations: list[str], image_size: Side) -> None:
        unknown = [given for given in rotations if given not in SPLITS]
        if unknown:
            raise BadInput(f"data.source.rotations has {unknown[0]}; allowed: a list of {', '.join(SPLITS)}")
        known = ("maml", "lake", "vinyals")
        self.lists = listed_splits(str(VINYALS) if split == "vinyals" else split, known)
        options = {"split": self.lists or split, "split_seed": split_seed, "rotations": rotations}
        super().__init__(1, image_size, "squash", options)
        self.split = split
        self.split_seed = split_seed
        self.rotations = rotations
        self._turned: tuple[tuple[str, str], Drawn] | None = None

    def known_as(self, name: str, root: Path) -> str:
        """The name of the upright character, whose drawings a rotated one shares: having seen one means having seen both."""
        return f"{self.name}/{name.partition('@')[0]}"

    def files(self, root: Path) -> list[Path]:
        found = [find(root, _places(part)) for part in CHARACTERS]
        return [path for path in found if path is not None]

    def open(self, root: Path, scratch: Path) -> Files:
        assert self.official is not None
        files = zip(CHARACTERS, self.official.files, strict=True)
        paths = {part: find_or_fetch(root, _places(part), file, "omniglot") for part, file in files}
        return Parts({part: open_files(path) for part, path in paths.items()})

    def list_images(self, root: Path) -> Listing:
        characters = self._characters()
        splits = self._splits(characters)
        listing: Listing = {}
        for split, names in splits.items():
            unknown = [name for name in names if name not in characters]
            if unknown:
                raise BadInput(
                    f"data.source.split={self.split}: the {split} list has {unknown[0]}, which Omniglot does not; "
                    "allowed: Alphabet/characterNN"
                )
            turns = QUARTERS if split in self.rotations else (0,)
            listing[split] = {f"{name}@{turn}" if turn else name: characters[name] for name in names for turn in turns}
        return listing

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        """Ink is bright; the rotations of a character follow each other, so its images are decoded once for all four."""
        character, _, turn = list(self.listing[split])[label].partition("@")
        key = (split, f"{character}[{first}:{last}]")
        if self._turned is None or self._turned[0] != key:
            drawn = super().draw(split, label, first, last)
            self._turned = key, Drawn(~drawn.items, drawn.skipped, drawn.remarks)
        upright = self._turned[1]
        return Drawn(np.rot90(upright.items, int(turn or 0) // 90, axes=(2, 3)), upright.skipped, upright.remarks)

    def _characters(self) -> dict[str, list[str]]:
        """The images of each character, by its name `Alphabet/characterNN`."""
        characters: dict[str, list[str]] = {}
        for name in self.opened.names():
            parts = name.split("/")
            if len(parts) > 3 and name.lower().endswith(".png"):
                characters.setdefault("/".join(parts[-3:-1]), []).append(name)
        for part, wanted in CHARACTERS.items():
            found = {n for n, images in characters.items() if images[0].startswith(f"{part}/")}
            images = sum(len(characters[name]) for name in found)
            if (len(found), images) != (wanted, wanted * DRAWINGS):
                raise BadInput(
                    f"{part} of omniglot in {self.opened.path} has {len(found)} characters and {images} images, but "
                    f"{wanted} and {wanted * DRAWINGS} were published: fetch {part}.zip again from {HOME}"
                )
        return dict(sorted(characters.items()))

    def _splits(self, characters: dict[str, list[str]]) -> dict[str, list[str]]:
        if self.lists is not None:
            return self.lists
        if self.split == "maml":
            return seeded_splits(characters, MAML_SPLIT, self.split_seed)
        background = [name for name, images in characters.items() if images[0].startswith(BACKGROUND)]
        alphabets = {name.partition("/")[0] for name in background}
        held_out = seeded_order(alphabets, self.split_seed)[:VALIDATION_ALPHABETS]
        return {
            "train": [name for name in background if name.partition("/")[0] not in held_out],
            "val": [name for name in background if name.partition("/")[0] in held_out],
            "test": [name for name in characters if name not in set(background)],
        }


class Parts:
    """Combines several folders or archives, whose names become the first part of the file names."""

    def __init__(self, parts: dict[str, Files]) -> None:
        self.parts = parts
        self.path = next(iter(parts.values())).path.parent

    def names(self) -> list[str]:
        return [f"{part}/{name}" for part, files in self.parts.items() for name in files.names()]

    def read(self, name: str) -> bytes:
        part, _, inner = name.partition("/")
        return self.parts[part].read(inner)


def _places(part: str) -> list[str]:
    return [str(Path(folder, name)) for folder in FOLDERS for name in (f"{part}.zip", part)]
