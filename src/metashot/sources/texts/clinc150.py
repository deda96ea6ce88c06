"""CLINC150: Larson et al. 2019, "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction".

22,500 requests to an assistant, of 150 intents in ten domains, 150 each; and requests of no intent (`oos`), which are left
out. For unseen classes, the examples of all three parts are put together, and the intents are divided into 50 / 50 / 50 as
in Dopierre, Gravier, Logerais 2021, whose lists differ; or whole domains are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from metashot.arguments import Seed
from metashot.bad_input import BadInput
from metashot.files.paths import printable
from metashot.sources.getting.download import OfficialFile, download
from metashot.sources.official import Official, find, refuse_missing_root
from metashot.sources.splitting import seeded_splits
from metashot.sources.texts.intents import Intents, refuse_other_count
from metashot.sources.texts.json_text import kind_of, parsed
from metashot.sources.texts.packed import member, open_packed, places, refuse_missing
from metashot.sources.texts.text_source import Labelled, Longest

HOME = "https://github.com/clinc/oos-eval"
FILE, DOMAINS = "data_full.json", "domains.json"
_RAW = f"{HOME.replace('github.com', 'raw.githubusercontent.com')}/master/data"
_FOLDERS = ("clinc150", "clinc150/data", "clinc150_uci", "oos-eval/data", "oos-eval-master/data", "data")
_PLACES = [
    *places(_FOLDERS, (FILE,)),
    *places(("clinc150",), ("clinc150.zip", "clinc150_uci.zip", "oos-eval-master.zip")),
]
_OUT_OF_SCOPE = "oos"


class Clinc150(Intents):
    """The intents of CLINC150 as classes.

    Args:
        split: `seeded` (50 / 50 / 50 intents), `domains` (those of 5 / 2 / 3 domains, drawn by seed), or a folder of lists.
        split_seed: the seed of the split.
        longest: the most characters of a text.
        drop_duplicates: whether texts of train that are nearly the same as texts of other splits are left out.
    """

    name = "clinc150"
    official: ClassVar[Official | None] = Official(
        title="CLINC150",
        home=HOME,
        licence="CC BY 3.0",
        files=tuple(OfficialFile(name, f"{_RAW}/{name}", None, None) for name in (FILE, DOMAINS)),
    )
    published: ClassVar[Mapping[str, tuple[int, int]]] = {  # intents and requests
        "train": (150, 15_000),
        "val": (150, 3_000),
        "test": (150, 4_500),
        "oos_train": (1, 100),
        "oos_val": (1, 100),
        "oos_test": (1, 1_000),
    }
    domains: ClassVar[Mapping[str, int]] = {"train": 5, "val": 2, "test": 3}
    sizes: ClassVar[Mapping[str, int]] = {"train": 50, "val": 50, "test": 50}

    def __init__(self, split: str, split_seed: Seed, longest: Longest, drop_duplicates: bool) -> None:
        super().__init__(split, split_seed, longest, drop_duplicates, ("seeded", "domains"))
        self._domains: dict[str, list[str]] = {}

    def files(self, root: Path) -> list[Path]:
        found = find(root, _PLACES)
        if found is None or found.suffix == ".zip":
            return [] if found is None else [found]
        return [path for name in (FILE, DOMAINS) if (path := found.with_name(name)).is_file()]

    def read(self, root: Path, scratch: Path) -> Iterator[Labelled]:
        assert self.official is not None
        found = find(root, _PLACES)
        if found is None:
            refuse_missing_root(root, self.name)
            found, *_ = [download(file, root / self.name) for file in self.official.files]
        where = found if found.suffix == ".zip" else found.parent
        files = open_packed(where, scratch)
        path = FILE if found.suffix != ".zip" else member(files, FILE)
        if path is None:
            raise refuse_missing(where, FILE, HOME)
        content = parsed(files.read(path), f"{printable(where)}: {path}")
        parts = content if isinstance(content, dict) else {}
        missing = [name for name in self.published if not isinstance(parts.get(name), list)]
        if missing:
            raise BadInput(f"{printable(where)}: {path} has no list {missing[0]!r}; fetch {FILE} again from {HOME}")
        for part, published in self.published.items():
            rows = [_row(value, f"{part}[{n}]", f"{printable(where)}: {path}") for n, value in enumerate(parts[part])]
            refuse_other_count(where, f"{part} of {path}", (len({row.label for row in rows}), len(rows)), published, HOME)
            yield from (row for row in rows if row.label != _OUT_OF_SCOPE)
        beside = path.removesuffix(FILE) + DOMAINS
        if self.split == "domains":
            if beside not in files.names():
                raise refuse_missing(where, DOMAINS, HOME)
            self._domains = _read_domains(files.read(beside), f"{printable(where)}: {beside}")

    def own_lists(self, classes: Mapping[str, int]) -> dict[str, list[str]]:
        if self.split != "domains":
            return super().own_lists(classes)
        counted = Counter(intent for intents in self._domains.values() for intent in intents)
        wrong = sorted(counted.keys() ^ classes.keys()) or [intent for intent, count in counted.items() if count > 1]
        if wrong or len(self._domains) != sum(self.domains.values()):
            what = f"does not have {printable(wrong[0])} once" if wrong else f"has {len(self._domains)} domains"
            raise BadInput(f"{DOMAINS} of {self.name} {what}, unlike the published one; fetch it again from {HOME}")
        lists = seeded_splits(self._domains, self.domains, self.split_seed)
        return {split: sorted(intent for name in names for intent in self._domains[name]) for split, names in lists.items()}


def _row(value: Any, place: str, where: str) -> Labelled:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(one, str) for one in value) or not value[1]:
        raise BadInput(
            f"{where}: {place} is {kind_of(value)}, and no list of a text and an intent; fetch it again from {HOME}"
        )
    return Labelled(value[1], value[0], place)


def _read_domains(content: bytes, where: str) -> dict[str, list[str]]:
    domains = parsed(content, where)
    if not isinstance(domains, dict) or not all(
        isinstance(intents, list) and all(isinstance(intent, str) for intent in intents) for intents in domains.values()
    ):
        raise BadInput(f"{where} does not have a list of intents for each domain; fetch it again from {HOME}")
    return domains
