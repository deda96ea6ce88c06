"""BANKING77: Casanueva, Temčinas, Gerz, Henderson, Vulić 2020, "Efficient Intent Detection with Dual Sentence Encoders".

13,083 questions of customers of a bank, of 77 intents. For unseen classes, the examples of train.csv and test.csv are put
together, and the intents are divided into 25 / 25 / 27 as in Dopierre, Gravier, Logerais 2021, whose lists differ.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from metashot.arguments import Seed
from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.getting.csv_rows import rows_in
from metashot.sources.getting.download import OfficialFile, download
from metashot.sources.official import Official, find, refuse_missing_root
from metashot.sources.texts.intents import Intents, refuse_other_count
from metashot.sources.texts.json_text import parsed
from metashot.sources.texts.packed import member, open_packed, refuse_missing
from metashot.sources.texts.text_source import Labelled, Longest

HOME = "https://github.com/PolyAI-LDN/task-specific-datasets"
_RAW = "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data"
_CATEGORIES = "categories.json"
_COLUMNS = ["text", "category"]
# train.csv may be anybody's, so these folders are recognised by their name.
_FOLDERS = ("banking77", "banking_data", "BANKING77", "task-specific-datasets/banking_data")
_ARCHIVES = (
    "banking77.zip",
    "banking_data.zip",
    "task-specific-datasets-master.zip",
    "banking77/task-specific-datasets-master.zip",
)
_PLACES = [
    *(f"{above}{folder}/train.csv" for above in ("", "text/") for folder in _FOLDERS),
    *(f"{above}{archive}" for above in ("", "text/") for archive in _ARCHIVES),
    _CATEGORIES,  # data.root is the folder itself
]


class Banking77(Intents):
    """The intents of BANKING77 as classes.

    Args:
        split: `seeded` (25 / 25 / 27 intents), or a folder of lists.
        split_seed: the seed of the split.
        longest: the most characters of a text.
        drop_duplicates: whether texts of train that are nearly the same as texts of other splits are left out.
    """

    name = "banking77"
    official: ClassVar[Official | None] = Official(
        title="BANKING77",
        home=HOME,
        licence="CC BY 4.0",
        files=tuple(OfficialFile(name, f"{_RAW}/{name}", None, None) for name in ("train.csv", "test.csv", _CATEGORIES)),
    )
    published: ClassVar[Mapping[str, tuple[int, int]]] = {"train.csv": (77, 10_003), "test.csv": (77, 3_080)}
    sizes: ClassVar[Mapping[str, int]] = {"train": 25, "val": 25, "test": 27}

    def __init__(self, split: str, split_seed: Seed, longest: Longest, drop_duplicates: bool) -> None:
        super().__init__(split, split_seed, longest, drop_duplicates)

    def files(self, root: Path) -> list[Path]:
        found = find(root, _PLACES)
        if found is None or found.suffix == ".zip":
            return [] if found is None else [found]
        return [path for name in (*self.published, _CATEGORIES) if (path := found.with_name(name)).is_file()]

    def read(self, root: Path, scratch: Path) -> Iterator[Labelled]:
        assert self.official is not None
        found = find(root, _PLACES)
        if found is None:
            refuse_missing_root(root, self.name)
            found, *_ = [download(file, root / self.name) for file in self.official.files]
        where = found if found.suffix == ".zip" else found.parent
        files = open_packed(where, scratch)
        listed = member(files, _CATEGORIES)
        known = None if listed is None else _categories(files.read(listed), f"{printable(where)}: {listed}")
        for name, published in self.published.items():
            path = member(files, name)
            if path is None:
                raise refuse_missing(where, name, HOME)
            categories: set[str] = set()
            texts = 0
            for row in _rows(files.read(path), f"{printable(where)}: {path}"):
                if known is not None and row.label not in known:
                    raise BadInput(
                        f"{printable(where)}: {path}, line {row.place} has the category {printable(row.label)!r}, which is "
                        f"not in {_CATEGORIES}"
                    )
                categories.add(row.label)
                texts += 1
                yield row
            refuse_other_count(where, path, (len(categories), texts), published, HOME)


def _categories(content: bytes, where: str) -> set[str]:
    names = parsed(content, where)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{where} is no list of the names of categories; fetch it again from {HOME}")
    return set(names)


def _rows(content: bytes, where: str) -> Iterator[Labelled]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{where}, line {line} is not UTF-8; fetch the file again from {HOME}") from error
    rows = rows_in(io.StringIO(text, newline=""), where, ",")
    header = next(rows, None)
    if header is None or header.fields != _COLUMNS:
        has = "nothing" if header is None else printable(", ".join(header.fields))
        raise BadInput(f"{where} has to begin with the columns text,category, and has {has}; fetch it again from {HOME}")
    for line, fields in rows:
        if len(fields) != len(_COLUMNS) or not fields[1]:
            raise BadInput(f"{where}, line {line} is no text and category; fetch the file again from {HOME}")
        yield Labelled(fields[1], fields[0], line)
