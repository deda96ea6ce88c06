"""Which language is it? Paragraphs of the Universal Declaration of Human Rights, a class for each language.

The texts are those of the "UDHR in Unicode" project, which has them as udhr_txt.zip: a file udhr_<code>.txt for each
language, in UTF-8, whose first line is "Universal Declaration of Human Rights - " and the name of the language. A few more
lines and a line of dashes follow, and behind it the text with a paragraph a line. The packed form udhr.zip has a file
declaration/<code>.txt for each language with at least 30 paragraphs, without those first lines, and index.tsv with the
codes, tags, names and numbers of paragraphs.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import Seed
from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.getting.download import OfficialFile
from metashot.sources.getting.files import Files
from metashot.sources.official import Official, find, find_or_fetch
from metashot.sources.splitting import listed_splits, seeded_splits, sizes_by_shares
from metashot.sources.texts.code_points import cleaned
from metashot.sources.texts.packed import member, open_packed, places, refuse_missing
from metashot.sources.texts.text_source import Found, Labelled, Longest, Texts, in_lists

HOME = "https://www.unicode.org/udhr/"
INDEX, FOLDER = "index.tsv", "declaration"
FEWEST = 30  # paragraphs of a language
SHARES = {"train": 316, "val": 79, "test": 132}  # of the 527 languages
_FOLDERS = ("languages", "udhr", "udhr_txt")
_PLACES = places(_FOLDERS, (FOLDER, "udhr.zip", "udhr_txt.zip", "udhr_eng.txt"))
_HEADER = ["code", "language_tag", "name", "paragraphs"]
_TITLE = re.compile(r"\s*Universal Declaration of Human Rights - (.+)")
_DASHES = re.compile(r"\s*-{3,}\s*")
_HEADER_LINES = 20  # within which the line of dashes is


class _Language(NamedTuple):
    code: str
    name: str
    paragraphs: list[tuple[int, str]]  # with their lines
    file: str


class Languages(Texts):
    """The Universal Declaration of Human Rights in many languages.

    Args:
        split: `seeded` (316 / 79 / 132 languages, by the seed), or a folder of lists of names or codes.
        split_seed: the seed of the split.
        longest: the most characters of a paragraph.
        drop_duplicates: whether paragraphs of train that are nearly the same as those of other splits are left out.
    """

    name = "languages"
    official: ClassVar[Official | None] = Official(
        title="Universal Declaration of Human Rights",
        home=HOME,
        licence="free to use; the texts are of the Office of the High Commissioner for Human Rights",
        files=(OfficialFile("udhr_txt.zip", "https://www.unicode.org/udhr/assemblies/udhr_txt.zip", None, None),),
    )
    published: ClassVar[tuple[int, int]] = (527, 30_757)  # languages and paragraphs of udhr.zip

    def __init__(self, split: str, split_seed: Seed, longest: Longest, drop_duplicates: bool) -> None:
        self.lists = listed_splits(split, ("seeded",))
        super().__init__(longest, drop_duplicates, {"split": self.lists or split, "split_seed": split_seed})
        self.split = split
        self.split_seed = split_seed
        self._names: dict[str, str] = {}  # of the languages, by their codes

    def files(self, root: Path) -> list[Path]:
        found = find(root, _PLACES)
        if found is None:
            return []
        if found.name == FOLDER:
            return [found, *(path for path in [found.with_name(INDEX)] if path.is_file())]
        return sorted(found.parent.glob("udhr_*.txt")) if found.suffix == ".txt" else [found]

    def read(self, root: Path, scratch: Path) -> Iterator[Labelled]:
        assert self.official is not None
        found = find_or_fetch(root, _PLACES, self.official.files[0], self.name)
        where = found.parent if found.name == FOLDER or found.suffix == ".txt" else found
        files = open_packed(where, scratch)
        languages = self._unicode(files, where) if _is_unicode(files) else self._indexed(files, where)
        self._names = _distinct(languages)
        for language in languages:
            for number, paragraph in language.paragraphs:
                yield Labelled(self._names[language.code], paragraph, f"{language.file}, line {number}")

    def divide(self, root: Path, found: Found, counts: NDArray[np.int64]) -> Found:
        classes = found["train"]
        if self.lists is not None:
            lists = {split: [self._names.get(name, name) for name in names] for split, names in self.lists.items()}
            return in_lists(classes, lists, f"data.source.split={self.split}", "the declaration")
        sizes = sizes_by_shares(len(classes), SHARES)
        by_code = seeded_splits(self._names, sizes, self.split_seed)  # codes are the same in both forms
        lists = {split: [self._names[code] for code in codes] for split, codes in by_code.items()}
        return in_lists(classes, lists, f"data.source.split={self.split}", "the declaration")

    def _indexed(self, files: Files, where: Path) -> list[_Language]:
        """The languages of the packed form, checked by its index."""
        index = member(files, INDEX)
        if index is None:
            raise refuse_missing(where, INDEX, HOME)
        base = index.removesuffix(INDEX)
        inside = {name.removeprefix(f"{base}{FOLDER}/") for name in files.names() if name.startswith(f"{base}{FOLDER}/")}
        lines = _lines(files.read(index), f"{printable(where)}: {index}")
        if not lines or lines[0].split("\t") != _HEADER:
            raise BadInput(f"{printable(where)}: {index} does not begin with the columns {', '.join(_HEADER)}")
        languages: list[_Language] = []
        for number, line in enumerate(lines[1:], 2):
            fields, place = line.split("\t"), f"{printable(where)}: {index}, line {number}"
            if len(fields) != len(_HEADER) or not (fields[3].isascii() and fields[3].isdecimal()) or not cleaned(fields[2]):
                raise BadInput(f"{place} is no code, tag, name and number of paragraphs, divided by tabs")
            file = f"{fields[0]}.txt"
            if file not in inside:
                raise BadInput(f"{place} names {printable(fields[0])}, but {FOLDER}/{printable(file)} is not there")
            path = f"{base}{FOLDER}/{file}"
            paragraphs = [
                (n, text)
                for n, text in enumerate(_lines(files.read(path), f"{printable(where)}: {path}"), 1)
                if text.strip()
            ]
            if len(paragraphs) != int(fields[3]):
                raise BadInput(
                    f"{printable(where)}: {path} has {len(paragraphs)} paragraphs, but {index} says {fields[3]} on line "
                    f"{number}"
                )
            languages.append(_Language(fields[0], cleaned(fields[2]), paragraphs, path))
        codes = Counter(language.code for language in languages)
        if twice := [code for code, count in codes.items() if count > 1]:
            raise BadInput(f"{printable(where)}: {index} has the code {printable(twice[0])} {codes[twice[0]]} times")
        if unknown := sorted(inside - {f"{code}.txt" for code in codes}):
            raise BadInput(f"{printable(where)}: {index} has no line for {FOLDER}/{printable(unknown[0])}")
        counted = len(languages), sum(len(language.paragraphs) for language in languages)
        if counted != self.published:
            raise BadInput(
                f"{printable(where)} has {counted[0]} languages and {counted[1]:,} paragraphs, but {self.published[0]} and "
                f"{self.published[1]:,} were published: it is not whole"
            )
        return languages

    def _unicode(self, files: Files, where: Path) -> list[_Language]:
        """The languages of the files of Unicode, whose number grows from year to year."""
        languages: list[_Language] = []
        short = 0
        for file in files.names():
            code = _code(file)
            if code is None:
                continue
            place = f"{printable(where)}: {printable(file)}"
            lines = _lines(files.read(file), place)
            title = _TITLE.fullmatch(lines[0]) if lines else None
            dashes = next((n for n, line in enumerate(lines[:_HEADER_LINES]) if _DASHES.fullmatch(line)), None)
            if title is None or dashes is None:
                raise BadInput(
                    f"{place} is not a file of UDHR in Unicode: it begins with the title and the name of the language, and "
                    f"a line of dashes is among its first {_HEADER_LINES} lines; fetch udhr_txt.zip again from {HOME}"
                )
            paragraphs = [(n, text) for n, text in enumerate(lines[dashes + 1 :], dashes + 2) if text.strip()]
            if len(paragraphs) < FEWEST:
                short += 1
            else:
                languages.append(_Language(code, cleaned(title[1]), paragraphs, file))
        if short:
            self.notes.append(f"{short} languages have fewer than {FEWEST} paragraphs and are left out")
        if len(languages) < 6:
            raise BadInput(
                f"{printable(where)} has {len(languages)} languages with at least {FEWEST} paragraphs; 6 are needed"
            )
        return languages


def _distinct(languages: list[_Language]) -> dict[str, str]:
    """A name for each code; languages of the same name have their codes behind it."""
    names = Counter(language.name for language in languages)
    return {one.code: one.name if names[one.name] == 1 else f"{one.name} ({one.code})" for one in languages}


def _is_unicode(files: Files) -> bool:
    return any(_code(name) for name in files.names())


def _code(name: str) -> str | None:
    file = name.rpartition("/")[2]
    return file[5:-4] if file.startswith("udhr_") and file.endswith(".txt") and len(file) > 9 else None


def _lines(content: bytes, where: str) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{where}, line {line} is not UTF-8; fetch the file again from {HOME}") from error
    return text.replace("\r\n", "\n").rstrip("\n").split("\n") if text else []
