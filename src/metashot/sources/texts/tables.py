"""Tables of texts: CSV, TSV and JSON lines in any encoding, row by row, with messages that name the line."""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.getting.csv_rows import rows_in
from metashot.sources.texts.code_points import cleaned
from metashot.sources.texts.encodings import Encoding, encoding_of, lines_of, open_text
from metashot.sources.texts.json_text import kind_of, parsed

TABLES, JSON_LINES, PLAIN = (".csv", ".tsv"), (".jsonl", ".ndjson", ".json"), ".txt"
_LONGEST_LABEL = 200  # characters
_LONGEST_QUOTE = 60  # characters of a value quoted in a message


class Table(NamedTuple):
    """An open table."""

    encoding: Encoding
    lines: Iterator[str]


class Rows(NamedTuple):
    """What a CSV file has."""

    columns: list[str]
    rows: Iterator[tuple[int, list[str]]]  # (line, a value for each column)


@contextmanager
def open_table(path: Path, largest: int, longest_field: int, given: Encoding | None) -> Iterator[Table]:
    """Open a table.

    Args:
        path: the file.
        largest: the most bytes that it may have.
        longest_field: the most characters of a value in a CSV file.
        given: its encoding; None detects it.

    Raises:
        BadInput: if it cannot be read.
    """
    with open_text(path, largest) as file:
        encoding = given or encoding_of(file, path)
        limit = csv.field_size_limit(longest_field)
        try:
            yield Table(encoding, lines_of(file, encoding.name, path))
        finally:
            csv.field_size_limit(limit)


def csv_rows(lines: Iterator[str], path: Path, allowed: str = "") -> Rows:
    """The columns and the rows of a CSV or TSV file.

    Args:
        lines: its lines.
        path: the file.
        allowed: what a message on an empty file says is allowed.

    Raises:
        BadInput: if it is empty, two columns have the same name, or a row has another number of values.
    """
    rows = rows_in(lines, path, "\t" if path.suffix.lower() == ".tsv" else ",;\t")
    header = next(rows, None)
    if header is None:
        refuse(path, f"it is empty{allowed and f'; {allowed}'}")
    columns = header.fields
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        refuse(path, f"it has {columns.count(twice[0])} columns named {quoted(twice[0])}; keep one of them")

    def checked() -> Iterator[tuple[int, list[str]]]:
        for line, fields in rows:
            if len(fields) != len(columns):
                hint = "; texts with commas have to be in quotes" if len(fields) > len(columns) else ""
                refuse(path, f"line {line} has {len(fields)} values, and its header has {len(columns)}{hint}")
            yield line, fields

    return Rows(columns, checked())


def json_objects(lines: Iterator[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines, with their lines; empty lines are left out.

    Raises:
        BadInput: if a line is no object.
    """
    is_first = True
    for line, content in enumerate(lines, 1):
        if not content.strip():
            continue
        if is_first and content.lstrip().startswith("["):
            refuse(path, "it is a list; write one object in each line instead (JSON lines)")
        value = parsed(content, f"{printable(path)}: line {line}")
        if not isinstance(value, dict):
            refuse(path, f"line {line} is {kind_of(value)}, and no object")
        is_first = False
        yield line, value


def text_in(value: Any, path: Path, line: int, column: str) -> str:
    """A text in a row.

    Raises:
        BadInput: if the value is none.
    """
    if not isinstance(value, str):
        refuse(path, f"line {line} has {kind_of(value)} as {quoted(column)}; allowed: a text in quotes")
    return value


def class_in(value: Any, path: Path, line: int, column: str, key: str) -> str:
    """The name of a class in a row.

    Args:
        value: the value.
        path: the file, for messages.
        line: the line of the row.
        column: the name of the column.
        key: the configuration key that names the column.

    Raises:
        BadInput: if the value names no class.
    """
    if value is None or isinstance(value, dict | list) or (isinstance(value, float) and not math.isfinite(value)):
        refuse(path, f"line {line} has {kind_of(value)} as {quoted(column)}; allowed: a text or a number")
    label = class_name(as_text(value))
    if not label:
        refuse(path, f"line {line} has nothing as {quoted(column)}, which names its class")
    if len(label) > _LONGEST_LABEL:
        refuse(
            path,
            f"line {line} has {len(label):,} characters as {quoted(column)}, and the name of a class has at most "
            f"{_LONGEST_LABEL}: name the column of the classes with {key}=",
        )
    return label


@lru_cache(maxsize=2**14)  # there are fewer classes than texts
def class_name(given: str) -> str:
    """The name of a class as it is kept and shown."""
    return printable(cleaned(given))


def as_text(value: Any) -> str:
    """A value of a row as a cell of a table."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def quoted(text: str, longest: int = _LONGEST_QUOTE) -> str:
    return printable(repr(text if len(text) <= longest else f"{text[:longest]}..."))


def refuse(path: Path, reason: str) -> NoReturn:
    raise BadInput(f"{printable(path)}: {reason}")
