"""BANKING77, CLINC150 and HuffPost from small files in their official forms: their counts and forms are checked."""

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from metashot.sources.texts.banking77 import Banking77
from metashot.sources.texts.clinc150 import Clinc150
from metashot.sources.texts.huffpost import BAO, CATEGORIES, HuffPost
from metashot.sources.texts.text_source import Texts
from tests.sources.texts.drawn import all_classes, complaint, texts_by_class

INTENTS = [f"intent_{number}" for number in range(8)]
PLAIN: dict[str, Any] = {"split_seed": 0, "longest": 256, "drop_duplicates": False}


def sentence(label: str, number: int) -> str:
    return f'I ask for {label}, "number" {number * 7919}\nplease'


def cleaned(label: str, number: int) -> str:
    return sentence(label, number).replace("\n", " ")


class SmallBanking(Banking77):
    published = {"train.csv": (8, 24), "test.csv": (8, 16)}  # noqa: RUF012
    sizes = {"train": 4, "val": 2, "test": 2}  # noqa: RUF012


def banking(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, numbers in (("train.csv", range(3)), ("test.csv", range(3, 5))):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "category"])
            writer.writerows([sentence(intent, number), intent] for intent in INTENTS for number in numbers)
    (folder / "categories.json").write_text(json.dumps(INTENTS))
    return folder


class SmallClinc(Clinc150):
    published = {  # noqa: RUF012
        "train": (8, 24),
        "val": (8, 8),
        "test": (8, 8),
        "oos_train": (1, 2),
        "oos_val": (1, 2),
        "oos_test": (1, 3),
    }
    sizes = {"train": 4, "val": 2, "test": 2}  # noqa: RUF012
    domains = {"train": 2, "val": 1, "test": 1}  # noqa: RUF012


def clinc(folder: Path) -> Path:
    folder.mkdir(parents=True)
    parts = {"train": range(3), "val": range(3, 4), "test": range(4, 5)}
    content: dict[str, Any] = {
        part: [[sentence(intent, n), intent] for intent in INTENTS for n in numbers] for part, numbers in parts.items()
    }
    content |= {f"oos_{part}": [["what", "oos"]] * size for part, size in (("train", 2), ("val", 2), ("test", 3))}
    (folder / "data_full.json").write_text(json.dumps(content))
    (folder / "domains.json").write_text(json.dumps({f"domain {n}": INTENTS[2 * n : 2 * n + 2] for n in range(4)}))
    return folder


class SmallHuffPost(HuffPost):
    published = {  # noqa: RUF012
        "News_Category_Dataset_v3.json": (42, 84),
        "News_Category_Dataset_v2.json": (41, 82),
        "huffpost.json": (41, 82),
    }


def huffpost(folder: Path, name: str = "News_Category_Dataset_v3.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for label, category in enumerate([*CATEGORIES, *(["U.S. NEWS"] if "v3" in name else [])]):
        for number in range(2):
            if name == "huffpost.json":
                value: dict[str, Any] = {"text": cleaned(category, number).split(), "label": label}
            else:
                value = {
                    "link": "https://",
                    "headline": sentence(category, number),
                    "category": category,
                    "date": "2022-09-23",
                }
            lines.append(json.dumps(value))
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def archive(folder: Path, path: Path, inside: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(folder.iterdir()):
            packed.write(file, inside + file.name)
    return path.parent


def expected(labels: list[str], count: int) -> dict[str, list[str]]:
    return {label: [cleaned(label, number) for number in range(count)] for label in labels}


def test_questions_of_both_files_of_banking77_are_in_the_classes_of_their_intents(tmp_path: Path) -> None:
    banking(tmp_path / "plain" / "banking77")
    found = texts_by_class(SmallBanking("seeded", **PLAIN), tmp_path / "plain", tmp_path / "scratch")
    assert {split: len(classes) for split, classes in found.items()} == {"train": 4, "val": 2, "test": 2}
    assert {name: texts for classes in found.values() for name, texts in classes.items()} == expected(INTENTS, 5)
    root = archive(tmp_path / "plain" / "banking77", tmp_path / "zip" / "banking77.zip", "banking_data/")
    assert texts_by_class(SmallBanking("seeded", **PLAIN), root, tmp_path / "scratch") == found
    itself = tmp_path / "plain" / "banking77"
    assert texts_by_class(SmallBanking("seeded", **PLAIN), itself, tmp_path / "scratch") == found
    assert [path.name for path in SmallBanking("seeded", **PLAIN).files(itself)] == [
        "train.csv",
        "test.csv",
        "categories.json",
    ]


@pytest.mark.parametrize(
    ("file", "before", "after", "words"),
    [
        (
            "train.csv",
            "text,category",
            "sentence,label",
            "train.csv has to begin with the columns text,category, and has sentence",
        ),
        ("train.csv", ",intent_3", "", "train.csv, line 20 is no text and category"),
        ("train.csv", ",intent_3", ",other", "line 20 has the category 'other', which is not in categories.json"),
        ("categories.json", '"intent_0", ', "", "line 2 has the category 'intent_0', which is not in"),
        ("categories.json", "[", "{", "categories.json is no JSON"),
        ("test.csv", "please", "\udcff", "test.csv, line 3 is not UTF-8"),
        ("test.csv", '"I ask', "I ask", "test.csv is no CSV file: line 2"),
    ],
)
def test_damage_of_banking77_is_said_with_file_and_line(
    tmp_path: Path, file: str, before: str, after: str, words: str
) -> None:
    path = banking(tmp_path / "banking77") / file
    content = path.read_bytes()
    path.write_bytes(content.replace(before.encode(), after.encode("utf-8", "surrogateescape"), 1))
    assert words in complaint(SmallBanking("seeded", **PLAIN), tmp_path, tmp_path / "scratch")


def test_banking77_is_counted(tmp_path: Path) -> None:
    root = banking(tmp_path / "banking77").parent
    said = complaint(Banking77("seeded", **PLAIN), root, tmp_path / "scratch")
    assert "train.csv has 8 classes and 24 texts, but 77 and 10,003 were published" in said
    (root / "banking77" / "test.csv").unlink()
    assert "has no test.csv" in complaint(SmallBanking("seeded", **PLAIN), root, tmp_path / "scratch")


def test_requests_of_all_parts_of_clinc150_are_in_the_classes_of_their_intents(tmp_path: Path) -> None:
    clinc(tmp_path / "plain" / "clinc150")
    found = texts_by_class(SmallClinc("seeded", **PLAIN), tmp_path / "plain", tmp_path / "scratch")
    assert {name: texts for classes in found.values() for name, texts in classes.items()} == expected(INTENTS, 5)
    root = archive(tmp_path / "plain" / "clinc150", tmp_path / "zip" / "text" / "clinc150_uci.zip", "clinc150_uci/").parent
    assert texts_by_class(SmallClinc("seeded", **PLAIN), root, tmp_path / "scratch") == found
    for place in (tmp_path / "plain", root):
        divided = texts_by_class(SmallClinc("domains", **PLAIN), place, tmp_path / "scratch")
        assert {split: len(classes) for split, classes in divided.items()} == {"train": 4, "val": 2, "test": 2}
        for classes in divided.values():  # both intents of a domain are in one split
            numbers = {int(name.removeprefix("intent_")) for name in classes}
            assert {number ^ 1 for number in numbers} == numbers


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"oos_val"', '"oos"', "data_full.json has no list 'oos_val'"),
        ('"train": [[', '"train": [7, [', "train[0] is a number, and no list of a text and an intent"),
        ('"train": [["', '"train": [[null, "', "train[0] is a list, and no list of a text and an intent"),
        ('"intent_0"]', '"intent_x"]', "train of data_full.json has 9 classes and 24 texts, but 8 and 24 were published"),
        ('["what", "oos"], ', "", "oos_train of data_full.json has 1 classes and 1 texts, but 1 and 2"),
        ('"train":', '"train": [], "train":', "an object has the key 'train' twice"),
        ("{", "", "data_full.json is no JSON"),
        ("I ask", "\udcff", "data_full.json cannot be read: it is not UTF-8"),
    ],
)
def test_damage_of_clinc150_is_said(tmp_path: Path, before: str, after: str, words: str) -> None:
    path = clinc(tmp_path / "clinc150") / "data_full.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(before.encode(), after.encode("utf-8", "surrogateescape"), 1))
    assert words in complaint(SmallClinc("seeded", **PLAIN), tmp_path, tmp_path / "scratch")


def test_domains_of_clinc150_are_checked(tmp_path: Path) -> None:
    path = clinc(tmp_path / "clinc150") / "domains.json"
    content = path.read_text()
    for before, after, words in (
        ('"intent_0"', '"intent_1"', "does not have intent_0 once"),
        ('"intent_0"', "7", "does not have a list of intents for each domain"),
        ("domain 1", "domain 0", "has the key 'domain 0' twice"),
    ):
        path.write_text(content.replace(before, after, 1))
        assert words in complaint(SmallClinc("domains", **PLAIN), tmp_path, tmp_path / "scratch")
    path.unlink()
    assert "has no domains.json" in complaint(SmallClinc("domains", **PLAIN), tmp_path, tmp_path / "scratch")


def test_headlines_are_divided_as_in_bao_et_al(tmp_path: Path) -> None:
    made: list[dict[str, dict[str, list[str]]]] = []
    for name in SmallHuffPost.published:
        root = huffpost(tmp_path / name / "huffpost", name).parent
        made.append(texts_by_class(SmallHuffPost("bao", **PLAIN), root, tmp_path / "scratch"))
        packed = archive(root / "huffpost", tmp_path / f"{name} packed" / "huffpost" / "archive.zip").parent
        assert texts_by_class(SmallHuffPost("bao", **PLAIN), packed, tmp_path / "scratch") == made[-1]
    assert made[0] == made[1] == made[2]
    assert {split: sorted(classes) for split, classes in made[0].items()} == {
        split: sorted(names) for split, names in BAO.items()
    }
    assert [len(names) for names in BAO.values()] == [20, 5, 16]
    assert {name: texts for classes in made[0].values() for name, texts in classes.items()} == expected(list(CATEGORIES), 2)
    root = tmp_path / "News_Category_Dataset_v3.json"
    seeded = texts_by_class(SmallHuffPost("seeded", **PLAIN), root, tmp_path / "scratch")
    assert sum(map(len, seeded.values())) == 42
    assert "has 42 classes and 84 texts, but 42 and 209,527" in complaint(
        HuffPost("bao", **PLAIN), root, tmp_path / "scratch"
    )


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("News_Category_Dataset_v3.json", '{"category": "X"}', "line 1 has no headline"),
        ("News_Category_Dataset_v3.json", '{"category": 7, "headline": "X"}', "line 1 has a number as its category"),
        ("News_Category_Dataset_v3.json", '{"category": "X", "headline": null}', "line 1 has null as its headline"),
        ("News_Category_Dataset_v3.json", "[1]", "line 1 is a list and no object"),
        ("News_Category_Dataset_v3.json", "[" * 100_000, "line 1 is no JSON of texts: it is nested too deeply"),
        ("News_Category_Dataset_v3.json", "{", "line 1 is no JSON"),
        ("huffpost.json", '{"text": "X", "label": 1}', "line 1 has 'X' as its text, and no list of words"),
        ("huffpost.json", '{"text": ["X"], "label": 41}', "line 1 has a number as its label; allowed: 0 to 40"),
        ("huffpost.json", '{"text": ["X"], "label": true}', "line 1 has true as its label"),
    ],
)
def test_damage_of_huffpost_is_said_with_its_line(tmp_path: Path, name: str, line: str, words: str) -> None:
    path = huffpost(tmp_path / "huffpost", name) / name
    path.write_text(line + "\n" + path.read_text())
    said = complaint(SmallHuffPost("bao", **PLAIN), tmp_path, tmp_path / "scratch")
    assert words in said
    assert len(said) < 500


def test_headlines_cannot_be_fetched_and_the_message_says_where_they_are(tmp_path: Path) -> None:
    said = complaint(HuffPost("bao", **PLAIN), tmp_path, tmp_path / "scratch")
    assert "News_Category_Dataset_v3.json is not in" in said
    assert "https://www.kaggle.com/" in said
    assert "is not a folder" in complaint(HuffPost("bao", **PLAIN), tmp_path / "gone", tmp_path / "scratch")


def test_lists_of_ones_own_are_obeyed(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for number, split in enumerate(("train", "val", "test")):
        (lists / f"{split}.txt").write_text("\n".join(INTENTS[2 * number : 2 * number + 2]))
    banking(tmp_path / "banking77")
    clinc(tmp_path / "clinc150")
    made: list[Texts] = [SmallBanking(str(lists), **PLAIN), SmallClinc(str(lists), **PLAIN)]
    for one in made:
        assert set(all_classes(one, tmp_path, tmp_path / "scratch")) == set(INTENTS[:6])
        assert set(one.splits()["test"]) == set(INTENTS[4:6])
