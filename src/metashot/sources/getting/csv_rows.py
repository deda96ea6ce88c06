"""Reads CSV files: UTF-8 with or without a byte order mark, separated by commas, semicolons or tabs."""

import csv
import io
from collections.abc import Iterator
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
    text = _read_text(path, largest)
    header = next((line for line in io.StringIO(text) if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = [field.strip() for field in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise BadInput(f"{printable(path)} is no CSV file: line {line}: {error}") from error
        if any(fields):
            yield Row(line, fields)


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
