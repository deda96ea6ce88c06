"""Promises of the source for a user's own pictures, from files of every kind to the bank and what is said about them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from metashot.bad_input import BadInput
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.getting.files import stamps
from metashot.sources.images.folder import OwnImages

CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox")
ALLOWED = "allowed: a folder class/image or train|val|test/class/image, or a .csv file with the columns file,class[,split]"


def source(**options: Any) -> OwnImages:
    usual: dict[str, Any] = {"image_size": 4, "channels": 3, "fit": "crop", "shares": [0.64, 0.16, 0.2], "split_seed": 0}
    return OwnImages(**usual | options)


def picture(path: Path, colour: Any = (10, 20, 30), mode: str = "RGB", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (6, 6), colour).save(path, **options)
    return path


def pictures(root: Path, classes: Iterable[str] = CLASSES, count: int = 2) -> Path:
    for name in classes:
        for number in range(count):
            picture(root / name / f"{number}.png")
    return root


def listed(root: Path, given: OwnImages | None = None) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Classes and their images in each split without decoding them, and the notes."""
    given = given or source()
    given.prepare(root, root)
    return {
        split: {n: len(images) for n, images in classes.items()} for split, classes in given.listing.items()
    }, given.notes


def refused(root: Path, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        source(**options).prepare(root, root)
    return str(caught.value)


def table(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return path


def of_all(splits: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {name: count for classes in splits.values() for name, count in classes.items()}


# --- where classes and splits come from


def test_classes_of_a_plain_folder_are_divided_by_the_shares(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(25)]
    splits, notes = listed(pictures(tmp_path, names, 1))
    assert [len(splits[split]) for split in ("train", "val", "test")] == [16, 4, 5]
    assert sorted(of_all(splits)) == sorted(names)
    assert notes == []


def test_the_seed_and_the_names_decide_the_splits(tmp_path: Path) -> None:
    pictures(tmp_path / "one", [f"{number}" for number in range(20)], 1)
    pictures(tmp_path / "two", [f"{number}" for number in reversed(range(20))], 1)
    first = listed(tmp_path / "one")
    assert listed(tmp_path / "two") == first
    assert listed(tmp_path / "one", source(split_seed=1)) != first


@pytest.mark.parametrize("count", [6, 7, 11, 40])
@pytest.mark.parametrize("shares", [[0.64, 0.16, 0.2], [98, 1, 1], [1, 1, 1]])
def test_every_split_has_at_least_two_classes_and_every_class_a_split(
    tmp_path: Path, count: int, shares: list[float]
) -> None:
    lines = (f"image.png-{number},class {number}" for number in range(count))
    path = table(tmp_path / "all.csv", "file,class", *lines)
    for number in range(count):
        (tmp_path / f"image.png-{number}").touch()
    sizes = [len(classes) for classes in listed(path, source(shares=shares))[0].values()]
    assert min(sizes) >= 2
    assert sum(sizes) == count
    ideal = np.array(shares) / sum(shares) * count
    if ideal.min() >= 2:
        assert np.abs(sizes - ideal).max() < 1


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Training", "validation", "TESTING"), ("TRAIN", "valid", "test")],
)
def test_folders_called_like_splits_are_the_splits(tmp_path: Path, train: str, val: str, test: str) -> None:
    for split, names in ((train, "abc"), (val, "de"), (test, "fg")):
        pictures(tmp_path / split, names)
    expected = {"train": dict.fromkeys("abc", 2), "val": dict.fromkeys("de", 2), "test": dict.fromkeys("fg", 2)}
    assert listed(tmp_path) == (expected, [])


def test_splits_that_are_not_there_are_taken_from_train_and_it_is_said(tmp_path: Path) -> None:
    pictures(tmp_path / "train", [f"{number:02}" for number in range(10)])
    pictures(tmp_path / "test", ["ant", "bee"])
    splits, notes = listed(tmp_path)
    assert {split: len(classes) for split, classes in splits.items()} == {"train": 8, "val": 2, "test": 2}
    assert sorted(splits["test"]) == ["ant", "bee"]
    assert notes == [
        f"{tmp_path} has no val: 2 of the 10 classes of train are taken for val (data.source.shares, data.source.split_seed)"
    ]
    for path in (tmp_path / "test").iterdir():
        path.rename(tmp_path / "train" / path.name)
    splits, notes = listed(tmp_path)
    assert {split: len(classes) for split, classes in splits.items()} == {"train": 8, "val": 2, "test": 2}
    assert notes == [
        f"{tmp_path} has no val and no test: 2 of the 12 classes of train are taken for val and 2 of the 12 classes of "
        "train are taken for test (data.source.shares, data.source.split_seed)"
    ]


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    splits, notes = listed(pictures(tmp_path, ["train", "bus", "car", "tram", "ship", "plane"]))
    assert set(of_all(splits)) == {"train", "bus", "car", "tram", "ship", "plane"}
    assert notes == []


def test_images_may_lie_deeper_in_a_class_folder(tmp_path: Path) -> None:
    pictures(tmp_path)
    picture(tmp_path / "ant" / "north" / "2021" / "0.png")
    assert of_all(listed(tmp_path)[0]) == dict.fromkeys(CLASSES, 2) | {"ant": 3}


def test_links_are_followed_and_circles_survived(tmp_path: Path) -> None:
    kept = pictures(tmp_path / "kept", ["x"])
    root = pictures(tmp_path / "root", CLASSES[:5])
    (root / "linked").symlink_to(kept / "x")
    (root / "ant" / "one.png").symlink_to(kept / "x" / "0.png")
    (root / "bee" / "up").symlink_to(root)
    counts = of_all(listed(root)[0])
    assert counts["linked"] == 2
    assert counts["ant"] == 3
    (root / "dog" / "gone.png").symlink_to("/nowhere/at all")
    assert refused(root) == f"{root}/dog/gone.png is a link to /nowhere/at all, which does not exist; mend it or remove it"


def test_names_decide_which_files_are_images(tmp_path: Path) -> None:
    pictures(tmp_path)
    for name in ("A.JPG", "b.Jpeg", "c.webp", "d.TIF", "e.ppm"):
        picture(tmp_path / "ant" / name)
    for name in (".hidden.png", "._a.png", "Thumbs.db", ".DS_Store", ".ipynb_checkpoints/0.png", "__MACOSX/0.png"):
        (tmp_path / "ant" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "ant" / name).touch()
    (tmp_path / ".git" / "x").mkdir(parents=True)
    picture(tmp_path / ".git" / "x" / "0.png")
    splits, notes = listed(tmp_path)
    assert of_all(splits) == dict.fromkeys(CLASSES, 2) | {"ant": 7}
    assert notes == []


def test_what_is_left_out_of_a_folder_is_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "readme.md").touch()
    for number in range(6):
        (tmp_path / "ant" / f"{number}.txt").touch()
    for name in ("bee/a.heic", "bee/b.CR2"):
        (tmp_path / name).touch()
    picture(tmp_path / "loose.png")
    (tmp_path / "nothing" / "deeper").mkdir(parents=True)
    (tmp_path / "banks" / "folder-0").mkdir(parents=True)
    (tmp_path / "banks" / "folder-0" / "train.npy").touch()
    splits, notes = listed(tmp_path)
    assert of_all(splits) == dict.fromkeys(CLASSES, 2)
    assert notes == [
        "2 files are of a kind that is not supported (CR2, HEIC; convert to JPEG or PNG) and left out: bee/a.heic; "
        "bee/b.CR2",
        "7 files are no images and left out: ant/0.txt; ant/1.txt; ant/2.txt; ant/3.txt; ant/4.txt; and 2 more",
        "1 file lies in no class folder and is left out: loose.png",
        "2 folders are without images and left out: banks; nothing",
    ]


def test_what_is_left_out_of_split_folders_is_named(tmp_path: Path) -> None:
    pictures(tmp_path / "train", CLASSES)
    (tmp_path / "train" / "gnu").mkdir()
    picture(tmp_path / "train" / "loose.png")
    (tmp_path / "val").mkdir()
    _, notes = listed(tmp_path)
    assert notes[:2] == [
        "1 file lies in no class folder and is left out: train/loose.png",
        "1 folder is without images and left out: train/gnu",
    ]
    assert "has no val and no test" in notes[2]


# --- folders that are refused


def nothing(root: Path) -> None:
    pass


def empty(root: Path) -> None:
    root.mkdir()


def only_texts(root: Path) -> None:
    (root / "ant").mkdir(parents=True)
    (root / "ant" / "a.heic").touch()
    (root / "a.txt").touch()


def only_loose_images(root: Path) -> None:
    picture(root / "a.png")


def five_classes(root: Path) -> None:
    pictures(root, CLASSES[:5])
    (root / "fox").mkdir()


def three_classes_and_no_val(root: Path) -> None:
    pictures(root / "train", "abc")
    pictures(root / "test", "de")


def only_val_and_test(root: Path) -> None:
    pictures(root / "valid", "abc")
    pictures(root / "test", "de")


def shared_classes(root: Path) -> None:
    pictures(root / "train", CLASSES)
    pictures(root / "test", ["gnu", "fox", "elk"])


def one_class_in_val(root: Path) -> None:
    pictures(root / "train", CLASSES)
    pictures(root / "val", ["gnu"])


def others_beside_splits(root: Path) -> None:
    pictures(root / "train", CLASSES)
    pictures(root / "unlabelled", ["x"])


def splits_without_classes(root: Path) -> None:
    picture(root / "train" / "a.png")
    pictures(root / "test", "de")


def a_split_twice(root: Path) -> None:
    pictures(root / "train", CLASSES)
    pictures(root / "val", ["gnu", "hen"])
    pictures(root / "valid", ["gnu", "hen"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nothing, f"data.root=ROOT does not exist; {ALLOWED}"),
        (empty, f"data.root=ROOT is empty; {ALLOWED}"),
        (
            only_texts,
            "data.root=ROOT has no images in class folders (1 file is of a kind that is not supported (HEIC; convert to "
            f"JPEG or PNG) and left out: ant/a.heic; 1 file is no image and left out: a.txt); {ALLOWED}",
        ),
        (
            only_loose_images,
            "data.root=ROOT has no images in class folders (1 file lies in no class folder and is left out: a.png); "
            f"{ALLOWED}",
        ),
        (
            five_classes,
            "data.root=ROOT has 5 classes; at least 6 are needed, 2 for each of train, val and test "
            "(1 folder is without images and left out: fox)",
        ),
        (
            three_classes_and_no_val,
            "data.root=ROOT has 3 classes in train; at least 4 are needed, 2 for each of train and val",
        ),
        (only_val_and_test, "data.root=ROOT has images for test and val and none for train, which is needed"),
        (
            shared_classes,
            "data.root=ROOT: the class elk is in both train and test, and 1 more; a class may be in one split only: leave "
            "out the splits, and the classes are divided by data.source.shares",
        ),
        (one_class_in_val, "the val split of data.root=ROOT has one class, gnu; at least 2 are needed"),
        (
            others_beside_splits,
            "data.root=ROOT has folders of splits (train) and others beside them (unlabelled); move the others away, or "
            "rename a class that is called like a split",
        ),
        (splits_without_classes, f"ROOT/train has images and no class folders; {ALLOWED}"),
        (a_split_twice, "data.root=ROOT has val and valid, which are the same split; keep one of them"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    root = tmp_path / "my pictures 图"
    make(root)
    assert refused(root) == message.replace("ROOT", str(root))


def test_three_shares_are_needed() -> None:
    with pytest.raises(BadInput) as caught:
        source(shares=[0.8, 0.2])
    assert str(caught.value) == (
        "data.source.shares=[0.8, 0.2] has 2 values; allowed: three, for train, val and test, such as [0.64,0.16,0.2]"
    )


# --- CSV files


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_file_says_class_and_split(tmp_path: Path, delimiter: str, encoding: str) -> None:
    elsewhere = picture(tmp_path / "else where" / "0.png")
    rows = [["File", "split", "class", "note"], [str(elsewhere), "train", "猫 a", ""]]
    for split, names in (("train", "bc"), ("valid", "de"), ("TEST", "fg")):
        for name in names:
            picture(tmp_path / "csv" / "in" / f"{name} 图.png")
            rows.append([f"in/{name} 图.png", f" {split} ", name, '"says\n, hello; you"'])
    path = table(tmp_path / "csv" / "all.csv", *(delimiter.join(row) for row in rows), "", encoding=encoding)
    expected = {"train": {"b": 1, "c": 1, "猫 a": 1}, "val": {"d": 1, "e": 1}, "test": {"f": 1, "g": 1}}
    assert listed(path) == (expected, [])


def with_files(folder: Path, *lines: str, **options: Any) -> Path:
    """A CSV file of six good lines and others, beside the images of the good ones."""
    pictures(folder, CLASSES, 1)
    return table(folder / "all.csv", "file,class", *(f"{name}/0.png,{name}" for name in CLASSES), *lines, **options)


def test_a_csv_file_without_splits_is_divided_by_the_shares(tmp_path: Path) -> None:
    splits, notes = listed(with_files(tmp_path))
    assert [len(classes) for classes in splits.values()] == [2, 2, 2]
    assert notes == []


def test_the_order_of_the_lines_of_a_csv_file_changes_nothing(tmp_path: Path) -> None:
    pictures(tmp_path)
    lines = [f"{name}/{number}.png,{name}" for name in CLASSES for number in range(2)]
    listings = []
    for order in (lines, lines[::-1]):
        given = source()
        given.prepare(table(tmp_path / "all.csv", "file,class", *order), tmp_path)
        listings.append([list(classes.items()) for classes in given.listing.values()])
    assert listings[0] == listings[1]


def test_a_csv_file_without_val_takes_it_from_train(tmp_path: Path) -> None:
    pictures(tmp_path, CLASSES, 1)
    splits = dict.fromkeys(CLASSES, "train") | {"elk": "test", "fox": "test"}
    path = table(tmp_path / "a.csv", "file,class,split", *(f"{n}/0.png,{n},{s}" for n, s in splits.items()))
    found, notes = listed(path)
    assert [len(classes) for classes in found.values()] == [2, 2, 2]
    assert list(found["test"]) == ["elk", "fox"]
    assert notes == [
        f"{path} has no val: 2 of the 4 classes of train are taken for val (data.source.shares, data.source.split_seed)"
    ]


def test_a_file_named_twice_counts_once(tmp_path: Path) -> None:
    path = with_files(tmp_path, "./ant/0.png,ant", f"{tmp_path}/ant/../bee/0.png,bee", "cat/a.heic,cat")
    (tmp_path / "cat" / "a.heic").touch()
    splits, notes = listed(path)
    assert of_all(splits) == dict.fromkeys(CLASSES, 1)
    assert notes == [
        "1 file is of a kind that is not supported (HEIC; convert to JPEG or PNG) and left out: cat/a.heic",
        "2 files are named twice in the CSV file and counted once: lines 2 and 8: ./ant/0.png; lines 3 and 9: "
        f"{tmp_path}/ant/../bee/0.png",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["./ant/0.png,bee", "cat/0.png,dog"],
            "CSV gives a file two classes or splits: lines 2 and 8: ./ant/0.png; lines 4 and 9: cat/0.png; keep one line of "
            "each",
        ),
        (
            [*(f"ant/{number}.png,ant" for number in range(1, 8)), ".,ant"],
            "CSV: 8 of its files are not there: line 8: FOLDER/ant/1.png; line 9: FOLDER/ant/2.png; line 10: "
            "FOLDER/ant/3.png; line 11: FOLDER/ant/4.png; line 12: FOLDER/ant/5.png; and 3 more; files are sought beside "
            "the CSV file",
        ),
        (
            ["ant/0.png", "", '"x\ny.png",ant,1', ",ant", "ant/0.png, "],
            "CSV has 4 lines that cannot be used: line 8 has 1 values, the header has 2; line 10 has 3 values, the header "
            "has 2; line 12 has no file; line 13 has no class",
        ),
        (['"ant/0.png,ant'], "CSV is no CSV file: line 8: unexpected end of data"),
    ],
)
def test_lines_of_a_csv_file_that_cannot_be_used_are_named(tmp_path: Path, lines: list[str], message: str) -> None:
    path = with_files(tmp_path, *lines)
    assert refused(path) == message.replace("CSV", str(path), 1).replace("FOLDER", str(tmp_path))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "CSV is empty; it needs the header file,class[,split] and a line for each image"),
        (["", " "], "CSV is empty; it needs the header file,class[,split] and a line for each image"),
        (
            ["file,class"],
            "CSV has a header and no lines below it; it needs the header file,class[,split] and a line for each image",
        ),
        (
            ["filename;label", "a.png;b"],
            "CSV has no column file and no column class; its first line has filename, label, but has to be a header with "
            "file, class and, if wanted, split",
        ),
        (
            ["file,Klasse", "a.png,b"],
            "CSV has no column class; its first line has file, klasse, but has to be a header with file, class and, if "
            "wanted, split",
        ),
        (["class,file,class", "a,b,c"], "CSV has two columns class; keep one of them"),
        (
            ["file,class,split", "a.png,ant,dev", "b.png,bee,"],
            "CSV has 2 lines that cannot be used: line 2 has split 'dev', allowed: train, val, test; line 3 has split '', "
            "allowed: train, val, test",
        ),
    ],
)
def test_a_csv_file_without_what_it_needs_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    path = table(tmp_path / "all.csv", *lines)
    assert refused(path) == message.replace("CSV", str(path), 1)


def test_a_csv_file_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    path = table(tmp_path / "all.csv", "file,class", "a.png,b", "ä.png,b", encoding="latin-1")
    assert refused(path) == f"{path} is not UTF-8 text: line 3 has 0xe4; save it as UTF-8"
    path = table(tmp_path / "all.csv", "file,class", encoding="utf-16")
    assert refused(path) == f"{path} is not UTF-8 text: line 1 has 0xff; save it as UTF-8"


def test_a_file_that_is_no_csv_is_refused(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    assert refused(path) == f"data.root={path} is neither a folder nor a .csv file; {ALLOWED}"


def test_a_class_in_two_splits_of_a_csv_file_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path, ["ant"])
    path = table(tmp_path / "a.csv", "file,class,split", "ant/0.png,ant,train", "ant/1.png,ant,test")
    assert refused(path).startswith(
        f"data.root={path}: the class ant is in both train and test; a class may be in one split"
    )


# --- from files of every kind to the bank


def everything(root: Path) -> None:
    """Classes with files of each kind; `red` says by its pixels what was decoded."""
    pictures(root, CLASSES)
    odd = root / "odd"
    picture(odd / "16 bit.png", 257 * 40, "I;16")
    picture(odd / "cmyk.jpg", (0, 255, 255, 0), "CMYK", quality=100)
    picture(odd / "palette.gif", 1, "P")
    picture(odd / "transparent.png", (255, 0, 0, 0), "RGBA")
    picture(odd / "名字 with space.bmp")
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    frames[0].save(odd / "animated.gif", save_all=True, append_images=frames[1:])
    bad = root / "ant"
    (bad / os.fsdecode(b"empty\n\xfc.png")).touch()
    (bad / "text.jpg").write_text("not found")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(bad / "whole.png")
    whole = (bad / "whole.png").read_bytes()
    (bad / "whole.png").unlink()
    (bad / "cut.png").write_bytes(whole[: len(whole) // 2])
    (bad / "corrupt.png").write_bytes(whole[:200] + b"\0" * 500 + whole[700:])
    (root / "lost").mkdir()
    (root / "lost" / "a.jpg").write_text("nothing")
    (root / "notes.txt").touch()
    for name in (b"gr\xfcn", b"new\nline"):
        picture(root / os.fsdecode(name) / os.fsdecode(b"\xfc\n.png"), (0, 255, 0))


def images_of(folder: Path) -> dict[str, NDArray[np.uint8]]:
    images: dict[str, NDArray[np.uint8]] = {}
    for split, about in read_manifest(folder)["splits"].items():
        stored = np.load(folder / f"{split}.npy")
        assert len(stored) == sum(about["counts"])
        parts = np.split(stored, np.cumsum(about["counts"])[:-1])
        images |= dict(zip(about["classes"], parts, strict=True))
    return images


def test_files_of_every_kind_become_a_bank_or_are_left_out_and_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my pictures 图"
    everything(root)
    folder = build_bank(source(shares=[1, 1, 1]), root, tmp_path / "banks")
    images = images_of(folder)
    assert {name: len(part) for name, part in images.items()} == dict.fromkeys(CLASSES, 2) | {
        "odd": 6,
        "gr\\udcfcn": 1,
        "new\\nline": 1,
    }
    colours = dict(zip(sorted(os.listdir(root / "odd")), images["odd"][:, :, 2, 2].tolist(), strict=True))
    assert colours["16 bit.png"] == [40, 40, 40]
    assert colours["animated.gif"] == [255, 0, 0]
    assert colours["transparent.png"] == [255, 255, 255]
    assert colours["名字 with space.bmp"] == [10, 20, 30]
    assert np.abs(np.subtract(colours["cmyk.jpg"], [255, 0, 0])).max() < 4
    assert images["gr\\udcfcn"][0, :, 0, 0].tolist() == [0, 255, 0]
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "1 file is no image and left out: notes.txt"
    assert sorted(line.partition(" (")[0] for line in said[1:-1]) == [
        "16 bits a channel: scaled to 8",
        "CMYK: converted to RGB",
        "animated: its first frame is used",
        "transparent: shown on white",
    ]
    assert said[-1].startswith("6 left out: ")
    skipped = read_manifest(folder)["skipped"]
    assert sorted(line for line in skipped if "class" not in line) == [
        "ant/corrupt.png: is cut off or damaged",
        "ant/cut.png: is cut off or damaged",
        "ant/empty\\n\\udcfc.png: is empty",
        "ant/text.jpg: is not an image that can be read",
        "lost/a.jpg: is not an image that can be read",
    ]
    assert [line for line in skipped if line.startswith("class lost of the ")]
    assert read_manifest(folder)["notes"] == said[:1]
    assert build_bank(source(shares=[1, 1, 1]), root, tmp_path / "banks") == folder
    assert capfd.readouterr().err == ""


def test_a_csv_file_becomes_a_bank_from_any_folder_that_one_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_files(tmp_path / "pictures", "odd,ant")
    picture(tmp_path / "pictures" / "odd", format="PNG")
    monkeypatch.chdir(tmp_path)
    folder = build_bank(source(channels=1), path.relative_to(tmp_path), tmp_path / "banks")
    assert {name: len(part) for name, part in images_of(folder).items()} == dict.fromkeys(CLASSES, 1) | {"ant": 2}
    assert read_manifest(folder)["skipped"] == []


def test_a_bank_is_current_until_images_change(tmp_path: Path) -> None:
    root, banks = pictures(tmp_path / "root"), tmp_path / "root" / "banks"  # as data.root=data would have it
    folder = build_bank(source(), root, banks)
    built_at = (folder / "manifest.json").stat().st_mtime_ns
    build_bank(source(), root, banks)
    assert (folder / "manifest.json").stat().st_mtime_ns == built_at
    first = stamps(source().files(root))
    picture(root / "gnu" / "0.png")
    second = stamps(source().files(root))
    assert second != first
    os.utime(root / "gnu" / "0.png", ns=(0, 0))
    assert stamps(source().files(root)) != second


def test_a_bank_of_a_csv_file_is_current_until_it_or_its_images_change(tmp_path: Path) -> None:
    path, banks = with_files(tmp_path), tmp_path / "banks"
    folder = build_bank(source(), path, banks)
    built_at = (folder / "manifest.json").stat().st_mtime_ns
    first = stamps(source().files(path))
    os.utime(tmp_path / "ant" / "0.png", ns=(0, 0))
    second = stamps(source().files(path))
    assert second != first
    path.write_text(path.read_text().replace(",fox", ",hens"))
    assert stamps(source().files(path)) != second
    path.unlink()
    build_bank(source(), path, banks)  # the pictures may be on a disk that is not at hand
    assert (folder / "manifest.json").stat().st_mtime_ns == built_at


def test_an_emptied_folder_is_not_the_one_its_bank_was_built_from(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    root.mkdir()
    with_files(root)
    build_bank(source(), root, tmp_path / "banks")
    for path in root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(BadInput, match=r"pictures is empty"):
        build_bank(source(), root, tmp_path / "banks")


@pytest.mark.parametrize(
    "options",
    [{"split_seed": 1}, {"shares": [0.5, 0.25, 0.25]}, {"image_size": 5}, {"channels": 1}, {"fit": "pad"}],
)
def test_each_option_that_decides_the_images_has_its_own_bank(tmp_path: Path, options: dict[str, Any]) -> None:
    assert source(**options).identity(tmp_path) != source().identity(tmp_path)
    assert source().identity(tmp_path / "other") != source().identity(tmp_path)


def test_notes_are_printed_by_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    everything(tmp_path / "图")
    program = f"""
from pathlib import Path
from metashot.sources.building import build_bank
from tests.sources.images.test_folder import source
if __name__ == "__main__":
    build_bank(source(), Path({str(tmp_path)!r}) / "\\u56fe", Path({str(tmp_path)!r}) / "banks")
"""
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, tmp_path / "program.py"], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"6 left out: " in done.stderr


@pytest.mark.parametrize("form", ["folder", "csv"])
def test_many_files_are_listed_and_stamped_quickly(tmp_path: Path, form: str) -> None:
    (tmp_path / "0.png").touch()
    lines = []
    for label in range(10):
        (tmp_path / f"class {label}").mkdir()
        for number in range(1000):
            os.link(tmp_path / "0.png", tmp_path / f"class {label}" / f"{number}.png")
            lines.append(f"class {label}/{number}.png,{label}")
    root = tmp_path if form == "folder" else table(tmp_path / "all.csv", "file,class", *lines)
    started = time.process_time()
    assert len(stamps(source().files(root))) == 10_000 + (form == "csv")
    assert time.process_time() - started < 0.5  # a sixth of the files in the time of all leaves room for slow machines
