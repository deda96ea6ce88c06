"""A user's own vectors: labelled rows of numbers, in a CSV file or in the arrays of an .npz file."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import Positive, Seed
from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.getting.csv_rows import csv_rows
from metashot.sources.getting.files import DAMAGE, Zip
from metashot.sources.getting.npy import array_in
from metashot.sources.official import Official
from metashot.sources.source import FEATURES, DataSource, Drawn
from metashot.sources.splitting import (
    SPLITS,
    refuse_few_classes,
    refuse_shared_classes,
    shares_of_splits,
    split_called,
    take_from_train,
)

LABEL = "class"  # the default column of classes in a CSV file
_SPLIT = "split"
_LARGEST_CSV = 2**28  # bytes; parsing takes several times as much memory
_MOST_FEATURES = 65_536
_LONGEST_NAME = 60  # characters of a value quoted in a message
_ALLOWED = (
    "allowed: a .csv file with a header, a column of classes and columns of numbers, or an .npz file with the arrays x "
    "[rows, features] and y [rows]"
)


class _Table(NamedTuple):
    """The rows of a file."""

    x: NDArray[np.float32]  # [N, features]
    labels: list[str]
    splits: list[str] | None  # as named in the file; None if it has no splits
    places: Sequence[int]  # where each row is, for messages: its line in a CSV file, or its index


class Vectors(DataSource):
    """Splits are taken from the file, or drawn over classes if it has none.

    A CSV file has a header, the column `label` with the classes, optionally a column `split`, and otherwise columns of
    numbers. An .npz file has the arrays x [rows, features], y [rows] of integers or strings and, optionally, split [rows].

    Args:
        label: the column of a CSV file with the classes.
        shares: the proportions of train, val and test if splits are drawn.
        split_seed: the seed with which splits are drawn.
    """

    name = "vectors"
    official: ClassVar[Official | None] = None
    presented_as: ClassVar[str] = FEATURES
    dtype: ClassVar[str] = "float32"
    code = 1  # incremented whenever this class would read other vectors from the same file

    def __init__(self, label: str, shares: list[Positive], split_seed: Seed) -> None:
        self.label = label
        self.shares = shares_of_splits(shares)
        self.split_seed = split_seed
        self.notes: list[str] = []
        self.listing: dict[str, dict[str, range]] = {}  # the ordered rows of each class of each split
        self._ordered: Path  # the file of all rows, ordered by split and class
        self._shape: tuple[int] | None = None

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        return self._shape

    def identity(self, root: Path) -> dict[str, Any]:
        options = {"label": self.label, "shares": list(self.shares.values()), "split_seed": self.split_seed}
        return {"root": str(root.resolve()), "code": self.code, **options}

    def known_as(self, name: str, root: Path) -> str:
        """Specific to this file, since a name such as `1` may mean anything elsewhere; the path is hashed for privacy."""
        return f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]}/{name}"

    def files(self, root: Path) -> Sequence[Path | str]:
        return [root] if root.exists() and not root.is_dir() else []

    def prepare(self, root: Path, scratch: Path) -> None:
        self.notes = []
        table = self._read(root)
        given: dict[str, dict[str, list[int]]] = {}
        for row, label in enumerate(table.labels):
            split = "train"
            if table.splits is not None:
                named = split_called(table.splits[row])
                if named is None:
                    _refuse(
                        root,
                        f"{_place(root, table.places[row])} has split {_quoted(table.splits[row])}; allowed: "
                        f"{', '.join(SPLITS)}",
                    )
                split = named
            given.setdefault(split, {}).setdefault(label, []).append(row)
        where = f"data.root={printable(root)}"
        refuse_shared_classes(where, given)
        self.notes += take_from_train(where, given, self.shares, self.split_seed, is_divided=table.splits is not None)
        refuse_few_classes(where, given)
        order: list[int] = []
        for split in SPLITS:
            self.listing[split] = {}
            for name in sorted(given[split]):
                self.listing[split][name] = range(len(order), len(order) + len(given[split][name]))
                order += given[split][name]
        self._shape = (table.x.shape[1],)
        self._ordered = scratch / "ordered"
        table.x[order].tofile(self._ordered)

    def splits(self) -> dict[str, list[str]]:
        return {split: list(classes) for split, classes in self.listing.items()}

    def counts(self, split: str) -> list[int]:
        return [len(rows) for rows in self.listing[split].values()]

    def draw(self, split: str, label: int, first: int, last: int) -> Drawn:
        assert self._shape is not None
        rows = list(self.listing[split].values())[label][first:last]
        start, (features,) = rows.start * self._shape[0] * 4, self._shape
        x = np.fromfile(self._ordered, np.float32, len(rows) * features, offset=start)
        return Drawn(x.reshape(len(rows), features))

    def _read(self, root: Path) -> _Table:
        kind = root.suffix.lower()
        if not root.exists():
            raise BadInput(f"data.root={printable(root)} does not exist; {_ALLOWED}")
        if kind not in (".csv", ".npz") or root.is_dir():
            what = "is a folder" if root.is_dir() else "is neither a .csv nor an .npz file"
            raise BadInput(f"data.root={printable(root)} {what}; {_ALLOWED}")
        if kind == ".npz" and self.label != LABEL:
            raise BadInput(f"data.source.label={self.label} is for CSV files, and the classes of an .npz file are its y")
        table = _read_csv(root, self.label) if kind == ".csv" else _read_npz(root)
        rows, features = table.x.shape
        if not rows:
            _refuse(root, f"it has no rows; {_ALLOWED}")
        if not 1 <= features <= _MOST_FEATURES:
            _refuse(root, f"its rows have {features:,} numbers; allowed: at least 1 and at most {_MOST_FEATURES:,}")
        return table


def _read_csv(path: Path, label: str) -> _Table:
    rows = csv_rows(path, _LARGEST_CSV)
    header = next(rows, None)
    if header is None:
        _refuse(path, f"it is empty; {_ALLOWED}")
    columns = header.fields
    if len(columns) > _MOST_FEATURES + 2:  # with those of classes and splits
        _refuse(path, f"its header has {len(columns):,} columns; allowed: at most {_MOST_FEATURES:,} numbers in a row")
    counts = Counter(columns)
    for place, name in enumerate(columns, 1):
        if not name:
            _refuse(path, f"its column {place} has no name in the header; pandas writes no such column with index=False")
        if counts[name] > 1:
            _refuse(path, f"it has {counts[name]} columns named {_quoted(name)}; keep one of them")
    if label not in columns:
        found = ", ".join(columns)
        _refuse(
            path,
            f"it has no column {_quoted(label)} for the classes; its header has {_quoted(found)}: name one of them with "
            "data.source.label=",
        )
    places = {place: name for place, name in enumerate(columns) if name not in (label, _SPLIT)}
    of_label = columns.index(label)
    of_split = columns.index(_SPLIT) if _SPLIT in columns and label != _SPLIT else None
    x: list[NDArray[np.float32]] = []
    labels: list[str] = []
    splits: list[str] = []
    lines: list[int] = []
    for line, fields in rows:
        if len(fields) != len(columns):
            _refuse(path, f"line {line} has {len(fields)} values, and its header has {len(columns)}")
        if not fields[of_label]:
            _refuse(path, f"line {line} has nothing in the column {_quoted(label)}")
        x.append(np.array([_number(path, line, name, fields[place]) for place, name in places.items()], np.float32))
        labels.append(printable(fields[of_label]))
        lines.append(line)
        if of_split is not None:
            splits.append(fields[of_split])
    stacked = np.stack(x) if x else np.empty((0, len(places)), np.float32)
    return _Table(stacked, labels, splits if of_split is not None else None, lines)


_LARGEST_NUMBER = float(np.finfo(np.float32).max)


def _number(path: Path, line: int, column: str, text: str) -> float:
    where = f"line {line}, column {_quoted(column)}"
    try:
        value = float(text)
    except ValueError:
        value = None
    if value is None or "_" in text:  # Python accepts underscores between digits
        _refuse(path, f"{where} is {_quoted(text)}, but must be a number" if text else f"{where} has no number")
    if not math.isfinite(value):
        _refuse(path, f"{where} is {_quoted(text)}, but must be a finite number")
    if abs(value) > _LARGEST_NUMBER:
        _refuse(path, f"{where} has {_quoted(text)}, which is too large for 32 bits")
    return value


def _read_npz(path: Path) -> _Table:
    archive = Zip(path)
    names = archive.names()
    missing = [name for name in ("x", "y") if f"{name}.npy" not in names]
    if missing:
        found = ", ".join(name.removesuffix(".npy") for name in names) or "none"
        _refuse(path, f"it has no array {missing[0]}; its arrays: {_quoted(found)}; {_ALLOWED}")
    x, y = _member(path, archive, "x"), _member(path, archive, "y")
    split = _member(path, archive, _SPLIT) if f"{_SPLIT}.npy" in names else None
    if x.dtype.kind not in "fiub" or x.ndim != 2:
        _refuse(path, f"its x is {x.dtype} of the shape {x.shape}; allowed: numbers [rows, features]")
    for name, values, kinds in (("y", y, "iubUS"), (_SPLIT, split, "US")):
        if values is None:
            continue
        if values.dtype.kind not in kinds or values.ndim != 1:
            allowed = "whole numbers or texts [rows]" if name == "y" else "texts [rows]"
            _refuse(path, f"its {name} is {values.dtype} of the shape {values.shape}; allowed: {allowed}")
        if len(values) != len(x):
            _refuse(path, f"its x has {len(x):,} rows but its {name} has {len(values):,}: they must be equal")
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(x, dtype=np.float32)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        row, column = divmod(int(wrong.argmax()), x.shape[1])
        _refuse(
            path, f"row {row}, column {column} of its x has {x[row, column]}, and a finite number of 32 bits belongs there"
        )
    labels = [printable(text) for text in _texts(path, "y", y)]
    if "" in labels:
        _refuse(path, f"row {labels.index('')} of its y is empty")
    return _Table(numbers, labels, None if split is None else _texts(path, _SPLIT, split), range(len(numbers)))


def _member(path: Path, archive: Zip, name: str) -> NDArray[Any]:
    content = archive.read(f"{name}.npy")
    try:
        return array_in(content)
    except (*DAMAGE, TypeError, SyntaxError, RecursionError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_NAME] or type(error).__name__
        _refuse(path, f"its array {name} cannot be read: {reason}; it was not loaded")


def _texts(path: Path, name: str, values: NDArray[Any]) -> list[str]:
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    except ValueError as error:  # UnicodeDecodeError is a ValueError
        _refuse(path, f"its {name} has texts that are not Unicode: {error}")


def _place(path: Path, place: int) -> str:
    return f"line {place}" if path.suffix.lower() == ".csv" else f"row {place}"


def _quoted(text: str) -> str:
    return printable(repr(text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."))


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BadInput(f"{printable(path)}: {reason}")
