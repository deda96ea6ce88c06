"""A user's own texts: a CSV, TSV or JSON lines file with a text and a class in each row, or .txt files in class folders."""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import AtLeast, AtMost, Positive, Seed
from metashot.bad_input import BadInput
from metashot.files.paths import printable, read_file, reason_of
from metashot.sources.class_folders import listed, split_folders
from metashot.sources.getting.files import Folder
from metashot.sources.splitting import (
    SPLITS,
    refuse_few_classes,
    refuse_shared_classes,
    shares_of_splits,
    split_called,
    take_from_train,
)
from metashot.sources.texts.encodings import (
    Encoding,
    encoding_of,
    excerpt_of,
    given_encoding,
    guess,
    lines_of,
    undecodable_line,
    unguessed_encoding,
)
from metashot.sources.texts.json_text import kind_of
from metashot.sources.texts.tables import (
    JSON_LINES,
    TABLES,
    class_in,
    class_name,
    csv_rows,
    json_objects,
    open_table,
    quoted,
    refuse,
    text_in,
)
from metashot.sources.texts.text_source import Found, Labelled, Longest, Texts

TEXT, LABEL = "text", "label"  # the default columns
_SPLIT = "split"
_LARGEST_TABLE = 2**32  # bytes; it is read row by row
_LARGEST_FILE = 2**24  # bytes of a .txt file
_LONGEST_FIELD = 2**24  # characters
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
        elif kind in (*TABLES, *JSON_LINES):
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
        with open_table(root, _LARGEST_TABLE, _LONGEST_FIELD, self.given) as (encoding, lines):
            if note := encoding.note(root):
                self.notes.append(note)
            yield from self._in_csv(lines, root) if kind in TABLES else self._in_json(lines, root)

    def _in_csv(self, lines: Iterator[str], root: Path) -> Iterator[Labelled]:
        columns, rows = csv_rows(lines, root, _ALLOWED)
        of_text, of_label = self._column(root, columns, "text"), self._column(root, columns, "label")
        of_split = columns.index(_SPLIT) if _SPLIT in columns and _SPLIT not in (self.text, self.label) else None
        self._is_divided = of_split is not None
        for line, fields in rows:
            split = None if of_split is None else _split(root, line, fields[of_split])
            yield Labelled(self._label(root, line, fields[of_label]), fields[of_text], line, split)

    def _column(self, root: Path, columns: list[str], key: str) -> int:
        name: str = getattr(self, key)
        if name not in columns:
            refuse(
                root,
                f"it has no column {quoted(name)}; its header has {quoted(', '.join(columns), 200)}: name the column of "
                f"the {'texts' if key == 'text' else 'classes'} with data.source.{key}=",
            )
        return columns.index(name)

    def _in_json(self, lines: Iterator[str], root: Path) -> Iterator[Labelled]:
        first = None
        for line, value in json_objects(lines, root):
            for key in ("text", "label"):
                name = getattr(self, key)
                if name not in value:
                    found = quoted(", ".join(value), 200)
                    refuse(root, f"line {line} has no {quoted(name)}, but {found}: name the key with data.source.{key}=")
            text = text_in(value[self.text], root, line, self.text)
            label = self._label(root, line, value[self.label])
            split = value.get(_SPLIT) if _SPLIT not in (self.text, self.label) else None
            if first is None:
                first = line
                self._is_divided = split is not None
            if self._is_divided is (split is None):
                refuse(root, f"line {first} has {'a' if self._is_divided else 'no'} split, unlike line {line}")
            if split is not None and not isinstance(split, str):
                refuse(root, f"line {line} has {kind_of(split)} as its split; allowed: {', '.join(SPLITS)}")
            named = None if split is None else _split(root, line, split)
            yield Labelled(label, text, line, named)
        if first is None:
            refuse(root, f"it is empty; {_ALLOWED}")

    def _label(self, root: Path, line: int, given: Any) -> str:
        return class_in(given, root, line, self.label, "data.source.label")

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
            label = class_name(printable(parts[above - 1]))
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
        refuse(root, f"line {line} has split {quoted(given)}; allowed: {', '.join(SPLITS)}")
    return named
