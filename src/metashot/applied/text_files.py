"""The files of texts that the command line works on: examples with their classes, and queries with whatever is beside them.

Files are read with the readers of data sets, which detect encodings and name the line where something is wrong.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metashot.applied.texts import is_blank
from metashot.bad_input import BadInput
from metashot.files.paths import given_path, printable, read_file, reason_of
from metashot.sources.class_folders import listed
from metashot.sources.getting.files import Folder
from metashot.sources.texts.code_points import cleaned
from metashot.sources.texts.encodings import (
    Encoding,
    encoding_of,
    given_encoding,
    guess,
    lines_of,
    open_text,
    undecodable_line,
    unguessed_encoding,
)
from metashot.sources.texts.tables import (
    JSON_LINES,
    PLAIN,
    TABLES,
    as_text,
    class_in,
    class_name,
    csv_rows,
    json_objects,
    open_table,
    quoted,
    refuse,
    text_in,
)

_LARGEST = 2**28  # bytes of a file, all of which is held in memory
_LARGEST_FOLDER = 2**28  # bytes of the texts in a folder
_LONGEST_FIELD = 2**26  # characters
_MOST_COLUMNS = 1000  # which come back with each answer
_SAMPLE = 2**18  # bytes from which an encoding is guessed
_SUPPORT = (
    "allowed: a .csv or .tsv file with a header, a .jsonl file with an object in each line, or a folder with a sub-folder "
    "of .txt files for each class"
)
_QUERY = (
    "allowed: a .csv or .tsv file with a header, a .jsonl file with an object in each line, a .txt file with a text in each "
    "line, or a folder of .txt files"
)
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Keys:
    """How the columns of tables are called, and the encoding of files; None detects it."""

    text: str
    label: str
    encoding: str | None


@dataclass
class TextsOfUser:
    """The texts of a file or a folder.

    Attributes:
        texts: The texts as they are in the file.
        labels: Their classes; None for queries without.
        columns: The names of the other columns.
        others: Their values for each text.
        places: Where each text is, for messages and as the name of a row: a line or a file.
        notes: What to say about the file.
    """

    texts: list[str] = field(default_factory=list)
    labels: list[str] | None = None
    columns: list[str] = field(default_factory=list)
    others: list[list[str]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_of_texts(given: str) -> bool:
    """Whether a support set is one of texts, by its name or by the names of the files in it."""
    path = given_path(given, "support")
    if not path.is_dir():
        return path.suffix.lower() in (*TABLES, *JSON_LINES, PLAIN)
    names = [name.lower() for name in Folder(path).names()]
    return any(name.endswith(PLAIN) for name in names) and not any(name.endswith(_IMAGES) for name in names)


def support_texts(given: str, keys: Keys) -> TextsOfUser:
    """Read labelled examples.

    Args:
        given: The file or the folder, as the user named it.
        keys: How its columns are called.

    Raises:
        BadInput: It cannot be read, has no such columns, or an example has no text or no class.
    """
    path = given_path(given, "support")
    found = TextsOfUser(labels=[])
    with _own_keys():
        if path.is_dir():
            _read_class_folders(path, keys, found)
        elif not path.exists():
            raise BadInput(f"support={printable(given)} does not exist; {_SUPPORT}")
        elif path.suffix.lower() in (*TABLES, *JSON_LINES):
            _read_table(path, keys, found, needs_label=True)
        else:
            raise BadInput(f"support={printable(given)} has no classes; {_SUPPORT}")
    if not found.texts:
        raise BadInput(f"support={printable(given)} has no texts; {_SUPPORT}")
    for text, place in zip(found.texts, found.places, strict=True):
        if is_blank(cleaned(text)):
            raise BadInput(f"{place} has an empty text, from which nothing can be learned: leave it out")
    assert found.labels is not None
    if len(classes := set(found.labels)) < 2:
        raise BadInput(
            f"support={printable(given)} has one class, {quoted(next(iter(classes)))}; at least two classes are needed"
        )
    return found


def query_texts(given: str | Sequence[str], keys: Keys) -> TextsOfUser:
    """Read queries, and their classes where the file has them.

    Args:
        given: The file or the folder, as the user named it.
        keys: How its columns are called.

    Raises:
        BadInput: It cannot be read, has no such columns, or no text.
    """
    if not isinstance(given, str):
        if len(given) != 1:
            raise BadInput(f"query=[{','.join(map(printable, given))}] is a list, and texts come from one file; {_QUERY}")
        given = given[0]
    path = given_path(given, "query")
    found = TextsOfUser()
    with _own_keys():
        if path.is_dir():
            _read_folder(path, keys, found)
        elif not path.exists():
            raise BadInput(f"query={printable(given)} does not exist; {_QUERY}")
        elif path.suffix.lower() in (*TABLES, *JSON_LINES):
            _read_table(path, keys, found, needs_label=False)
        elif path.suffix.lower() == PLAIN:
            _read_lines(path, keys, found)
        else:
            what = (
                " is an image, and the learner was trained on texts" if path.suffix.lower() in _IMAGES else " has no texts"
            )
            raise BadInput(f"query={printable(given)}{what}; {_QUERY}")
    if all(is_blank(cleaned(text)) for text in found.texts):
        raise BadInput(f"query={printable(given)} has no texts{', but empty ones' if found.texts else ''}; {_QUERY}")
    return found


def files_read(given: str | Sequence[str], key: str) -> list[Path]:
    """The files that a user gave for a key, of which none may be replaced."""
    found = []
    for one in [given] if isinstance(given, str) else given:
        path = given_path(one, key)
        names = Folder(path).names() if path.is_dir() else []
        found += [path / name for name in names if name.lower().endswith(PLAIN)] if path.is_dir() else [path]
    return found


def _read_table(path: Path, keys: Keys, found: TextsOfUser, needs_label: bool) -> None:
    given = None if keys.encoding is None else given_encoding(keys.encoding)
    with open_table(path, _LARGEST, _LONGEST_FIELD, given) as (encoding, lines):
        if note := encoding.note(path):
            found.notes.append(_with_own_keys(note))
        rows = _csv(path, lines) if path.suffix.lower() in TABLES else json_objects(lines, path)
        _take(path, rows, keys, found, needs_label)


def _csv(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The header with empty values, so that a table without rows has columns, and then each row."""
    columns, rows = csv_rows(lines, path)
    yield 0, dict.fromkeys(columns, "")
    for line, fields in rows:
        yield line, dict(zip(columns, fields, strict=True))


def _take(
    path: Path, rows: Iterator[tuple[int, Mapping[str, Any]]], keys: Keys, found: TextsOfUser, needs_label: bool
) -> None:
    """Take the texts, the classes and the other values of the rows of a table."""
    if keys.text == keys.label:
        raise BadInput(f"text= and label= are both {printable(keys.text)}; give two columns")
    values: list[Mapping[str, Any]] = []
    columns: dict[str, None] = {}
    for line, row in rows:
        for key, name, what in (("text", keys.text, "texts"), ("label", keys.label, "classes")):
            if name in row or (key == "label" and not needs_label):
                continue
            has = quoted(", ".join(row), 200)
            lacks = f"it has no column {quoted(name)}; its header has {has}"
            if path.suffix.lower() in JSON_LINES:
                lacks = f"line {line} has no {quoted(name)}, but {has}"
            refuse(path, f"{lacks}: name the {what} with {key}=")
        columns |= dict.fromkeys(row)
        if len(columns) > _MOST_COLUMNS:
            refuse(path, f"line {line} brings it to more than {_MOST_COLUMNS:,} columns, which are kept of each row")
        if line == 0:  # the header
            continue
        found.texts.append(text_in(row[keys.text], path, line, keys.text))
        found.places.append(f"{printable(path)}: line {line}")
        values.append(row)
        if needs_label:
            assert found.labels is not None
            found.labels.append(class_in(row[keys.label], path, line, keys.label, "label"))
    found.columns = [name for name in columns if name != keys.text]
    found.others = [[as_text(row.get(name)) for name in found.columns] for row in values]
    if not needs_label and keys.label in columns:
        found.labels = [class_name(as_text(row.get(keys.label))) for row in values]


def _read_lines(path: Path, keys: Keys, found: TextsOfUser) -> None:
    """A text in each line; lines without one are left out."""
    with open_text(path, _LARGEST) as file:
        encoding = given_encoding(keys.encoding) if keys.encoding is not None else encoding_of(file, path)
        if note := encoding.note(path):
            found.notes.append(_with_own_keys(note))
        found.columns = ["line"]
        for line, text in enumerate(lines_of(file, encoding.name, path), 1):
            if text.strip():
                found.texts.append(text.rstrip("\r\n"))
                found.others.append([str(line)])
                found.places.append(f"{printable(path)}: line {line}")


def _read_folder(folder: Path, keys: Keys, found: TextsOfUser) -> None:
    """A text in each file, at any depth."""
    names = _text_files(folder, "query", _QUERY)
    found.texts = _decoded(folder, names, keys, found.notes)
    found.columns = ["file"]
    found.places = [printable(folder / name) for name in names]
    found.others = [[place] for place in found.places]


def _read_class_folders(folder: Path, keys: Keys, found: TextsOfUser) -> None:
    names = _text_files(folder, "support", _SUPPORT)
    inside = [name for name in names if "/" in name]
    if not inside:
        raise BadInput(f"support={printable(folder)} has .txt files, but no class folders; {_SUPPORT}")
    if loose := [name for name in names if "/" not in name]:
        found.notes.append(f"{len(loose)} in the support folder lie in no class folder and are left out: {listed(loose)}")
    found.texts = _decoded(folder, inside, keys, found.notes)
    found.labels = [class_name(printable(name.partition("/")[0])) for name in inside]
    found.places = [printable(folder / name) for name in inside]
    folders = {name.partition("/")[0] for name in inside}
    if len(set(found.labels)) < len(folders):
        raise BadInput(
            f"support={printable(folder)} has two class folders whose names are written alike: rename one of them"
        )


def _text_files(folder: Path, key: str, allowed: str) -> list[str]:
    every = Folder(folder).names()
    names = [name for name in every if name.lower().endswith(PLAIN)]
    if names:
        return names
    images = [name for name in every if name.lower().endswith(_IMAGES)]
    what = f"images, such as {printable(images[0])}, and the learner was trained on texts" if images else "no .txt files"
    raise BadInput(f"{key}={printable(folder)} has {what}; {allowed}")


def _decoded(folder: Path, names: Sequence[str], keys: Keys, notes: list[str]) -> list[str]:
    """The texts of some files. An encoding is guessed from all files that have no certain one, since one may be short."""
    contents, size = [], 0
    for name in names:
        contents.append(_content(folder / name))
        size += len(contents[-1])
        if size > _LARGEST_FOLDER:
            raise BadInput(f"{printable(folder)} has more than {_LARGEST_FOLDER / 1e6:,.0f} MB of texts; divide it")
    if keys.encoding is not None:
        chosen = given_encoding(keys.encoding)
        return [_text(content, chosen, folder / name) for name, content in zip(names, contents, strict=True)]
    others = {name: content for name, content in zip(names, contents, strict=True) if undecodable_line(content)}
    guessed: Encoding | None = None
    if others:
        guessed_name = guess(b"".join(others.values())[:_SAMPLE])
        if guessed_name is None:
            first, content = next(iter(others.items()))
            raise unguessed_encoding(folder / first, undecodable_line(content))
        guessed = Encoding(guessed_name, is_guessed=True)
        many = f"{len(others):,} files are" if len(others) > 1 else "1 file is"
        notes.append(f"{many} not UTF-8 and read as {guessed_name}, which is a guess: {listed(others)}")
    return [
        _text(
            content,
            guessed if guessed and name in others else encoding_of(io.BytesIO(content), folder / name),
            folder / name,
        )
        for name, content in zip(names, contents, strict=True)
    ]


def _text(content: bytes, encoding: Encoding, path: Path) -> str:
    return "".join(lines_of(io.BytesIO(content), encoding.name, path)).strip()


def _content(path: Path) -> bytes:
    try:
        return read_file(path, _LARGEST)
    except OSError as error:
        raise BadInput(f"{printable(path)} cannot be read: {reason_of(error)}") from error


@contextmanager
def _own_keys() -> Iterator[None]:
    """Name the keys of this command in the messages of the readers of data sets."""
    try:
        yield
    except BadInput as error:
        raise BadInput(_with_own_keys(str(error))) from error


def _with_own_keys(message: str) -> str:
    return message.replace("data.source.", "")
