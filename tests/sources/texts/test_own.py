"""A user's own texts in every form and encoding that programs write, and what cannot be used, refused by its line."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from metashot.bad_input import BadInput
from metashot.data.bank import Bank
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.texts.code_points import texts_of
from metashot.sources.texts.own import OwnTexts
from tests.sources.texts.drawn import all_classes, complaint, texts_by_class

CLASSES, EACH = [f"class {number}" for number in range(12)], 3
WORDS = ("Käse", "größer", "où", "señor", "être", "Straße", "garçon", "mañana")


def source(**options: Any) -> OwnTexts:
    usual = {"text": "text", "label": "label", "encoding": None, "fewest": 1, "shares": [0.5, 0.25, 0.25], "split_seed": 0}
    return OwnTexts(**usual | {"longest": 1000, "drop_duplicates": False} | options)


def sentence(label: str, number: int) -> str:
    words = " ".join(WORDS[(number * 3 + place + len(label)) % len(WORDS)] for place in range(6))
    return f'{label} sagt, "{words}"; {number * 7919}'


ROWS = [(sentence(label, number), label) for number in range(EACH) for label in CLASSES]
EXPECTED = {label: [sentence(label, number) for number in range(EACH)] for label in CLASSES}


def table(path: Path, delimiter: str = ",", encoding: str = "utf-8", end: str = "\r\n") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
        writer.writerow(["id", "text", "label"])
        writer.writerows((number, *row) for number, row in enumerate(ROWS))
    return path


def json_lines(path: Path, encoding: str = "utf-8") -> Path:
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=encoding == "ascii") for text, label in ROWS]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def folders(root: Path, splits: bool = False, encoding: str = "utf-8") -> Path:
    for number, label in enumerate(CLASSES):
        above = root / ("train", "val", "test")[number % 3] if splits else root
        (above / label).mkdir(parents=True)
        for place in range(EACH):
            (above / label / f"{place}.txt").write_text(sentence(label, place) + "\n", encoding=encoding)
    return root


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("name", ["it.csv", "it.tsv", "it.jsonl", "folder"])
def test_every_form_in_every_encoding_gives_the_same(tmp_path: Path, name: str, encoding: str) -> None:
    if name == "folder":
        root = folders(tmp_path / name, encoding=encoding)
    elif name == "it.jsonl":
        root = json_lines(tmp_path / name, encoding)
    else:
        root = table(tmp_path / name, "\t" if name == "it.tsv" else ",", encoding)
    made = source()
    found = texts_by_class(made, root, tmp_path / "scratch")
    assert {split: len(classes) for split, classes in found.items()} == {"train": 6, "val": 3, "test": 3}
    assert {label: texts for classes in found.values() for label, texts in classes.items()} == EXPECTED
    said = " ".join(made.notes)
    assert ("which is a guess" in said) is (encoding == "cp1252")
    assert encoding != "utf-16" or name == "folder" or "read as utf-16" in said


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_files_of_all_programs_are_read(tmp_path: Path, delimiter: str, end: str) -> None:
    assert all_classes(source(), table(tmp_path / "it.csv", delimiter, end=end), tmp_path / "scratch") == EXPECTED


def test_json_with_escapes_and_surrogates_is_read(tmp_path: Path) -> None:
    assert all_classes(source(), json_lines(tmp_path / "it.json", "ascii"), tmp_path / "scratch") == EXPECTED
    lines = [json.dumps({"text": f"😀 \ud800 {number} x", "label": number % 6}) for number in range(12)]
    (tmp_path / "it.ndjson").write_text("\n\n".join(lines))
    found = all_classes(source(), tmp_path / "it.ndjson", tmp_path / "scratch")
    assert found["3"] == ["😀 3 x", "😀 9 x"]


def test_numbers_and_truth_values_are_classes(tmp_path: Path) -> None:
    labels: list[Any] = [1, 2.5, True, False, -3, "1e5"]
    lines = [json.dumps({"text": f"t {number}", "label": label}) for number, label in enumerate(labels)]
    (tmp_path / "it.jsonl").write_text("\n".join(lines))
    assert set(all_classes(source(), tmp_path / "it.jsonl", tmp_path / "scratch")) == {
        "1",
        "2.5",
        "true",
        "false",
        "-3",
        "1e5",
    }


SCRIPTS = {
    "gb18030": "我的包裹在哪里，我想知道它什么时候到。请尽快告诉我，谢谢你的帮助和耐心。",
    "shift_jis": "荷物はどこにありますか。いつ届くのか知りたいです。できるだけ早く教えてください。",
    "cp1251": "Где моя посылка? Я хочу знать когда она придёт. Прошу вас скажите мне как можно скорее.",
    "cp1253": "Πού είναι το δέμα μου; Θέλω να μάθω πότε θα φτάσει. Παρακαλώ πείτε μου το συντομότερο δυνατό.",
    "euc_kr": "제 소포는 어디에 있습니까? 언제 도착하는지 알고 싶습니다. 가능한 한 빨리 알려 주세요.",
}


@pytest.mark.parametrize("encoding", SCRIPTS)
def test_legacy_encodings_of_other_scripts_are_detected_or_given(tmp_path: Path, encoding: str) -> None:
    text = SCRIPTS[encoding]
    rows = "".join(f"{text[number % 5 :]} {number},{number % 6}\n" for number in range(24))
    (tmp_path / "it.csv").write_bytes(f"text,label\n{rows}".encode(encoding))
    for given in (None, encoding):
        made = source(encoding=given)
        found = all_classes(made, tmp_path / "it.csv", tmp_path / "scratch")
        assert found["0"][0] == f"{text} 0"
        assert any("which is a guess" in note for note in made.notes) is (given is None)


def test_a_wrong_guess_can_be_seen_and_corrected(tmp_path: Path) -> None:
    """The guess of `charset-normalizer` for a few sentences of Polish is an encoding of western Europe."""
    text = "Gdzie jest moja paczka? Chciałbym wiedzieć kiedy przyjdzie i dziękuję"
    rows = "".join(f"{text} {number},{number % 6}\n" for number in range(12))
    (tmp_path / "it.csv").write_bytes(f"text,label\n{rows}".encode("cp1250"))
    made = source()
    read = all_classes(made, tmp_path / "it.csv", tmp_path / "scratch")["0"][0]
    note = made.notes[0]
    assert "which is a guess" in note
    assert read[20:30] in note  # the letters that show whether it is right
    assert all_classes(source(encoding="cp1250"), tmp_path / "it.csv", tmp_path / "scratch")["0"] == [
        f"{text} 0",
        f"{text} 6",
    ]


def test_columns_are_named_by_keys_and_splits_of_the_file_are_obeyed(tmp_path: Path) -> None:
    header, *rows = [
        "satz,klasse,split",
        *(f"{text!r},{label},{('train', 'Validation', 'test')[int(label[6:]) % 3]}" for text, label in EACH_PLAIN),
    ]
    (tmp_path / "it.csv").write_text("\n".join([header, *rows]))
    found = texts_by_class(source(text="satz", label="klasse"), tmp_path / "it.csv", tmp_path / "scratch")
    assert set(found["val"]) == {label for label in CLASSES if int(label[6:]) % 3 == 1}
    lines = [
        json.dumps({"text": text, "label": label, "split": ("train", "test")[int(label[6:]) % 2]})
        for text, label in EACH_PLAIN
    ]
    (tmp_path / "it.jsonl").write_text("\n".join(lines))
    made = source()
    found = texts_by_class(made, tmp_path / "it.jsonl", tmp_path / "scratch")
    assert len(found["test"]) == 6
    assert "has no val: 2 of the 6 classes of train are taken for val" in made.notes[0]


EACH_PLAIN = [(f"{label} has the number {place * 271}", label) for label in CLASSES for place in range(EACH)]


def test_split_folders_are_obeyed_and_other_files_are_noted(tmp_path: Path) -> None:
    root = folders(tmp_path / "it", splits=True)
    (root / "train" / CLASSES[0] / "picture.png").write_bytes(b"\x89PNG")
    (root / "train" / "loose.txt").write_text("loose")
    (root / "test" / CLASSES[2] / "empty.txt").write_text(" \n\ufeff\n")
    (root / "test" / CLASSES[2] / ".hidden.txt").write_text("hidden")
    made = source()
    found = texts_by_class(made, root, tmp_path / "scratch")
    assert set(found["test"]) == {CLASSES[number] for number in range(2, 12, 3)}
    assert {label: texts for classes in found.values() for label, texts in classes.items()} == EXPECTED
    said = " / ".join(made.notes)
    for words in (
        "1 file is no .txt file and left out: train/class 0/picture.png",
        "in no class folder and left out: train/loose.txt",
    ):
        assert words in said
    assert "1 text is empty and left out, first: test/class 2/empty.txt" in said
    assert [Path(path).name for path in made.files(root)] == ["test", "train", "val"]


def test_odd_names_of_files_and_folders_are_taken(tmp_path: Path) -> None:
    root = folders(tmp_path / "it")
    odd = [b"a\nb", b"\xff\xfe", "\u202eabc".encode(), b" x ", "é".encode(), b"-rf"]
    for name in odd:
        (tmp_path / "it" / os.fsdecode(name)).mkdir()
        (tmp_path / "it" / os.fsdecode(name) / "'; --.txt").write_text("odd")
    found = all_classes(source(), root, tmp_path / "scratch")
    assert {"a\\nb", "\\udcff\\udcfe", "\\u202eabc", "x", "é", "-rf"} <= set(found)
    assert len(found) == len(CLASSES) + len(odd)


def test_fields_with_everything_inside_are_read(tmp_path: Path) -> None:
    """Quotes over several lines, a megabyte, zeros, marks of direction, emoji: all in one file."""
    long = "lang " * 200_000
    texts = ['"zwei\nZeilen" und "mehr"', long, "a\x00b", "\u200fعربي\u200f", "👩‍👩‍👧", " \r\n\t", "ok,;\t"]
    with (tmp_path / "it.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "text"])
        writer.writerows([number % 6, text] for number, text in enumerate(texts * 2))
    made = source()
    found = all_classes(made, tmp_path / "it.csv", tmp_path / "scratch")
    every = {text for classes in found.values() for text in classes}
    assert every == {'"zwei Zeilen" und "mehr"', long[:1000], "ab", "\u200fعربي\u200f", "👩‍👩‍👧", "ok,;"}
    assert "2 texts are empty and left out, first: line 8" in made.notes
    assert "2 of 12 texts have more than 1,000 characters and were cut there (data.source.longest)" in made.notes
    assert csv.field_size_limit() == 131_072  # as it was


def test_classes_with_few_texts_can_be_left_out(tmp_path: Path) -> None:
    root = table(tmp_path / "it.csv")
    with root.open("a") as file:
        file.write("36,one,rare\r\n37,two,scarce\r\n38,three,scarce\r\n")
    made = source(fewest=3)
    assert all_classes(made, root, tmp_path / "scratch") == EXPECTED
    assert any(
        "2 classes have fewer than 3 texts and are left out (data.source.fewest): rare; scarce" in note
        for note in made.notes
    )
    assert "no class of train has 5 texts" in complaint(source(fewest=5), root, tmp_path / "scratch")


def test_near_duplicates_are_named_and_left_out_if_wanted(tmp_path: Path) -> None:
    rows = [("Where is my parcel, please?", "late", "train"), ("where is my parcel please", "lost", "test")]
    rows += [
        (f"{label} and {number}", label, split)
        for split in ("train", "val", "test")
        for label in (f"{split} x", f"{split} y")
        for number in range(3)
    ]
    with (tmp_path / "it.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label", "split"), *rows])
    made = source()
    found = texts_by_class(made, tmp_path / "it.csv", tmp_path / "scratch")
    assert "late" in found["train"]
    (note,) = (note for note in made.notes if "nearly the same" in note)
    assert note.startswith(
        "1 text of train is nearly the same as one of val or test: 'Where is my parcel, please?' (late, train) and"
    )
    assert "(lost, test)" in note
    assert "data.source.drop_duplicates=true" in note
    made = source(drop_duplicates=True)
    found = texts_by_class(made, tmp_path / "it.csv", tmp_path / "scratch")
    assert set(found["train"]) == {"train x", "train y"}
    assert "lost" in found["test"]
    assert any("1 classes of train have no other texts and are left out, first: late" in note for note in made.notes)


def test_a_bank_holds_the_texts_and_is_used_again(tmp_path: Path) -> None:
    root = table(tmp_path / "it.csv")
    folder = build_bank(source(), root, tmp_path / "banks")
    before = (folder / "manifest.json").stat().st_mtime_ns
    bank = Bank.open(folder, "val")
    assert texts_of(bank.items) == [text for label in bank.classes for text in EXPECTED[label]]
    assert build_bank(source(), root, tmp_path / "banks") == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    root.write_text(root.read_text().replace("sagt", "fragt"))
    assert build_bank(source(), root, tmp_path / "banks") == folder
    assert "fragt" in texts_of(Bank.open(folder, "val").items)[0]
    assert build_bank(source(longest=5), root, tmp_path / "banks") != folder
    assert read_manifest(folder)["splits"]["val"]["item_shape"] == [
        max(len(text) for texts in EXPECTED.values() for text in texts) + 1
    ]


CSV = {
    "": ["it is empty", "allowed"],
    "\n\n": ["it is empty"],
    "sentence,label\n": ["no column 'text'", "sentence, label", "data.source.text="],
    "text,kind\n": ["no column 'label'", "text, kind", "data.source.label="],
    "text,text,label\n": ["2 columns named 'text'"],
    "text,label\n": ["has no texts"],
    "text,label\n ,x\n,y\n": ["has no texts"],
    "text,label\na,x\nb,x\n": ["1 class", "at least 6"],
    "\n \n\r\ntext,label\na,x\n\nb\n": ["line 7 has 1 values"],
    "text,label\na,x\nb\n": ["line 3 has 1 values", "header has 2"],
    "text,label\na,b,x\n": ["line 2 has 3 values"],
    "text,label\na,\n": ["line 2 has nothing as 'label'"],
    f"text,label\na,{'x' * 300}\n": ["line 2 has 300 characters as 'label'", "data.source.label="],
    'text,label\n"a,x\nb,y\n': ["no CSV file", "line 2"],
    'text,label\na,x\n"a,' + ("y" * 10_000 + "\n") * 2000: ["no CSV file", "line 3", "field limit"],
    'text,label\n"a" b,x\n': ["no CSV file", "line 2"],
    "text,label,split\na,x,dev\n": ["line 2 has split 'dev'", "train, val, test"],
    "text,label,split\na,x,train\nb,x,test\n": ["class x is in both train and test"],
    "text,label,split\na,x,test\nb,y,test\n": ["nothing for train"],
}


@pytest.mark.parametrize(("text", "words"), CSV.items(), ids=[repr(text)[:40] for text in CSV])
def test_a_csv_file_that_cannot_be_used_is_refused_by_its_line(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "it.csv").write_text(text)
    said = complaint(source(), tmp_path / "it.csv", tmp_path / "scratch")
    assert all(word in said for word in [*words, "it.csv"]), said


JSON = {
    "": ["it is empty"],
    '[{"text": "a", "label": 1}]': ["it is a list", "one object in each line"],
    '{"text": "a", "label": 1}\n7\n': ["line 2 is a number, and no object"],
    '{"text": "a", "label": 1}\n{"text": "b"\n': ["line 2 is no JSON"],
    '{"text": "a", "tag": 1}\n': ["line 1 has no 'label', but 'text, tag'", "data.source.label="],
    '{"text": 5, "label": 1}\n': ["line 1 has a number as 'text'"],
    '{"text": null, "label": 1}\n': ["line 1 has null as 'text'"],
    '{"text": ["a"], "label": 1}\n': ["line 1 has a list as 'text'"],
    '{"text": "a", "label": null}\n': ["line 1 has null as 'label'"],
    '{"text": "a", "label": {}}\n': ["line 1 has an object as 'label'"],
    '{"text": "a", "label": NaN}\n': ["line 1 has a number as 'label'"],
    '{"text": "a", "label": ""}\n': ["line 1 has nothing as 'label'"],
    '{"text": "a", "text": "b", "label": 1}\n': ["line 1", "the key 'text' twice"],
    f'{{"text": "a", "label": {"9" * 5000}}}\n': ["line 1 cannot be read"],
    f'{{"text": {"[" * 100_000}\n': ["line 1 is no JSON of texts: it is nested too deeply"],
    '{"text": "a", "label": 1, "split": 3}\n': ["line 1 has a number as its split"],
    '{"text": "a", "label": 1, "split": "dev"}\n': ["line 1 has split 'dev'"],
    '{"text": "a", "label": 1, "split": "train"}\n{"text": "a", "label": 1}\n': ["line 1 has a split, unlike line 2"],
    '{"text": "a", "label": 1}\n{"text": "a", "label": 1, "split": "train"}\n': ["line 1 has no split, unlike line 2"],
}


@pytest.mark.parametrize(("text", "words"), JSON.items(), ids=[repr(text)[:40] for text in JSON])
def test_a_json_file_that_cannot_be_used_is_refused_by_its_line(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "it.jsonl").write_text(text)
    said = complaint(source(), tmp_path / "it.jsonl", tmp_path / "scratch")
    assert all(word in said for word in [*words, "it.jsonl"]), said
    assert len(said) < 600


def test_mixed_encodings_and_undecodable_lines_are_said_with_their_lines(tmp_path: Path) -> None:
    rows = [f"{text},{label}\n".replace('"', "") for text, label in ((t.replace(",", ""), c) for t, c in ROWS)]
    utf8, other = [row.encode() for row in rows], [row.encode("cp1252") for row in rows]
    for content, words in (
        ([*utf8[:5], *other[5:]], "mixes encodings: line 2 is UTF-8 and line 7 is not"),
        ([*other[:5], *utf8[5:]], "mixes encodings: line 7 is UTF-8 and line 2 is not"),
        ([*utf8[:5], other[5], *utf8[6:]], "mixes encodings: line 2 is UTF-8 and line 7 is not"),
    ):
        (tmp_path / "it.csv").write_bytes(b"text,label\n" + b"".join(content))
        assert words in complaint(source(), tmp_path / "it.csv", tmp_path / "scratch")
        assert "as utf-8" in complaint(source(encoding="utf-8"), tmp_path / "it.csv", tmp_path / "scratch")
    (tmp_path / "it.csv").write_bytes(("text,label\n" + "".join(rows)).encode("utf-16") + b"\x00")
    assert "line 38 cannot be decoded as utf-16" in complaint(source(), tmp_path / "it.csv", tmp_path / "scratch")
    (tmp_path / "it.csv").write_bytes(b"text,label\n" + b"".join(utf8[:3]))
    assert "line 2 cannot be decoded as ascii" in complaint(
        source(encoding="ascii"), tmp_path / "it.csv", tmp_path / "scratch"
    )


@pytest.mark.parametrize(
    "name",
    [
        "hex",
        "rot13",
        "zip",
        "idna",
        "punycode",
        "unicode-escape",
        "utf-7",
        "cp037",
        "x" * 1000,
        "",
        "utf-9",
        "../utf-8",
        "undefined",
    ],
)
def test_encodings_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="is not an encoding of text that Python knows"):
        source(encoding=name)


def test_what_is_no_file_of_texts_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in complaint(source(), tmp_path / "gone.csv", tmp_path / "scratch")
    (tmp_path / "it.xlsx").write_bytes(b"PK")
    assert "no kind that has texts" in complaint(source(), tmp_path / "it.xlsx", tmp_path / "scratch")
    (tmp_path / "empty").mkdir()
    assert "has no .txt files in class folders" in complaint(source(), tmp_path / "empty", tmp_path / "scratch")
    assert "is for tables" in complaint(source(label="kind"), tmp_path / "empty", tmp_path / "scratch")
    with pytest.raises(BadInput, match="both x"):
        source(text="x", label="x")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "pipe.csv" in complaint(source(), tmp_path / "pipe.csv", tmp_path / "scratch")
    root = folders(tmp_path / "it")
    os.mkfifo(root / CLASSES[0] / "pipe.txt")
    assert all_classes(source(), root, tmp_path / "scratch") == EXPECTED
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(2**32 + 1)
    assert "larger than 4,295 MB" in complaint(source(), tmp_path / "large.csv", tmp_path / "scratch")
    with (root / CLASSES[0] / "large.txt").open("wb") as file:
        file.truncate(2**24 + 1)
    assert "large.txt cannot be read" in complaint(source(), root, tmp_path / "scratch")


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "it.csv").open("wb") as file:
        file.write(b"text,label\n")
        file.truncate(2**27)
    assert "line 2 is longer than 17 MB" in complaint(source(), tmp_path / "it.csv", tmp_path / "scratch")


def test_the_same_name_in_another_place_is_another_class(tmp_path: Path) -> None:
    assert source().known_as("1", tmp_path / "a.csv") != source().known_as("1", tmp_path / "b.csv")
    assert str(tmp_path) not in source().known_as("1", tmp_path / "a.csv")
