"""HuffPost headlines: Misra 2022, "News Category Dataset"; as few-shot classes in Bao, Wu, Chang, Barzilay 2020.

A class is a category of the news site, an item a headline. Bao et al. use 900 headlines of each of 41 categories, divided
by their rank in the whole set into 20 / 5 / 16; `split=bao` divides in the same way and keeps all headlines of the file.
Their own file, huffpost.json, is read, too.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from metashot.arguments import Seed
from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.official import Official, find, refuse_missing_root
from metashot.sources.splitting import seeded_splits, sizes_by_shares
from metashot.sources.texts.intents import Intents, refuse_other_count
from metashot.sources.texts.json_text import kind_of, parsed
from metashot.sources.texts.packed import member, open_packed, places, refuse_missing
from metashot.sources.texts.text_source import Labelled, Longest

HOME = "https://www.kaggle.com/datasets/rmisra/news-category-dataset"
# The categories by their number in the code of Bao et al.; the first 20 are for training, the next five for validation.
CATEGORIES = (
    *("POLITICS", "WELLNESS", "ENTERTAINMENT", "TRAVEL", "STYLE & BEAUTY", "PARENTING", "HEALTHY LIVING", "QUEER VOICES"),
    *("FOOD & DRINK", "BUSINESS", "COMEDY", "SPORTS", "BLACK VOICES", "HOME & LIVING", "PARENTS", "THE WORLDPOST"),
    *("WEDDINGS", "WOMEN", "IMPACT", "DIVORCE", "CRIME", "MEDIA", "WEIRD NEWS", "GREEN", "WORLDPOST", "RELIGION", "STYLE"),
    *("SCIENCE", "WORLD NEWS", "TASTE", "TECH", "MONEY", "ARTS", "FIFTY", "GOOD NEWS", "ARTS & CULTURE", "ENVIRONMENT"),
    *("COLLEGE", "LATINO VOICES", "CULTURE & ARTS", "EDUCATION"),
)
BAO = {"train": CATEGORIES[:20], "val": CATEGORIES[20:25], "test": CATEGORIES[25:]}
FEW_SHOT = "huffpost.json"
_FOLDERS = ("huffpost", "HuffPost", "News_Category_Dataset", "archive")
_FILES = ("News_Category_Dataset_v3.json", "News_Category_Dataset_v2.json", FEW_SHOT)
_ARCHIVES = ("huffpost.zip", "news-category-dataset.zip", *(f"{name}.zip" for name in _FILES))
_PLACES = [*places(_FOLDERS, (*_FILES, *_ARCHIVES)), "huffpost/archive.zip", "text/huffpost/archive.zip"]


class HuffPost(Intents):
    """The categories of HuffPost's headlines as classes.

    Args:
        split: `bao` (the 20 / 5 / 16 categories of Bao et al.), `seeded` (the same shares of all), or a folder of lists.
        split_seed: the seed of split=seeded.
        longest: the most characters of a headline.
        drop_duplicates: whether texts of train that are nearly the same as texts of other splits are left out.
    """

    name = "huffpost"
    official: ClassVar[Official | None] = Official(
        title="News Category Dataset (HuffPost)", home=HOME, licence="CC BY 4.0", files=()
    )
    published: ClassVar[Mapping[str, tuple[int, int]]] = {  # categories and headlines
        "News_Category_Dataset_v3.json": (42, 209_527),
        "News_Category_Dataset_v2.json": (41, 200_853),
        FEW_SHOT: (41, 36_900),
    }

    def __init__(self, split: str, split_seed: Seed, longest: Longest, drop_duplicates: bool) -> None:
        super().__init__(split, split_seed, longest, drop_duplicates, ("bao", "seeded"))

    def files(self, root: Path) -> list[Path]:
        found = find(root, _PLACES)
        return [] if found is None else [found]

    def read(self, root: Path, scratch: Path) -> Iterator[Labelled]:
        found = find(root, _PLACES)
        if found is None:
            refuse_missing_root(root, self.name)
            raise BadInput(
                f"{_FILES[0]} is not in {printable(root)}, and {HOME} gives it only to those who log in: download it with a "
                f"browser and put it there, or into {printable(root / 'huffpost')}, packed or not"
            )
        where = found if found.suffix == ".zip" else found.parent
        if found.suffix == ".zip":
            files = open_packed(where, scratch)
            path = next((path for name in _FILES if (path := member(files, name))), None)
            if path is None:
                raise refuse_missing(where, _FILES[0], HOME)
            content = files.read(path)
        else:
            path = found.name
            content = open_packed(where, scratch).read(path)
        name = path.rpartition("/")[2]
        categories: set[str] = set()
        texts = 0
        for number, line in enumerate(io.BytesIO(content), 1):
            if line.strip():
                row = _row(line, number, f"{printable(where)}: {path}, line {number}", name == FEW_SHOT)
                categories.add(row.label)
                texts += 1
                yield row
        refuse_other_count(where, path, (len(categories), texts), self.published[name], HOME)

    def own_lists(self, classes: Mapping[str, int]) -> dict[str, list[str]]:
        if self.split == "bao":
            return {split: list(names) for split, names in BAO.items()}
        sizes = sizes_by_shares(len(classes), {split: len(names) for split, names in BAO.items()})
        return seeded_splits(classes, sizes, self.split_seed)


def _row(line: bytes, number: int, where: str, is_few_shot: bool) -> Labelled:
    value = parsed(line, where)
    if not isinstance(value, dict):
        raise BadInput(f"{where} is {kind_of(value)} and no object; fetch the file again from {HOME}")
    return _few_shot(value, number, where) if is_few_shot else _headline(value, number, where)


def _headline(value: dict[str, Any], number: int, where: str) -> Labelled:
    for key in ("category", "headline"):
        if not isinstance(value.get(key), str) or (key == "category" and not value[key]):
            has = f"has {kind_of(value[key])} as its {key}" if key in value else f"has no {key}"
            raise BadInput(f"{where} {has}; fetch the file again from {HOME}")
    return Labelled(value["category"], value["headline"], number)


def _few_shot(value: dict[str, Any], number: int, where: str) -> Labelled:
    """A line of the file of Bao et al., whose texts are lists of words and whose labels are numbers."""
    words, label = value.get("text"), value.get("label")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadInput(f"{where} has {kind_of(words)} as its text, and no list of words")
    if type(label) is not int or not 0 <= label < len(CATEGORIES):
        raise BadInput(f"{where} has {kind_of(label)} as its label; allowed: 0 to {len(CATEGORIES) - 1}")
    return Labelled(CATEGORIES[label], " ".join(words), number)
