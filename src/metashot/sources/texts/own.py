"""A user's own texts: a CSV, TSV or JSON lines file with a text and a class in each row, or .txt files in class folders."""

import csv
import hashlib
import io
import math
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import AtLeast, AtMost, Positive, Seed
from metashot.bad_input import BadInput
from metashot.files.paths import printable, read_file, reason_of
from metashot.sources.class_folders import listed, split_folders
from metashot.sources.getting.csv_rows import rows_in
from metashot.sources.getting.files import Folder
from metashot.sources.splitting import (
    SPLITS,
    refuse_few_classes,
    refuse_shared_classes,
    shares_of_splits,
    split_called,
    take_from_train,
)
from metashot.sources.texts.code_points import cleaned
from metashot.sources.texts.encodings import (
    Encoding,
    encoding_of,
    excerpt_of,
    given_encoding,
    guess,
    lines_of,
    open_text,
    undecodable_line,
    unguessed_encoding,
)
from metashot.sources.texts.json_text import kind_of, parsed
from metashot.sources.texts.text_source import Found, Labelled, Longest, Texts

TEXT, LABEL = "text", "label"  # the default columns
_SPLIT = "split"
_TABLES = (".csv", ".tsv")
_JSON_LINES = (".jsonl", ".ndjson", ".json")
_LARGEST_TABLE = 2**32  # bytes; it is read row by row
_LARGEST_FILE = 2**24  # bytes of a .txt file
_LONGEST_FIELD = 2**24  # characters
_LONGEST_LABEL = 200  # characters
_LONGEST_QUOTE = 60  # characters of a value quoted in a message
_SAMPLE = 2**18  # bytes from which an encoding is guessed
_ALLOWED = (
    "allowed: a .csv or .tsv file with a header, a .jsonl file with an object in each line, or a folder "
    "class/text.txt or train|val|test/class/text.txt"
)


class OwnTexts(Texts):
    """Splits are taken from the files, or drawn over classes if they have none; a missing split is taken from train.

    Args:
        text: the column or the key of the texts.
        label: the column or the key of the classes.
        encoding: the encoding of the files; None detects it.
        fewest: classes with fewer texts are left out.
        shares: the proportions of train, val and test if splits are drawn.
        split_seed: the seed with which splits are drawn.
        longest: the most characters of a text; longer ones are cut.
        drop_duplicates: whether texts of train that are nearly the same as texts of other splits are left out.
    """

    name = "texts"

    def __init__(
        self,
        text: str,
        label: str,
        encoding: str | None,
        fewest: Annotated[int, AtLeast(1), AtMost(10**6)],
        shares: list[Positive],
        split_seed: Seed,
        longest: Longest,
        drop_duplicates: bool,
    ) -> None:
        self.shares = shares_of_splits(shares)
        if text == label:
            raise BadInput(f"data.source.text and data.source.label are both {printable(text)}; give two columns")
        self.given = None if encoding is None else given_encoding(encoding)
        options = {"text": text, "label": label, "encoding": encoding, "fewest": fewest}
        super().__init__(
            longest, drop_duplicates, options | {"shares": list(self.shares.values()), "split_seed": split_seed}
        )
        self.text = text
        self.label = label
        self.fewest = fewest
        self.split_seed = split_seed
        self._is_divided = False  # whether the files have splits

    def known_as(self, name: str, root: Path) -> str:
        """Specific to these files, since a name such as `1` may mean anything elsewhere; the path is hashed for privacy."""
        return f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]}/{name}"

    def files(self, root: Path) -> Sequence[Path | str]:
        """The table, or the folders with texts, without a folder of banks beside them."""
        if not root.is_dir():
            return [root] if root.exists() else []
        tops = sorted({name.partition("/")[0] for name in Folder(root).names() if "/" in name and _is_text(name)})
        return [root / top for top in tops] or [root]  # notices that a folder was emptied

    def read(self, root: Path, scratch: Path) -> Iterator[Labelled]:
        kind = root.suffix.lower()
        if root.is_dir():
            for key, value, usual in (("text", self.text, TEXT), ("label", self.label, LABEL)):
                if value != usual:
                    raise BadInput(f"data.source.{key}={printable(value)} is for tables, and data.root is a folder")
            yield from self._in_folders(root)
        elif not root.exists():
            raise BadInput(f"data.root={printable(root)} does not exist; {_ALLOWED}")
        elif kind in (*_TABLES, *_JSON_LINES):
            yield from self._in_table(root, kind)
        else:
            raise BadInput(f"data.root={printable(root)} is of no kind that has texts; {_ALLOWED}")

    def divide(self, root: Path, found: Found, counts: NDArray[np.int64]) -> Found:
        where = f"data.root={printable(root)}"
        refuse_shared_classes(where, found)
        small = [name for classes in found.values() for name, label in classes.items() if counts[label] < self.fewest]
        if small:
            self.notes.append(
                f"{len(small):,} {'class has' if len(small) == 1 else 'classes have'} fewer than {self.fewest} texts and "
                f"{'is' if len(small) == 1 else 'are'} left out (data.source.fewest): {listed(small)}"
            )
        given: dict[str, dict[str, Any]] = {
            split: {name: label for name, label in classes.items() if counts[label] >= self.fewest}
            for split, classes in found.items()
        }
        if "train" in given and not given["train"]:
            raise BadInput(f"{where}: no class of train has {self.fewest} texts (data.source.fewest)")
        given = {split: classes for split, classes in given.items() if classes}
        self.notes += take_from_train(where, given, self.shares, self.split_seed, self._is_divided)
        refuse_few_classes(where, given)
        return given

    def _in_table(self, root: Path, kind: str) -> Iterator[Labelled]:
        with open_text(root, _LARGEST_TABLE) as file:
            encoding = self.given or encoding_of(file, root)
            if note := encoding.note(root):
                self.notes.append(note)
            lines = lines_of(file, encoding.name, root)
            limit = csv.field_size_limit(_LONGEST_FIELD)
            try:
                yield from self._in_csv(lines, root, kind) if kind in _TABLES else self._in_json(lines, root)
            finally:
                csv.field_size_limit(limit)

    def _in_csv(self, lines: Iterator[str], root: Path, kind: str) -> Iterator[Labelled]:
        rows = rows_in(lines, root, "\t" if kind == ".tsv" else ",;\t")
        header = next(rows, None)
        if header is None:
            _refuse(root, f"it is empty; {_ALLOWED}")
        columns = header.fields
        of_text, of_label = self._column(root, columns, "text"), self._column(root, columns, "label")
        of_split = columns.index(_SPLIT) if _SPLIT in columns and _SPLIT not in (self.text, self.label) else None
        self._is_divided = of_split is not None
        for line, fields in rows:
            if len(fields) != len(columns):
                _refuse(root, f"line {line} has {len(fields)} values, and its header has {len(columns)}")
            split = None if of_split is None else _split(root, line, fields[of_split])
            yield Labelled(self._label(root, line, fields[of_label]), fields[of_text], line, split)

    def _column(self, root: Path, columns: list[str], key: str) -> int:
        name: str = getattr(self, key)
        if columns.count(name) > 1:
            _refuse(root, f"it has {columns.count(name)} columns named {_quoted(name)}; keep one of them")
        if name not in columns:
            _refuse(
                root,
                f"it has no column {_quoted(name)}; its header has {_quoted(', '.join(columns), 200)}: name the column of "
                f"the {'texts' if key == 'text' else 'classes'} with data.source.{key}=",
            )
        return columns.index(name)

    def _in_json(self, lines: Iterator[str], root: Path) -> Iterator[Labelled]:
        first = None
        for line, content in enumerate(lines, 1):
            if not content.strip():
                continue
            if first is None and content.lstrip().startswith("["):
                _refuse(root, "it is a list; write one object in each line instead (JSON lines)")
            value = parsed(content, f"{printable(root)}: line {line}")
            if not isinstance(value, dict):
                _refuse(root, f"line {line} is {kind_of(value)}, and no object")
            for key in ("text", "label"):
                name = getattr(self, key)
                if name not in value:
                    found = _quoted(", ".join(value), 200)
                    _refuse(root, f"line {line} has no {_quoted(name)}, but {found}: name the key with data.source.{key}=")
            text, label = value[self.text], value[self.label]
            if not isinstance(text, str):
                _refuse(root, f"line {line} has {kind_of(text)} as {_quoted(self.text)}; allowed: a text in quotes")
            if label is None or isinstance(label, dict | list) or (isinstance(label, float) and not math.isfinite(label)):
                _refuse(root, f"line {line} has {kind_of(label)} as {_quoted(self.label)}; allowed: a text or a number")
            split = value.get(_SPLIT) if _SPLIT not in (self.text, self.label) else None
            if first is None:
                first = line
                self._is_divided = split is not None
            if self._is_divided is (split is None):
                _refuse(root, f"line {first} has {'a' if self._is_divided else 'no'} split, unlike line {line}")
            if split is not None and not isinstance(split, str):
                _refuse(root, f"line {line} has {kind_of(split)} as its split; allowed: {', '.join(SPLITS)}")
            named = None if split is None else _split(root, line, split)
            as_text = str(label).lower() if isinstance(label, bool) else str(label)
            yield Labelled(self._label(root, line, as_text), text, line, named)
        if first is None:
            _refuse(root, f"it is empty; {_ALLOWED}")

    def _label(self, root: Path, line: int, given: str) -> str:
        label = _class_name(given)
        if not label:
            _refuse(root, f"line {line} has nothing as {_quoted(self.label)}, which names its class")
        if len(label) > _LONGEST_LABEL:
            _refuse(
                root,
                f"line {line} has {len(label):,} characters as {_quoted(self.label)}, and the name of a class has at most "
                f"{_LONGEST_LABEL}: name the column of the classes with data.source.label=",
            )
        return label

    def _in_folders(self, root: Path) -> Iterator[Labelled]:
        folder = Folder(root)
        every = folder.names()
        names = [name for name in every if _is_text(name)]
        splits = split_folders(root, names, "texts", _ALLOWED)
        self._is_divided = bool(splits)
        above = 2 if splits else 1  # the number of folders above a text
        inside = [name for name in names if name.count("/") >= above]
        if not inside:
            raise BadInput(f"data.root={printable(root)} has no .txt files in class folders; {_ALLOWED}")
        self._note_others(every, names, inside)
        guessed = self._guessed_encoding(root, inside)
        for name in inside:
            parts = name.split("/", above)
            text = _decoded(_content(root / name), self.given or guessed, root / name)
            label = _class_name(printable(parts[above - 1]))
            yield Labelled(label, text, name, splits.get(parts[0], "train"))

    def _note_others(self, every: list[str], names: list[str], inside: list[str]) -> None:
        texts, kept = set(names), set(inside)
        others = [name for name in every if name not in texts and "/" in name]
        for what, left_out in (("no .txt file", others), ("in no class folder", [n for n in names if n not in kept])):
            if left_out:
                many = f"{len(left_out):,} files are" if len(left_out) > 1 else "1 file is"
                self.notes.append(f"{many} {what} and left out: {listed(left_out)}")

    def _guessed_encoding(self, root: Path, names: list[str]) -> Encoding | None:
        """The encoding of those files that have no certain one, guessed from all of them, since one may be very short."""
        if self.given:
            return None
        others: list[str] = []
        sample = bytearray()
        for name in names:
            content = _content(root / name)
            if _certain(content, root / name) is None:
                others.append(name)
                sample += content[: max(0, _SAMPLE - len(sample))]
        if not others:
            return None
        name_of_it = guess(bytes(sample))
        if name_of_it is None:
            raise unguessed_encoding(root / others[0], undecodable_line(_content(root / others[0])))
        many = f"{len(others):,} files are" if len(others) > 1 else "1 file is"
        self.notes.append(
            f"{many} not UTF-8 and read as {name_of_it}, which is a guess (if letters are wrong in "
            f"{excerpt_of(bytes(sample), name_of_it)!r}, give data.source.encoding): {listed(others)}"
        )
        return Encoding(name_of_it, is_guessed=True)


@lru_cache(maxsize=2**14)  # there are fewer classes than texts
def _class_name(given: str) -> str:
    return printable(cleaned(given))


def _is_text(name: str) -> bool:
    return name.lower().endswith(".txt")


def _content(path: Path) -> bytes:
    try:
        return read_file(path, _LARGEST_FILE)
    except OSError as error:
        raise BadInput(f"{printable(path)} cannot be read: {reason_of(error)}") from error


def _certain(content: bytes, path: Path) -> Encoding | None:
    """The encoding of a file if it is UTF-8, UTF-16 or UTF-32."""
    return None if undecodable_line(content) else encoding_of(io.BytesIO(content), path)


def _decoded(content: bytes, encoding: Encoding | None, path: Path) -> str:
    certain = None if encoding is not None and not encoding.is_guessed else _certain(content, path)
    chosen = certain or encoding
    assert chosen is not None  # one was guessed for files that have no certain one
    return "".join(lines_of(io.BytesIO(content), chosen.name, path))


def _split(root: Path, line: int, given: str) -> str:
    named = split_called(given.strip())
    if named is None:
        _refuse(root, f"line {line} has split {_quoted(given)}; allowed: {', '.join(SPLITS)}")
    return named


def _quoted(text: str, longest: int = _LONGEST_QUOTE) -> str:
    return printable(repr(text if len(text) <= longest else f"{text[:longest]}..."))


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BadInput(f"{printable(path)}: {reason}")
