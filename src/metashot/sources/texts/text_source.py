"""The base class of data sets of texts, which keeps them as code points and looks for near duplicates across splits."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import AtLeast, AtMost
from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.official import Official
from metashot.sources.source import TOKENS, DataSource, Drawn
from metashot.sources.splitting import SPLITS, refuse_few_classes
from metashot.sources.texts.code_points import PADDING, code_points
from metashot.sources.texts.near_duplicates import near_duplicates
from metashot.sources.texts.text_store import TextStore, texts_at

Longest = Annotated[int, AtLeast(1), AtMost(2**20)]  # characters
_NAMED = 3  # pairs of near duplicates that a note names
_QUOTED = 50  # characters of a text that a note quotes
_PLACE_BYTES = 16  # of the place of a text, two numbers of eight bytes


class Labelled(NamedTuple):
    """A text as a file has it."""

    label: str
    text: str
    place: int | str  # the line or the file it comes from, for notes
    split: str | None = None  # as the file says


Found = dict[
    str, dict[str, int]
]  # split -> class -> number of the class; everything is in train if the files have no splits


class Texts(DataSource, ABC):
    """A data source whose items are the code points of texts.

    A subclass yields its texts in `read` and assigns their classes to splits in `divide`.

    Args:
        longest: the most characters of a text; longer ones are cut.
        drop_duplicates: whether texts of train that are nearly the same as texts of other splits are left out.
        options: all other settings that determine the texts, for `identity`.
    """

    name: str
    official: ClassVar[Official | None] = None
    presented_as: ClassVar[str] = TOKENS
    dtype: ClassVar[str] = "int32"
    code = 1  # incremented whenever the code of a data set would read other texts from the same files

    def __init__(self, longest: int, drop_duplicates: bool, options: dict[str, Any]) -> None:
        self.longest = longest
        self.drop_duplicates = drop_duplicates
        self.options = options
        self.notes: list[str] = []
        self.listing: dict[str, dict[str, range]] = {}  # the ordered texts of each class of each split
        self._length: int | None = None  # of the longest text
        self._texts: Path  # the file of all texts
        self._places: Path  # the place of each text in it, ordered by split and class

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        return None if self._length is None else (self._length,)

    def identity(self, root: Path) -> dict[str, Any]:
        options = {"longest": self.longest, "drop_duplicates": self.drop_duplicates, **self.options}
        return {"root": str(root.resolve()), "code": self.code, **options}

    def known_as(self, name: str, root: Path) -> str:
        return f"{self.name}/{name}"

    @abstractmethod
    def files(self, root: Path) -> Sequence[Path | str]:
        """Find the files and folders that the texts come from.

        Args:
            root: `data.root`, the folder of data sets or the user's own data.

        Returns:
            The existing ones.
        """

    @abstractmethod
    def read(self, root: Path, scratch: Path) -> Iterator[Labelled]:
        """Find the files, or download or unpack them, and read the texts.

        Args:
            root: `data.root`, the folder of data sets or the user's own data.
            scratch: an empty temporary folder, for example to unpack an archive into.

        Yields:
            The texts.

        Raises:
            BadInput: if the files are missing or cannot be used.
        """

    @abstractmethod
    def divide(self, root: Path, found: Found, counts: NDArray[np.int64]) -> Found:
        """Assign classes to splits.

        Args:
            root: `data.root`, the folder of data sets or the user's own data.
            found: the classes that the files have.
            counts: how many texts each class has, by its number.

        Returns:
            The classes of all splits; others are left out.

        Raises:
            BadInput: if they cannot be divided.
        """

    def prepare(self, root: Path, scratch: Path) -> None:
        self.notes = []
        unpacked = scratch / "unpacked"
        unpacked.mkdir(exist_ok=True)
        store = TextStore(scratch / "texts", self.longest)
        found: Found = {}
        empty = 0
        first_empty: int | str = 0
        number = 0
        for text in self.read(root, unpacked):
            classes = found.setdefault(text.split or "train", {})
            label = classes.setdefault(text.label, number)
            number += label == number
            if not store.add(label, text.text):
                empty, first_empty = empty + 1, first_empty or text.place
        store.close()
        if empty:
            place = f"line {first_empty}" if isinstance(first_empty, int) else printable(first_empty)
            are = "text is" if empty == 1 else "texts are"
            self.notes.append(f"{empty:,} {are} empty and left out, first: {place}")
        counts = np.bincount(store.labels, minlength=number)
        found = {
            split: {name: label for name, label in classes.items() if counts[label]} for split, classes in found.items()
        }
        if not counts.sum():
            raise BadInput(f"data.root={printable(root)} has no texts; nothing but empty ones was found")
        given = self.divide(root, {split: classes for split, classes in found.items() if classes}, counts)
        self._order(store, given, scratch)

    def _order(self, store: TextStore, given: Found, scratch: Path) -> None:
        """Order the texts by split and class, and write where each one is."""
        names = {split: sorted(given[split]) for split in SPLITS}
        numbers = [given[split][name] for split in SPLITS for name in names[split]]
        rank = np.full(int(store.labels.max()) + 1, -1, np.int64)
        rank[numbers] = np.arange(len(numbers))
        ranks = rank[store.labels]  # [N]
        split_of = np.repeat(np.arange(len(SPLITS), dtype=np.int8), [len(names[split]) for split in SPLITS])
        splits = np.where(ranks >= 0, split_of[ranks], np.int8(-1))  # [N]
        shown = [f"{name}, {split}" for split in SPLITS for name in names[split]]
        dropped = self._look_for_duplicates(store, splits, ranks, shown)
        ranks[dropped] = -1
        order = np.argsort(ranks, kind="stable")
        order = order[ranks[order] >= 0]
        counts = np.bincount(ranks[order], minlength=len(numbers))
        ends = np.cumsum(counts)
        self.listing, first = {}, 0
        for split in SPLITS:
            last = first + len(names[split])
            of_classes = zip(names[split], (ends - counts)[first:last].tolist(), ends[first:last].tolist(), strict=True)
            self.listing[split] = {name: range(start, end) for name, start, end in of_classes if end > start}
            first = last
        if lost := [name for name in names["train"] if name not in self.listing["train"]]:
            self.notes.append(f"{len(lost):,} classes of train have no other texts and are left out, first: {lost[0]}")
        if len(self.listing["train"]) < 2:
            raise BadInput(f"data.source.drop_duplicates leaves fewer than 2 classes in the train split of {self.name}")
        self._length = int(min(self.longest, store.characters[order].max()))
        cut = int((store.characters[order] > self.longest).sum())
        if cut:
            has = "text has" if cut == 1 else "texts have"
            self.notes.append(
                f"{cut:,} of {len(order):,} {has} more than {self.longest:,} characters and were cut there "
                "(data.source.longest)"
            )
        self._texts, self._places = store.path, scratch / "places"
        store.places(order).tofile(self._places)

    def _look_for_duplicates(
        self, store: TextStore, splits: NDArray[np.int8], ranks: NDArray[np.int64], shown: Sequence[str]
    ) -> NDArray[np.int64]:
        """Note near duplicates across splits. Returns the texts to leave out."""
        partners = near_duplicates(store.texts, splits, len(SPLITS), self.longest)
        train, val, test = range(len(SPLITS))
        of_train = np.flatnonzero((splits == train) & (partners[:, [val, test]] >= 0).any(1))
        of_val = np.flatnonzero((splits == val) & (partners[:, test] >= 0))
        for rows, split, others in ((of_train, "train", "val or test"), (of_val, "val", "test")):
            if not len(rows):
                continue
            pairs = []
            for row in rows[:_NAMED]:
                partner = partners[row, test] if partners[row, test] >= 0 else partners[row, val]
                texts = store.texts(np.array([row, partner]))
                pairs.append(
                    " and ".join(f"{_quoted(t)} ({shown[ranks[r]]})" for t, r in zip(texts, (row, partner), strict=True))
                )
            many = "text of {} is nearly the same as one" if len(rows) == 1 else "texts of {} are nearly the same as texts"
            what = f"{len(rows):,} {many.format(split)} of {others}: {'; '.join(pairs)}"
            more = f"; and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else ""
            remedy = ""
            if split == "train":
                remedy = (
                    " (left out)"
                    if self.drop_duplicates
                    else " (data.source.drop_duplicates=true leaves those of train out)"
                )
            self.notes.append(f"{what}{more}{remedy}")
        return of_train if self.drop_duplicates else of_train[:0]

    def splits(self) -> dict[str, list[str]]:
        return {split: list(classes) for split, classes in self.listing.items()}

    def counts(self, split: str) -> list[int]:
        return [len(rows) for rows in self.listing[split].values()]

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        assert self._length is not None
        rows = list(self.listing[split].values())[label][first:last]
        places = np.fromfile(self._places, np.int64, 2 * len(rows), offset=rows.start * _PLACE_BYTES).reshape(-1, 2)
        points, _ = code_points(texts_at(self._texts, places), self._length)
        items = np.full((len(rows), self._length), PADDING, np.int32)
        items[:, : points.shape[1]] = points
        return Drawn(items)


def in_lists(found: Mapping[str, int], lists: Mapping[str, Sequence[str]], where: str, source: str) -> Found:
    """The classes of lists of names.

    Args:
        found: the classes of the data set.
        lists: the names of each split.
        where: the origin of the lists, for messages.
        source: the name of the data set, for messages.

    Returns:
        The classes of each split.

    Raises:
        BadInput: if a class is unknown, or a split has one class.
    """
    given: Found = {}
    for split, names in lists.items():
        for name in names:
            if name not in found:
                allowed = f"names such as {next(iter(found))}" if found else "nothing, since no class is left"
                raise BadInput(
                    f"{where}: the {split} list has {printable(name)}, which {source} does not; allowed: {allowed}"
                )
        given[split] = {name: found[name] for name in names}
    refuse_few_classes(where, given)
    return given


def _quoted(text: str) -> str:
    return printable(repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."))
