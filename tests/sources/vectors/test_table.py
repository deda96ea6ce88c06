"""Vectors of a user: what a file holds is what the bank holds, and what cannot be used is refused by row and column."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metashot.bad_input import BadInput
from metashot.data.bank import Bank
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.splitting import SPLITS
from metashot.sources.vectors.table import Vectors
from tests.sources.vectors.tables import CLASSES, EACH, FEATURES, clouds, csv, npz

SHARES = [0.5, 0.25, 0.25]


def source(label: str = "class", split_seed: int = 0) -> Vectors:
    return Vectors(label, SHARES, split_seed)


def rows_of(root: Path, scratch: Path, made: Vectors | None = None) -> dict[str, dict[str, list[tuple[float, ...]]]]:
    """The rows of each class of each split, as a source draws them."""
    made = made or source()
    scratch.mkdir(exist_ok=True)
    made.prepare(root, scratch)
    found: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    for split, names in made.splits().items():
        counts = made.counts(split)
        drawn = [made.draw(split, label, 0, counts[label]).items for label in range(len(names))]
        found[split] = {name: [tuple(row) for row in items.tolist()] for name, items in zip(names, drawn, strict=True)}
    return found


def expected(prefix: str = "class ") -> dict[str, list[tuple[float, ...]]]:
    x, y = clouds()
    return {f"{prefix}{k}": [tuple(row) for row in x[y == k].tolist()] for k in range(CLASSES)}


def complaint(root: Path, scratch: Path, made: Vectors | None = None) -> str:
    with pytest.raises(BadInput) as refused:
        rows_of(root, scratch, made)
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_every_row_of_a_csv_file_is_in_the_split_of_its_class(tmp_path: Path) -> None:
    found = rows_of(csv(tmp_path / "it.csv"), tmp_path / "scratch")
    assert {split: len(classes) for split, classes in found.items()} == {"train": 10, "val": 5, "test": 5}
    assert {name: rows for classes in found.values() for name, rows in classes.items()} == expected()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_files_of_all_programs_are_read(tmp_path: Path, delimiter: str, mark: str) -> None:
    plain = rows_of(csv(tmp_path / "plain.csv"), tmp_path / "scratch")
    text = csv(tmp_path / "it.csv", delimiter=delimiter).read_text()
    (tmp_path / "it.csv").write_text(mark + text.replace("\n", "\r\n"))
    assert rows_of(tmp_path / "it.csv", tmp_path / "scratch") == plain


def test_an_npz_file_of_any_type_of_numbers_and_labels_is_read(tmp_path: Path) -> None:
    x, y = clouds()
    plain = rows_of(npz(tmp_path / "plain.npz"), tmp_path / "scratch")
    assert {name: rows for classes in plain.values() for name, rows in classes.items()} == expected("")
    for name, changed in {
        "double": {"x": x.astype(np.float64)},
        "big-endian": {"x": x.astype(">f4")},
        "fortran": {"x": np.asfortranarray(x)},
        "text": {"y": y.astype(str)},
        "bytes": {"y": y.astype(bytes)},
        "short": {"y": y.astype(np.uint8)},
    }.items():
        for compressed in (False, True):
            made = npz(tmp_path / f"{name}.npz", compressed, **changed)
            assert rows_of(made, tmp_path / "scratch") == plain, name


def test_splits_of_the_file_are_kept_and_missing_ones_are_taken_from_train(tmp_path: Path) -> None:
    given = {k: ("train", "valid", "test")[k % 3] for k in range(CLASSES)}
    found = rows_of(csv(tmp_path / "it.csv", split=given), tmp_path / "scratch")
    assert set(found["val"]) == {f"class {k}" for k in range(1, CLASSES, 3)}
    two = {k: ("train", "test")[k % 2] for k in range(CLASSES)}
    made = source()
    found = rows_of(csv(tmp_path / "two.csv", split=two), tmp_path / "scratch", made)
    assert set(found["test"]) == {f"class {k}" for k in range(1, CLASSES, 2)}
    assert "has no val: 3 of the 10 classes of train are taken for val" in made.notes[0]
    named = np.array([given[int(k)] for k in clouds()[1]])
    assert {len(classes) for classes in rows_of(npz(tmp_path / "it.npz", split=named), tmp_path / "scratch").values()} == {
        7,
        6,
    }


def test_another_column_may_name_the_classes(tmp_path: Path) -> None:
    found = rows_of(csv(tmp_path / "it.csv", label="kind"), tmp_path / "scratch", source(label="kind"))
    assert sum(map(len, found.values())) == CLASSES


def test_a_bank_of_vectors_holds_them_and_is_used_again(tmp_path: Path) -> None:
    root = npz(tmp_path / "it.npz")
    folder = build_bank(source(), root, tmp_path / "banks")
    before = (folder / "manifest.json").stat().st_mtime_ns
    banks = {split: Bank.open(folder, split) for split in SPLITS}
    assert {bank.items.dtype for bank in banks.values()} == {np.dtype(np.float32)}
    assert sum(len(bank.items) for bank in banks.values()) == CLASSES * EACH
    first = banks["test"].classes[0]
    assert [tuple(row) for row in banks["test"].items[:EACH].tolist()] == expected("")[first]
    assert build_bank(source(), root, tmp_path / "banks") == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    npz(root, x=clouds()[0] + 1)  # the file has changed
    assert build_bank(source(), root, tmp_path / "banks") == folder
    assert Bank.open(folder, "test").items[0].tolist() != banks["test"].items[0].tolist()
    assert read_manifest(folder)["splits"]["val"]["item_shape"] == [FEATURES]
    assert build_bank(source(split_seed=1), root, tmp_path / "banks") != folder


CSV = {
    "": ["empty", "allowed"],
    "\n\n": ["empty"],
    "a,b\n1,2\n": ["no column 'class'", "a, b", "data.source.label="],
    "a,b,class\n": ["no rows"],
    "class\nx\ny\n": ["0 numbers"],
    "a,b,class\n1,2,x\n1,x2,y\n": ["line 3, column 'b'", "'x2'", "must be a number"],
    "a,b,class\n1,,x\n": ["line 2, column 'b'", "has no number"],
    "a,b,class\n1,nan,x\n": ["line 2, column 'b'", "'nan'", "finite"],
    "a,b,class\n1,-inf,x\n": ["line 2, column 'b'", "finite"],
    "a,b,class\n1,1e400,x\n": ["line 2, column 'b'", "'1e400'", "finite"],
    "a,b,class\n1,1e39,x\n": ["line 2, column 'b'", "too large for 32 bits"],
    "a,b,class\n1,1_0,x\n": ["line 2, column 'b'", "'1_0'"],
    "a;b;class\n1;1,5;x\n": ["line 2, column 'b'", "'1,5'"],
    "a,b,class\n1,2,x\n1,2\n": ["line 3 has 2 values", "header has 3"],
    "a,b,class\n1,2,x\n1,2,3,x\n": ["line 3 has 4 values"],
    "a,b,class\n1,2,\n": ["line 2", "nothing in the column 'class'"],
    "a,a,class\n1,2,x\n": ["2 columns named 'a'"],
    ",a,class\n0,2,x\n": ["column 1 has no name", "index=False"],
    "a,class\n1,x\n2,x\n": ["1 class", "at least 6"],
    "a,class,split\n" + "".join(f"1,{k},dev\n" for k in range(9)): ["line 2", "split 'dev'", "train, val, test"],
    "a,class,split\n1,x,train\n1,x,test\n": ["class x is in both train and test"],
    "a,class,split\n1,x,test\n1,y,test\n": ["nothing for train"],
    'a,class\n1,"x\n': ["no CSV file", "line 2"],
}


@pytest.mark.parametrize(("text", "words"), CSV.items(), ids=[repr(text)[:40] for text in CSV])
def test_a_csv_file_that_cannot_be_used_is_refused_by_line_and_column(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "it.csv").write_text(text)
    said = complaint(tmp_path / "it.csv", tmp_path / "scratch")
    assert all(word in said for word in [*words, "it.csv"]), said


def test_a_csv_file_with_too_many_columns_is_refused_by_its_header(tmp_path: Path) -> None:
    """At once: counting each name among all of them would take hours."""
    file = tmp_path / "wide.csv"
    file.write_text("class," + ",".join(f"f{number}" for number in range(500_000)) + "\nx,1\n")
    with pytest.raises(BadInput, match=r"its header has 500,001 columns; allowed: at most 65,536 numbers in a row"):
        source().prepare(file, tmp_path)


def test_a_csv_file_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "it.csv").write_bytes("a,class\n1,x\n2,Käse\n".encode("latin1"))
    assert "not UTF-8 text: line 3" in complaint(tmp_path / "it.csv", tmp_path / "scratch")
    (tmp_path / "it.csv").write_text("a,class\n1,x\n", encoding="utf-16")
    assert "UTF-8" in complaint(tmp_path / "it.csv", tmp_path / "scratch")


X, Y = clouds()


def with_(value: float, row: int, column: int) -> Any:
    x = X.astype(np.float64)
    x[row, column] = value
    return x


NPZ: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no x": ({"x": None}, ["no array x", "y"]),
    "no y": ({"y": None, "labels": Y}, ["no array y", "labels"]),
    "nan": ({"x": with_(np.nan, 3, 2)}, ["row 3, column 2 of its x has nan"]),
    "inf": ({"x": with_(-np.inf, 4, 0)}, ["row 4, column 0", "-inf"]),
    "too large": ({"x": with_(1e39, 5, 1)}, ["row 5, column 1", "32 bits"]),
    "images": ({"x": X.reshape(-1, 3, 2)}, ["its x is float32 of the shape (160, 3, 2)", "[rows, features]"]),
    "text": ({"x": X.astype(str)}, ["its x is <U", "numbers"]),
    "complex": ({"x": X.astype(complex)}, ["complex"]),
    "objects": ({"x": X.astype(object)}, ["array x cannot be read", "Python objects"]),
    "objects as labels": ({"y": Y.astype(object)}, ["array y cannot be read", "Python objects"]),
    "other length": ({"y": Y[:-1]}, ["160 rows", "y has 159"]),
    "floats as labels": ({"y": Y.astype(float)}, ["its y is float64", "whole numbers or texts"]),
    "two labels": ({"y": np.stack([Y, Y], 1)}, ["its y is int64 of the shape (160, 2)"]),
    "one class": ({"y": np.zeros_like(Y)}, ["1 class", "at least 6"]),
    "no rows": ({"x": X[:0], "y": Y[:0]}, ["no rows"]),
    "no columns": ({"x": X[:, :0]}, ["0 numbers"]),
    "empty label": ({"y": np.array(["", *Y[1:].astype(str)])}, ["row 0 of its y is empty"]),
    "no Unicode": ({"y": np.array([b"\xff", *Y[1:].astype(bytes)])}, ["y has texts that are not Unicode"]),
    "splits by number": ({"split": Y}, ["its split is int64", "texts"]),
    "unknown split": ({"split": np.array(["dev"] * len(Y))}, ["row 0 has split 'dev'"]),
}


@pytest.mark.parametrize(("changed", "words"), NPZ.values(), ids=NPZ)
def test_an_npz_file_that_cannot_be_used_is_refused(tmp_path: Path, changed: dict[str, Any], words: list[str]) -> None:
    said = complaint(npz(tmp_path / "it.npz", **changed), tmp_path / "scratch")
    assert all(word in said for word in [*words, "it.npz"]), said


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header("(1000000000, 1000000000)") + b"1234", ["array x cannot be read", "4 bytes"]),
        (header("(2, 2)"), ["array x cannot be read", "0 bytes"]),
        (header("(-1, 2)") + b"12", ["array x cannot be read"]),
        (header("(1,)", "'|O'") + b"cposix\nsystem\n(S'x'\ntR.", ["array x cannot be read", "Python objects"]),
        (header("(" * 500 + ")" * 500), ["array x cannot be read"]),
        (b"no array", ["array x cannot be read"]),
        (b"", ["array x cannot be read"]),
        (b"\x80\x04", ["array x cannot be read"]),
    ],
)
def test_an_array_that_is_not_what_it_claims_is_refused_and_takes_no_memory(
    tmp_path: Path, content: bytes, words: list[str]
) -> None:
    y = io.BytesIO()
    np.save(y, Y)
    with zipfile.ZipFile(tmp_path / "it.npz", "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", y.getvalue())
    said = complaint(tmp_path / "it.npz", tmp_path / "scratch")
    assert all(word in said for word in words), said


def test_a_compressed_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "it.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        for _ in range(1100):
            member.write(bytes(10**6))
    assert "1.1 GB" in complaint(tmp_path / "it.npz", tmp_path / "scratch")


def test_files_that_are_neither_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in complaint(tmp_path / "it.npz", tmp_path / "scratch")
    assert "is a folder" in complaint(tmp_path, tmp_path / "scratch")
    (tmp_path / "it.xlsx").touch()
    assert "neither a .csv nor an .npz file" in complaint(tmp_path / "it.xlsx", tmp_path / "scratch")
    (tmp_path / "it.npz").write_text("a,class\n")
    assert "damaged" in complaint(tmp_path / "it.npz", tmp_path / "scratch")
    assert "label=kind is for CSV files" in complaint(npz(tmp_path / "it.npz"), tmp_path / "scratch", source(label="kind"))


@pytest.mark.parametrize("name", ["it.csv", "it.npz"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert name in complaint(tmp_path / name, tmp_path / "scratch")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "it.csv").open("wb") as file:
        file.truncate(2**28 + 1)
    assert "it.csv" in complaint(tmp_path / "it.csv", tmp_path / "scratch")
