"""The glosses of WordNet: all of them from the real files, in every form that people have, and damage said by its line."""

import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from metashot.bad_input import BadInput
from metashot.data.bank import Bank
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.splitting import seeded_splits
from metashot.sources.texts.code_points import texts_of
from metashot.sources.texts.glosses import CLASSES, NOUNS, SIZES, Glosses
from tests.sources.texts.drawn import all_classes, complaint, texts_by_class

EACH = 3
LICENCE = b"  1 This software and database is being provided to you, the LICENSEE, by\n"
NUMBERS = {"noun": range(3, 29), "verb": range(29, 44), "adj": (0, 1, 44), "adv": (2,)}


class SmallGlosses(Glosses):
    """Three glosses of each class."""

    published = {part: EACH * len(numbers) for part, numbers in NUMBERS.items()}  # noqa: RUF012


def source(kind: type[Glosses] = SmallGlosses, **options: Any) -> Glosses:
    usual: dict[str, Any] = {"split": "nouns", "split_seed": 0, "parts": ["noun"], "fewest": 1, "examples": True}
    return kind(**usual | {"longest": 256, "drop_duplicates": False} | options)


def gloss(number: int, place: int) -> str:
    return f'thing {number * 7919 % 1000} of {CLASSES[number]} {place * 271}; "the example {place}"'


def data_file(part: str) -> bytes:
    content = LICENCE
    for number in NUMBERS[part]:
        for place in range(EACH):
            letter = {"noun": "n", "verb": "v", "adj": "s", "adv": "r"}[part]
            content += f"{len(content):08} {number:02} {letter} 01 word 0 000 | {gloss(number, place)}  \n".encode()
    return content


def official(folder: Path) -> Path:
    (folder / "dict").mkdir(parents=True)
    for part in NUMBERS:
        (folder / "dict" / f"data.{part}").write_bytes(data_file(part))
    (folder / "dict" / "index.noun").write_text("not read")
    return folder


def test_glosses_are_in_the_classes_of_their_lexicographers(tmp_path: Path) -> None:
    found = texts_by_class(source(), official(tmp_path), tmp_path / "scratch")
    assert {split: sorted(classes) for split, classes in found.items()} == {
        split: sorted(names) for split, names in NOUNS.items()
    }
    for classes in found.values():
        for name, texts in classes.items():
            assert texts == [gloss(CLASSES.index(name), place) for place in range(EACH)]


def test_lists_of_noun_classes_are_those_that_the_seed_gave() -> None:
    names = [name for name in CLASSES if name.startswith("noun.") and name not in ("noun.Tops", "noun.motive")]
    assert seeded_splits(names, SIZES, 0) == NOUNS
    assert (len(CLASSES), len(set(CLASSES)), len(names)) == (45, 45, 24)


def test_every_form_that_people_have_gives_the_same(tmp_path: Path) -> None:
    plain = texts_by_class(source(), official(tmp_path / "plain"), tmp_path / "scratch")
    dict_folder = tmp_path / "plain" / "dict"
    for name in ("wordnet/wn3.1.dict.tar.gz", "WNdb-3.1.tar.gz", "text/wordnet-3.1.zip", "glosses/wordnet-3.1.zip"):
        path = tmp_path / name.replace("/", "-") / name
        path.parent.mkdir(parents=True)
        if name.endswith(".zip"):
            with zipfile.ZipFile(path, "w") as packed:
                for file in dict_folder.iterdir():
                    packed.write(file, f"dict/{file.name}")
        else:
            with tarfile.open(path, "w:gz") as archive:
                archive.add(dict_folder, "dict")
        (tmp_path / name.replace("/", "-") / "scratch").mkdir()
        root = tmp_path / name.replace("/", "-")
        assert texts_by_class(source(), root, root / "scratch") == plain, name
        assert source().files(root) == [path]
    assert texts_by_class(source(), dict_folder, tmp_path / "scratch") == plain
    assert [path.name for path in source().files(dict_folder)] == ["data.noun"]


def test_example_sentences_can_be_left_out(tmp_path: Path) -> None:
    found = all_classes(source(examples=False), official(tmp_path), tmp_path / "scratch")
    assert not any('"' in text for texts in found.values() for text in texts)
    assert found["noun.act"][0] == gloss(4, 0).partition(";")[0]


def test_all_parts_and_lists_of_ones_own(tmp_path: Path) -> None:
    root = official(tmp_path / "data")
    every = source(split="seeded", parts=["adv", "noun", "adj", "verb"], fewest=1)
    found = texts_by_class(every, root, tmp_path / "scratch")
    assert {split: len(classes) for split, classes in found.items()} == {"train": 23, "val": 9, "test": 13}
    other = texts_by_class(source(split="seeded", parts=["noun"], split_seed=1), root, tmp_path / "scratch")
    assert set(other["test"]) != set(NOUNS["test"])
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, names in {
        "train": "noun.act\nnoun.body",
        "val": "noun.food\nnoun.time",
        "test": "noun.Tops\nnoun.motive",
    }.items():
        (lists / f"{split}.txt").write_text(names)
    found = texts_by_class(source(split=str(lists)), root, tmp_path / "scratch")
    assert set(found["test"]) == {"noun.Tops", "noun.motive"}
    (lists / "test.txt").write_text("noun.Tops\nnoun.thing")
    assert "the test list has noun.thing, which" in complaint(source(split=str(lists)), root, tmp_path / "scratch")


def test_classes_that_are_left_out_cannot_be_in_the_lists(tmp_path: Path) -> None:
    root = official(tmp_path)
    assert "the train list has noun.attribute" in complaint(source(fewest=4), root, tmp_path / "scratch")
    assert "data.source.parts=[verb]" in complaint(source(parts=["verb"]), root, tmp_path / "scratch")
    assert "has 1 classes" in complaint(source(split="seeded", parts=["adv"]), root, tmp_path / "scratch")
    with pytest.raises(BadInput, match="parts="):
        source(parts=["noun", "noun"])
    with pytest.raises(BadInput, match="nouns, seeded, or a folder"):
        source(split="verbs")


NOUN = data_file("noun")
LINES = NOUN.splitlines(keepends=True)
DAMAGED = {
    "a line is missing": (b"".join(LINES[:5] + LINES[6:]), "line 6 says that it begins at byte"),
    "lines end otherwise": (NOUN.replace(b"\n", b"\r\n"), "line 2 says that it begins at byte"),
    "it ends in a line": (NOUN[:-9], "line 79 is no line of a WordNet database"),
    "it ends between lines": (b"".join(LINES[:-1]), "has 77 synsets, but 78 were published"),
    "no gloss": (NOUN.replace(b" | ", b" + ", 1), "line 2 is no line"),
    "another class": (NOUN.replace(b" 03 n", b" 45 n", 1), "line 2 is no line"),
    "another part": (NOUN.replace(b" 03 n", b" 29 n", 1), "line 2 is of verb.body, and not of noun"),
    "no text": (NOUN.replace(b"thing", b"\xff\xfe\xfa\xfb\xfc", 1), "line 2 is not UTF-8"),
    "nothing": (b"", "has 0 synsets"),
    "a web page": (b"<!DOCTYPE html>\n<html>", "line 1 is no line"),
}


@pytest.mark.parametrize(("content", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_said_with_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    root = official(tmp_path)
    (root / "dict" / "data.noun").write_bytes(content)
    said = complaint(source(), root, tmp_path / "scratch")
    assert words in said
    assert "data.noun" in said


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    root = official(tmp_path)
    (root / "dict" / "data.verb").unlink()
    assert "has no data.verb" in complaint(source(split="seeded", parts=["noun", "verb"]), root, tmp_path / "scratch")


def test_an_archive_that_leads_outside_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "wn3.1.dict.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("../data.noun")
        member.size = len(NOUN)
        archive.addfile(member, io.BytesIO(NOUN))
    assert "outside" in complaint(source(), tmp_path, tmp_path / "scratch")
    assert not (tmp_path / "data.noun").exists()


def test_the_real_glosses_are_complete(real_texts: Path, tmp_path: Path) -> None:
    every = source(Glosses, split="seeded", parts=["noun", "verb", "adj", "adv"])
    found = all_classes(every, real_texts, tmp_path / "scratch")
    assert (len(found), sum(map(len, found.values()))) == (45, 117_791)
    sizes = sorted(map(len, found.values()))
    assert (sizes[0], sizes[-1]) == (42, 14_460)
    assert "a domesticated carnivorous mammal" not in found["noun.animal"]
    assert any(text.startswith("a member of the genus Canis") for text in found["noun.animal"])


def test_the_bank_of_real_noun_glosses_has_its_classes_and_names_near_duplicates(real_texts: Path, tmp_path: Path) -> None:
    folder = build_bank(source(Glosses, fewest=100), real_texts, tmp_path / "banks")
    manifest = read_manifest(folder)
    assert {split: len(about["classes"]) for split, about in manifest["splits"].items()} == SIZES
    assert sum(sum(about["counts"]) for about in manifest["splits"].values()) == 82_192 - 51 - 42
    assert any(
        re.match(r"10 texts of val are nearly the same as texts of test: 'one species'", note) for note in manifest["notes"]
    )
    bank = Bank.open(folder, "test")
    assert bank.item_shape == (256,)
    assert texts_of(bank.items[:1]) == ['an action; "how could you do such a thing?"']
    kept = build_bank(source(Glosses, fewest=100, drop_duplicates=True), real_texts, tmp_path / "banks")
    dropped = sum(manifest["splits"]["train"]["counts"]) - sum(read_manifest(kept)["splits"]["train"]["counts"])
    assert dropped == 7
    assert any("7 texts of train" in note and "(left out)" in note for note in read_manifest(kept)["notes"])
