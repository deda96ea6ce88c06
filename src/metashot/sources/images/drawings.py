"""Handwritten characters of Omniglot together with printed letters of glyphs, to train a learner of drawings.

Validation and test classes are Omniglot's alone, by alphabet, since its training alphabets have some of the scripts that
glyphs validates and tests on.
"""

from pathlib import Path
from typing import Annotated, Any

from metashot.arguments import AtLeast, AtMost, Seed, Side
from metashot.sources.images.glyphs import Glyphs
from metashot.sources.images.omniglot import FILES, HOME, Omniglot
from metashot.sources.official import Official
from metashot.sources.source import Drawn

TRAIN = "train"


class Drawings(Omniglot):
    """Omniglot's characters, and letters of glyphs as further training classes.

    Args:
        split: as for Omniglot.
        split_seed: as for Omniglot.
        rotations: as for Omniglot.
        image_size: height and width of the images.
        examples: the number of images of each letter.
        rotation: as for glyphs, and likewise below.
        log_scale: as for glyphs.
        shear: as for glyphs.
        displacement: as for glyphs.
        stroke: as for glyphs.
    """

    name = "drawings"
    official = Official("Omniglot, and letters of glyphs", HOME, "MIT", FILES)

    def __init__(
        self,
        split: str,
        split_seed: Seed,
        rotations: list[str],
        image_size: Side,
        examples: Annotated[int, AtLeast(1), AtMost(10_000)],
        rotation: Annotated[float, AtLeast(0), AtMost(1)],
        log_scale: Annotated[float, AtLeast(0), AtMost(0.5)],
        shear: Annotated[float, AtLeast(0), AtMost(1)],
        displacement: Annotated[float, AtLeast(0), AtMost(0.1)],
        stroke: Annotated[float, AtLeast(0), AtMost(0.1)],
    ) -> None:
        super().__init__(split, split_seed, rotations, image_size)
        self.glyphs = Glyphs(image_size, examples, rotation, log_scale, shear, displacement, stroke)

    def identity(self, root: Path) -> dict[str, Any]:
        return {**super().identity(root), "glyphs": self.glyphs.identity(root)}

    def known_as(self, name: str, root: Path) -> str:
        """The name in Omniglot or in glyphs, so that a learner of drawings is known to have seen their classes."""
        kind, _, inner = name.partition(":")
        if kind == Glyphs.name:
            return self.glyphs.known_as(inner, root)
        return f"{Omniglot.name}/{name.partition('@')[0]}"

    def prepare(self, root: Path, scratch: Path) -> None:
        super().prepare(root, scratch)
        self.glyphs.prepare(root, scratch)

    def splits(self) -> dict[str, list[str]]:
        splits = super().splits()
        splits[TRAIN] += [f"{Glyphs.name}:{name}" for name in self.glyphs.splits()[TRAIN]]
        return splits

    def counts(self, split: str) -> list[int]:
        return super().counts(split) + (self.glyphs.counts(TRAIN) if split == TRAIN else [])

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        drawings = len(self.listing[split])
        if label < drawings:
            return super().draw(split, label, first, last)
        return self.glyphs.draw(TRAIN, label - drawings, first, last)
