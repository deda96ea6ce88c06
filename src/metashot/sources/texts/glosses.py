"""Glosses of WordNet 3.1 (Fellbaum 1998, "WordNet: an electronic lexical database"), from its database files.

A class is a lexicographer file, such as noun.animal: the broad field of a word. An item is the gloss of a synset, its
definition with example sentences.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from metashot.arguments import AtLeast, AtMost, Seed
from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.getting.download import OfficialFile
from metashot.sources.official import Official, find, find_or_fetch
from metashot.sources.splitting import listed_splits, seeded_splits, sizes_by_shares
from metashot.sources.texts.packed import member, open_packed, places, refuse_missing
from metashot.sources.texts.text_source import Found, Labelled, Longest, Texts, in_lists

HOME = "https://wordnet.princeton.edu/download/current-version"
# lexnames(5WN), by number
CLASSES = (
    *("adj.all", "adj.pert", "adv.all"),
    *("noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute", "noun.body", "noun.cognition"),
    *("noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group", "noun.location", "noun.motive"),
    *("noun.object", "noun.person", "noun.phenomenon", "noun.plant", "noun.possession", "noun.process", "noun.quantity"),
    *("noun.relation", "noun.shape", "noun.state", "noun.substance", "noun.time"),
    *("verb.body", "verb.change", "verb.cognition", "verb.communication", "verb.competition", "verb.consumption"),
    *("verb.contact", "verb.creation", "verb.emotion", "verb.motion", "verb.perception", "verb.possession", "verb.social"),
    *("verb.stative", "verb.weather", "adj.ppl"),
)
# The noun classes with at least 100 glosses, assigned once by `seeded_splits` with seed 0.
NOUNS = {
    "train": [
        "noun.attribute",
        "noun.communication",
        "noun.event",
        "noun.feeling",
        "noun.group",
        "noun.location",
        "noun.phenomenon",
        "noun.process",
        "noun.quantity",
        "noun.relation",
        "noun.substance",
        "noun.time",
    ],
    "val": ["noun.animal", "noun.cognition", "noun.food", "noun.person", "noun.shape"],
    "test": ["noun.act", "noun.artifact", "noun.body", "noun.object", "noun.plant", "noun.possession", "noun.state"],
}
SIZES = {"train": 12, "val": 5, "test": 7}
PARTS = ("noun", "verb", "adj", "adv")
_NAMES = ("dict", "wn3.1.dict.tar.gz", "WNdb-3.1.tar.gz", "wordnet-3.1.zip", "wordnet31.zip")
# A folder called dict may be anybody's, so it is recognised by its largest file.
_PLACES = places(("glosses", "wordnet", "WordNet", "WordNet-3.1", "wordnet31"), ("dict/data.noun", "data.noun", *_NAMES[1:]))
_LINE = re.compile(rb"(\d{8}) (\d\d) [nvasr] [0-9a-f]{2} ")
_BAR = b" | "
_EXAMPLES = re.compile(r'[;:,.]?\s+"')  # what is behind it

Part = Literal["noun", "verb", "adj", "adv"]


class Glosses(Texts):
    """The glosses of WordNet, whose classes are its lexicographer files.

    Args:
        split: `nouns` (12 / 5 / 7 classes), `seeded` (the same shares of whatever classes there are), or a folder of lists.
        split_seed: the seed of split=seeded.
        parts: the parts of speech: noun, verb, adj, adv.
        fewest: classes with fewer glosses are left out.
        examples: whether glosses keep their example sentences.
        longest: the most characters of a gloss.
        drop_duplicates: whether glosses of train that are nearly the same as those of other splits are left out.
    """

    name = "glosses"
    official: ClassVar[Official | None] = Official(
        title="WordNet 3.1",
        home=HOME,
        licence="WordNet licence (free with its notice)",
        files=(OfficialFile("wn3.1.dict.tar.gz", "https://wordnetcode.princeton.edu/wn3.1.dict.tar.gz", None, None),),
    )
    published: ClassVar[Mapping[str, int]] = {"noun": 82_192, "verb": 13_789, "adj": 18_185, "adv": 3_625}  # synsets

    def __init__(
        self,
        split: str,
        split_seed: Seed,
        parts: list[Part],
        fewest: Annotated[int, AtLeast(1), AtMost(10**6)],
        examples: bool,
        longest: Longest,
        drop_duplicates: bool,
    ) -> None:
        if not parts or len(set(parts)) < len(parts):
            raise BadInput(f"data.source.parts={parts} cannot be used; allowed: some of {', '.join(PARTS)}, each once")
        self.lists = NOUNS if split == "nouns" else listed_splits(split, ("nouns", "seeded"))
        options: dict[str, Any] = {"split": self.lists or split, "parts": sorted(parts), "fewest": fewest}
        super().__init__(longest, drop_duplicates, options | {"split_seed": split_seed, "examples": examples})
        self.split = split
        self.split_seed = split_seed
        self.parts = [part for part in PARTS if part in parts]
        self.fewest = fewest
        self.examples = examples

    def files(self, root: Path) -> list[Path]:
        found = find(root, _PLACES)
        if found is None or found.name != "data.noun":
            return [] if found is None else [found]
        return [path for part in self.parts if (path := found.with_name(f"data.{part}")).is_file()]

    def read(self, root: Path, scratch: Path) -> Iterator[Labelled]:
        assert self.official is not None
        found = find_or_fetch(root, _PLACES, self.official.files[0], self.name)
        files = open_packed(found.parent if found.name == "data.noun" else found, scratch)
        for part in self.parts:
            name = member(files, f"data.{part}")
            if name is None:
                raise refuse_missing(found, f"data.{part}", HOME)
            yield from self._glosses(
                files.read(name), part, f"{printable(found)}: {name}" if name not in str(found) else str(found)
            )

    def divide(self, root: Path, found: Found, counts: NDArray[np.int64]) -> Found:
        classes = {name: label for name, label in found["train"].items() if counts[label] >= self.fewest}
        if self.lists is not None:
            return in_lists(classes, self.lists, f"data.source.split={self.split}", self._described())
        if len(classes) < 6:
            raise BadInput(f"{self._described()} has {len(classes)} classes; at least 6 are needed, 2 for each split")
        lists = seeded_splits(classes, sizes_by_shares(len(classes), SIZES), self.split_seed)
        return in_lists(classes, lists, f"data.source.split={self.split}", self.name)

    def _described(self) -> str:
        return f"data.source.parts=[{','.join(self.parts)}] with data.source.fewest={self.fewest}"

    def _glosses(self, content: bytes, part: str, where: str) -> Iterator[Labelled]:
        """The glosses of a data file, whose lines begin with their own place in the file."""
        place, synsets = 0, 0
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            if not line.startswith(b"  "):  # as those of the licence do
                yield Labelled(*self._gloss(line, place, part, f"{where}, line {number}"), number)
                synsets += 1
            place += len(line)
        if synsets != self.published[part]:
            raise BadInput(
                f"{where} has {synsets:,} synsets, but {self.published[part]:,} were published; fetch it again from {HOME}"
            )

    def _gloss(self, line: bytes, place: int, part: str, where: str) -> tuple[str, str]:
        head, behind = _LINE.match(line), line.partition(_BAR)[2]
        number = int(head[2]) if head else len(CLASSES)
        if head is None or not behind or not line.endswith(b"\n") or number >= len(CLASSES):
            raise BadInput(f"{where} is no line of a WordNet database; fetch the file again from {HOME}")
        if int(head[1]) != place:
            raise BadInput(
                f"{where} says that it begins at byte {int(head[1]):,} and begins at byte {place:,}: the lines before it "
                f"were changed, as by another end of lines; fetch the file again from {HOME}"
            )
        if not CLASSES[number].startswith(part):
            raise BadInput(f"{where} is of {CLASSES[number]}, and not of {part}; fetch the file again from {HOME}")
        try:
            gloss = behind.decode().strip()
        except UnicodeDecodeError as error:
            raise BadInput(f"{where} is not UTF-8; fetch the file again from {HOME}") from error
        if not self.examples and not gloss.startswith('"'):
            gloss = _EXAMPLES.split(gloss, maxsplit=1)[0]
        return CLASSES[number], gloss
