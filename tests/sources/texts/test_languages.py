"""The declaration of human rights: a paragraph an example, a language a class, from both forms and checked by the index."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from metashot.data.bank import Bank
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.texts.code_points import cleaned, texts_of
from metashot.sources.texts.languages import Languages
from tests.sources.texts.drawn import all_classes, complaint, texts_by_class

CODES = [f"l{number:02}" for number in range(10)]
EACH = 30
NAMES = ["Français", "العربية", "日本語", "Twin", "Twin", "Zulu", "Éwé", "Hmong, Northern", "Kituba (2)", "(Klau)"]


class SmallLanguages(Languages):
    published = (len(CODES), len(CODES) * EACH)


def source(kind: type[Languages] = SmallLanguages, **options: Any) -> Languages:
    return kind(**{"split": "seeded", "split_seed": 0, "longest": 512, "drop_duplicates": False} | options)


def paragraph(code: str, number: int) -> str:
    return f"{code} {code[::-1] * (number % 7 + 1)} § {number * 7919}"


def packed(folder: Path) -> Path:
    (folder / "declaration").mkdir(parents=True)
    rows = ["code\tlanguage_tag\tname\tparagraphs"]
    for code, name in zip(CODES, NAMES, strict=True):
        (folder / "declaration" / f"{code}.txt").write_text("".join(f"{paragraph(code, n)}\n" for n in range(EACH)))
        rows.append(f"{code}\tund\t{name}\t{EACH}")
    (folder / "index.tsv").write_text("\n".join(rows) + "\n")
    return folder


def official(folder: Path) -> Path:
    """As udhr_txt.zip has it."""
    folder.mkdir(parents=True)
    for code, name in zip(CODES, NAMES, strict=True):
        header = (
            f"Universal Declaration of Human Rights - {name}\n"
            "© 1996 – 2009 The Office of the High Commissioner for Human Rights\n"
            "This plain text version prepared by the “UDHR in Unicode”\nproject, https://www.unicode.org/udhr.\n---\n\n"
        )
        text = "".join(f"      {paragraph(code, n)}\n" for n in range(EACH))
        (folder / f"udhr_{code}.txt").write_text(header + text)
    (folder / "udhr_short.txt").write_text("Universal Declaration of Human Rights - Short\n---\none\ntwo\n")
    return folder


def test_paragraphs_are_in_the_classes_of_their_languages(tmp_path: Path) -> None:
    found = texts_by_class(source(), packed(tmp_path), tmp_path / "scratch")
    assert {split: len(classes) for split, classes in found.items()} == {"train": 6, "val": 2, "test": 2}
    every = {name: texts for classes in found.values() for name, texts in classes.items()}
    named = {code: f"Twin ({code})" if name == "Twin" else name for code, name in zip(CODES, NAMES, strict=True)}
    assert every == {named[code]: [cleaned(paragraph(code, n)) for n in range(EACH)] for code in CODES}


def test_both_forms_packed_or_not_give_the_same(tmp_path: Path) -> None:
    plain = texts_by_class(source(), packed(tmp_path / "a"), tmp_path / "scratch")
    official(tmp_path / "c")
    for name, folder, inside in (("udhr.zip", "a", ""), ("udhr_txt.zip", "c", ""), ("udhr_txt.zip", "c", "udhr_txt/")):
        root = tmp_path / f"{name}{bool(inside)}"
        (root / "text").mkdir(parents=True)
        with zipfile.ZipFile(root / "text" / name, "w") as archive:
            for path in sorted((tmp_path / folder).rglob("*.t*")):
                archive.write(path, inside + path.relative_to(tmp_path / folder).as_posix())
        made = source()
        assert texts_by_class(made, root, tmp_path / "scratch") == plain
        assert made.files(root) == [root / "text" / name]
        assert (made.notes == ["1 languages have fewer than 30 paragraphs and are left out"]) is (folder == "c")


def test_unpacked_files_of_unicode_are_found_by_the_english_one(tmp_path: Path) -> None:
    root = official(tmp_path / "udhr")
    (root / f"udhr_{CODES[5]}.txt").rename(root / "udhr_eng.txt")
    found = all_classes(source(), tmp_path, tmp_path / "scratch")
    assert len(found) == 10
    assert len(source().files(tmp_path)) == 11


def test_lists_may_have_codes_or_names(tmp_path: Path) -> None:
    root = packed(tmp_path / "data")
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, names in {"train": "l00\nl01", "val": "Twin (l03)\nl04", "test": "日本語\nZulu"}.items():
        (lists / f"{split}.txt").write_text(names)
    found = texts_by_class(source(split=str(lists)), root, tmp_path / "scratch")
    assert [sorted(classes) for classes in found.values()] == [
        ["Français", "العربية"],
        ["Twin (l03)", "Twin (l04)"],
        ["Zulu", "日本語"],
    ]
    (lists / "test.txt").write_text("Klingon\nZulu")
    assert "the test list has Klingon" in complaint(source(split=str(lists)), root, tmp_path / "scratch")


def damage(root: Path, file: str, before: str, after: str) -> None:
    path = root / file
    content = path.read_bytes()
    assert before.encode() in content
    path.write_bytes(content.replace(before.encode(), after.encode("utf-8", "surrogateescape"), 1))


@pytest.mark.parametrize(
    ("file", "before", "after", "words"),
    [
        ("index.tsv", "code\tlan", "kode\tlan", "does not begin with the columns code, language_tag, name, paragraphs"),
        ("index.tsv", "l03\tund\tTwin\t30", "l03\tund\tTwin", "line 5 is no code, tag, name and number"),
        ("index.tsv", "l03\tund\tTwin\t30", "l03\tund\tTwin\t3o", "line 5 is no code, tag, name and number"),
        (
            "index.tsv",
            "l03\tund\tTwin\t30",
            "l03\tund\tTwin\t31",
            "l03.txt has 30 paragraphs, but index.tsv says 31 on line 5",
        ),
        ("index.tsv", "l03\tund", "l99\tund", "line 5 names l99, but declaration/l99.txt is not there"),
        ("index.tsv", "l03\tund", "../l03\tund", "line 5 names ../l03, but"),
        ("index.tsv", "l03\tund", "l02\tund", "has the code l02 2 times"),
        ("index.tsv", "l03\tund\tTwin\t30\n", "", "has no line for declaration/l03.txt"),
        ("index.tsv", "Zulu", "\udcff", "index.tsv, line 7 is not UTF-8"),
        ("declaration/l03.txt", "l03", "\udcff", "declaration/l03.txt, line 1 is not UTF-8"),
        ("declaration/l03.txt", "l03", "l03\nl03", "l03.txt has 31 paragraphs"),
    ],
)
def test_damage_is_said_with_file_and_line(tmp_path: Path, file: str, before: str, after: str, words: str) -> None:
    root = packed(tmp_path)
    damage(root, file, before, after)
    assert words in complaint(source(), root, tmp_path / "scratch")


def test_files_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    root = packed(tmp_path / "a")
    assert "has 10 languages and 300 paragraphs, but 527 and 30,757" in complaint(
        source(Languages), root, tmp_path / "scratch"
    )
    (root / "index.tsv").unlink()
    assert "has no index.tsv" in complaint(source(), root, tmp_path / "scratch")
    other = official(tmp_path / "b")
    (other / "udhr_eng.txt").write_text("All human beings\n")
    assert "udhr_eng.txt is not a file of UDHR in Unicode" in complaint(source(), other, tmp_path / "scratch")
    (other / "udhr_eng.txt").write_text("Universal Declaration of Human Rights - English\n" + "All\n" * 40)
    assert "a line of dashes is among its first 20 lines" in complaint(source(), other, tmp_path / "scratch")


def test_the_bank_of_the_real_declaration_has_527_languages(real_texts: Path, tmp_path: Path) -> None:
    folder = build_bank(source(Languages), real_texts, tmp_path / "banks")
    about = read_manifest(folder)["splits"]
    assert {split: len(one["classes"]) for split, one in about.items()} == {"train": 316, "val": 79, "test": 132}
    assert sum(sum(one["counts"]) for one in about.values()) == 30_757
    names = [name for one in about.values() for name in one["classes"]]
    assert len(set(names)) == 527
    assert {"English", "Malayalam (mal)", "Venda (ven)"} <= set(names) or sum(
        name.startswith("Venda (") for name in names
    ) == 2
    split = next(split for split, one in about.items() if "English" in one["classes"])
    bank = Bank.open(folder, split)
    first = int(bank.items_per_class[: bank.classes.index("English")].sum())
    assert texts_of(bank.items[first : first + 1])[0].startswith("Whereas recognition of the inherent dignity")
