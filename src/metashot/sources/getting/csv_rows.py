"""Reads CSV files: UTF-8 with or without a byte order mark, separated by commas, semicolons or tabs."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

from metashot.bad_input import BadInput
from metashot.files.paths import printable, read_file, reason_of

_DELIMITERS = ",;\t"


class Row(NamedTuple):
    line: int  # in the file, counted from 1
    fields: list[str]  # stripped of surrounding whitespace


def csv_rows(path: Path, largest: int) -> Iterator[Row]:
    """Read the rows of a CSV file, including the header, skipping empty lines.

    Args:
        path: the file.
        largest: the largest allowed size in bytes.

    Yields:
        The rows.

    Raises:
        BadInput: if the file cannot be read, is too large, or is not a CSV file.
    """
    return rows_in(io.StringIO(_read_text(path, largest), newline=""), path)


def rows_in(lines: Iterable[str], path: Path | str, delimiters: str = _DELIMITERS) -> Iterator[Row]:
    """Parse the lines of a CSV file, of which no more are held than a row has.

    Args:
        lines: the lines with their ends.
        path: the file, for messages.
        delimiters: the allowed delimiters; the file has the one that its header has most often.

    Yields:
        The rows, including the header, without empty lines.

    Raises:
        BadInput: if it is not a CSV file.
    """
    lines, empty, header = iter(lines), 0, ""
    for header in lines:
        if header.strip():
            break
        empty += 1  # counted and not kept, since a file may consist of them
    delimiter = max(delimiters, key=header.count)
    counted = chain(repeat("\n", empty), [header], lines)
    reader = csv.reader(counted, delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        line_number = reader.line_num + 1
        try:
            fields = [field.strip() for field in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise BadInput(f"{printable(path)} is no CSV file: line {line_number}: {error}") from error
        if any(fields):
            yield Row(line_number, fields)


def _read_text(path: Path, largest: int) -> str:
    try:
        content = read_file(path, largest)
    except OSError as error:
        raise BadInput(f"{printable(path)} cannot be read: {reason_of(error)}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{printable(path)} is not UTF-8 text: line {line} has {content[error.start]:#x}; save it as UTF-8"
        ) from error
