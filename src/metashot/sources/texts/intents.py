"""The base class of published sets of labelled sentences, whose classes and texts are counted."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import Seed
from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.splitting import listed_splits, seeded_splits
from metashot.sources.texts.text_source import Found, Labelled, Texts, in_lists


class Intents(Texts):
    """Sentences whose classes are divided by seed, or by lists.

    Args:
        split: `seeded`, another name that the data set defines, or a folder of lists.
        split_seed: the seed of the split.
        longest: the most characters of a text; longer ones are cut.
        drop_duplicates: whether texts of train that are nearly the same as texts of other splits are left out.
        names: the names of the data set's own splits.
    """

    sizes: ClassVar[Mapping[str, int]]  # classes of each split of split=seeded

    def __init__(
        self, split: str, split_seed: Seed, longest: int, drop_duplicates: bool, names: tuple[str, ...] = ("seeded",)
    ) -> None:
        self.lists = listed_splits(split, names)
        options: dict[str, Any] = {"split": self.lists or split, "split_seed": split_seed}
        super().__init__(longest, drop_duplicates, options)
        self.split = split
        self.split_seed = split_seed

    @abstractmethod
    def read(self, root: Path, scratch: Path) -> Iterator[Labelled]:
        """As in `Texts`; the numbers of classes and texts are checked."""

    def divide(self, root: Path, found: Found, counts: NDArray[np.int64]) -> Found:
        classes = found["train"]
        lists = self.lists or self.own_lists(classes)
        return in_lists(classes, lists, f"data.source.split={self.split}", self.name)

    def own_lists(self, classes: Mapping[str, int]) -> dict[str, list[str]]:
        """The classes of each split of a split that the data set defines."""
        return seeded_splits(classes, self.sizes, self.split_seed)


def refuse_other_count(where: Path, what: str, found: tuple[int, int], published: tuple[int, int], home: str) -> None:
    """Refuse files that do not have the published numbers of classes and texts.

    Args:
        where: the folder or archive.
        what: the file in it.
        found: the numbers of classes and texts that it has.
        published: those that it should have.
        home: where to get it.
    """
    if found != published:
        raise BadInput(
            f"{printable(where)}: {what} has {found[0]:,} classes and {found[1]:,} texts, but {published[0]:,} and "
            f"{published[1]:,} were published: it is not whole or not the official one; fetch it again from {home}"
        )
