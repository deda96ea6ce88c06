"""Promises of the CUB source, on small data sets in the official form and on one of the official size."""

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from metashot.bad_input import BadInput
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.images.cub import HOME, Cub

SPECIES = ("Albatross", "Bunting", "Crow", "Duck", "Egret", "Finch", "Gull", "Heron")
NAMES = [f"{number:03}.{name}" for number, name in enumerate(SPECIES, 1)]
AGAIN = f"; fetch CUB_200_2011.tgz again from {HOME}"


class SmallCub(Cub):
    """Eight species with two images each; it stands at the top of a module since spawned processes import it."""

    species, images = 8, 16
    split_sizes = {"train": 4, "val": 2, "test": 2}  # noqa: RUF012


def source(kind: type[Cub] = SmallCub, **options: Any) -> Cub:
    usual: dict[str, Any] = {"split": "seeded", "split_seed": 0, "crop_to_box": False, "image_size": 4, "fit": "crop"}
    return kind(**usual | options)


def official(folder: Path) -> Path:
    """The small data set: a bird of its own colour on white, in the box (2, 4, 3, 3) of an image of 10 x 12 pixels."""
    images: list[str] = []
    labels: list[str] = []
    boxes: list[str] = []
    for label, name in enumerate(NAMES, 1):
        for number in range(2):
            file = f"{name}/{name[4:]}_{number:04}_{label}.jpg"
            path = folder / "images" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((12, 10, 3), 255, np.uint8)
            pixels[4:7, 2:5] = colour(label)
            Image.fromarray(pixels).save(path, "PNG")  # exact colours; names do not decide how a file is read
            images.append(f"{len(images) + 1} {file}")
            labels.append(f"{len(images)} {label}")
            boxes.append(f"{len(images)} 2.0 4.0 3.0 3.0")
    for name, lines in (
        ("images.txt", images),
        ("image_class_labels.txt", labels),
        ("bounding_boxes.txt", boxes),
        ("classes.txt", [f"{label} {name}" for label, name in enumerate(NAMES, 1)]),
    ):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


def colour(label: int) -> tuple[int, int, int]:
    return 10 * label, 100, 200 - 10 * label


def archive_of(folder: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "CUB_200_2011")
        note = tarfile.TarInfo("attributes.txt")
        note.size = 4
        archive.addfile(note, io.BytesIO(b"1 a\n"))
    return path


def images_of(bank: Path) -> dict[str, NDArray[np.uint8]]:
    """By the name of the class."""
    images: dict[str, NDArray[np.uint8]] = {}
    for split, about in read_manifest(bank)["splits"].items():
        parts = np.split(np.load(bank / f"{split}.npy"), np.cumsum(about["counts"])[:-1])
        images |= dict(zip(about["classes"], parts, strict=True))
    return images


def refused(root: Path, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        source(**options).prepare(root, root)
    return str(caught.value)


def test_the_archive_and_the_folder_give_the_same_images_and_nothing_unpacked_stays(tmp_path: Path) -> None:
    folder = official(tmp_path / "CUB_200_2011")
    archive_of(folder, tmp_path / "packed" / "cub" / "CUB_200_2011.tgz")
    banks = tmp_path / "banks"
    bank = build_bank(source(crop_to_box=True), tmp_path, banks)
    images = images_of(bank)
    assert sorted(images) == NAMES
    for label, name in enumerate(NAMES, 1):
        assert images[name].shape == (2, 3, 4, 4)
        assert (images[name] == np.array(colour(label)).reshape(3, 1, 1)).all()  # the bird alone
    other = images_of(build_bank(source(crop_to_box=True), tmp_path / "packed", banks))
    assert all((images[name] == other[name]).all() for name in NAMES)
    assert not list(banks.rglob("images.txt"))
    whole = images_of(build_bank(source(), tmp_path, banks))
    assert (whole[NAMES[0]][:, :, 3, 3] == 255).all()


@pytest.mark.parametrize(
    "place", ["", "CUB_200_2011", "cub/CUB_200_2011", "cubirds200/CUB_200_2011", "CUB_200_2011/CUB_200_2011", "CUB"]
)
def test_the_folder_is_found_under_the_names_people_have(tmp_path: Path, place: str) -> None:
    folder = official(tmp_path / place)
    given = source()
    given.prepare(tmp_path, tmp_path)
    assert given.opened.path == folder
    assert given.files(tmp_path) == [folder / n for n in ("images.txt", "classes.txt", "image_class_labels.txt", "images")]
    assert folder / "bounding_boxes.txt" in source(crop_to_box=True).files(tmp_path)


def test_the_seed_decides_the_splits(tmp_path: Path) -> None:
    official(tmp_path)
    splits = []
    for seed in (0, 0, 1):
        given = source(split_seed=seed)
        given.prepare(tmp_path, tmp_path)
        assert [len(names) for names in given.splits().values()] == [4, 2, 2]
        assert sorted(name for names in given.splits().values() for name in names) == NAMES
        assert given.counts("train") == [2, 2, 2, 2]
        splits.append(given.splits())
    assert splits[0] == splits[1] != splits[2]


def lists(folder: Path, train: str, val: str, test: str) -> str:
    folder.mkdir()
    for split, names in (("train", train), ("val", val), ("test", test)):
        (folder / f"{split}.txt").write_text("\n".join(names.split()))
    return str(folder)


def test_lists_may_name_species_with_or_without_their_number(tmp_path: Path) -> None:
    official(tmp_path)
    given = source(split=lists(tmp_path / "lists", "Heron 001.Albatross", "003.Crow", "Duck Gull"))
    given.prepare(tmp_path, tmp_path)
    assert given.splits() == {"train": ["008.Heron", "001.Albatross"], "val": ["003.Crow"], "test": ["004.Duck", "007.Gull"]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("Heron Crow", "Dodo", "Duck"),
            "the val list has Dodo, which classes.txt of cub does not; allowed: names such as 001.Albatross, with or "
            "without the number",
        ),
        (
            ("Heron 003.Crow", "Duck", "Crow"),
            "003.Crow is listed twice, in train and in test; each class may be listed once",
        ),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path: Path, names: tuple[str, str, str], message: str) -> None:
    official(tmp_path)
    split = lists(tmp_path / "lists", *names)
    assert refused(tmp_path, split=split) == f"data.source.split={split}: {message}"


def test_a_split_that_is_neither_seeded_nor_a_folder_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        source(split="random")
    assert str(caught.value) == (
        "data.source.split=random cannot be used; allowed: seeded, or a folder with train.txt, val.txt and test.txt"
    )


def line(file: str, number: int, text: str | bytes | None) -> Callable[[Path], None]:
    """Replace a line of a file; without a text it is left out."""

    def change(folder: Path) -> None:
        lines = (folder / file).read_bytes().splitlines()
        lines[number - 1 : number] = [] if text is None else [text.encode() if isinstance(text, str) else text]
        (folder / file).write_bytes(b"\n".join(lines))

    return change


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("classes.txt"), "FOLDER has no classes.txt"),
        (without("bounding_boxes.txt"), "FOLDER has no bounding_boxes.txt"),
        (
            without("images/002.Bunting/Bunting_0001_2.jpg"),
            "FOLDER: images.txt, line 4: images/002.Bunting/Bunting_0001_2.jpg is not there",
        ),
        (
            line("images.txt", 3, "3 ../../secret.jpg"),
            "FOLDER: images.txt, line 3: ../../secret.jpg leads outside of the folder images",
        ),
        (
            line("images.txt", 3, "3 /etc/passwd"),
            "FOLDER: images.txt, line 3: /etc/passwd leads outside of the folder images",
        ),
        (line("images.txt", 3, "x a.jpg"), "FOLDER: images.txt, line 3: 'x' is no number"),
        (line("images.txt", 3, "2 a.jpg"), "FOLDER: images.txt, line 3: the number 2 is on line 2 already"),
        (line("images.txt", 3, "3"), "FOLDER: images.txt, line 3: images/ is not there"),
        (
            line("images.txt", 3, b"3 a\xff.jpg"),
            "FOLDER: images.txt, line 3: 'utf-8' codec can't decode byte 0xff in position 3: invalid start byte",
        ),
        (
            line("image_class_labels.txt", 5, "5 9"),
            "FOLDER: image_class_labels.txt, line 5: the label 9 is not among the 8 of classes.txt",
        ),
        (line("image_class_labels.txt", 5, "5 -1"), "FOLDER: image_class_labels.txt, line 5: '-1' is no number"),
        (
            line("image_class_labels.txt", 5, None),
            "FOLDER: image_class_labels.txt has no line for image 5, which images.txt has on line 5",
        ),
        (
            line("bounding_boxes.txt", 7, None),
            "FOLDER: bounding_boxes.txt has no line for image 7, which images.txt has on line 7",
        ),
        (
            line("bounding_boxes.txt", 7, "70 1 1 2 2"),
            "FOLDER: bounding_boxes.txt has no line for image 7, which images.txt has on line 7",
        ),
        (
            line("images.txt", 16, None),
            "FOLDER: images.txt has no line for image 16, which image_class_labels.txt has on line 16",
        ),
        *(
            (
                line("bounding_boxes.txt", 2, f"2 {box}"),
                f"FOLDER: bounding_boxes.txt, line 2: {box!r} is no box: left, top, width and height in pixels",
            )
            for box in ("1 2 3", "1 2 3 x", "1 2 3 4 5", "1 2 0 4", "1 2 nan 4", "inf 2 3 4", "1 2 3 inf", "")
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    folder = official(tmp_path / "CUB_200_2011")
    damage(folder)
    assert refused(tmp_path, crop_to_box=True) == message.replace("FOLDER", str(folder)) + AGAIN


def test_boxes_are_asked_for_only_where_they_are_used(tmp_path: Path) -> None:
    without("bounding_boxes.txt")(official(tmp_path))
    source().prepare(tmp_path, tmp_path)


def test_other_counts_than_the_published_ones_are_refused(tmp_path: Path) -> None:
    folder = official(tmp_path / "CUB_200_2011")
    with pytest.raises(BadInput) as caught:
        source(Cub).prepare(tmp_path, tmp_path)
    counts = "has 8 species and 16 images, but 200 and 11788 were published"
    assert str(caught.value) == f"cub in {folder} {counts}: {AGAIN[2:]}"


@pytest.mark.parametrize("packed", [False, True])
def test_an_image_that_cannot_be_read_stops_the_build_and_nothing_stays(tmp_path: Path, packed: bool) -> None:
    folder = official(tmp_path / "CUB_200_2011")
    (folder / "images" / "003.Crow" / "Crow_0001_3.jpg").write_text("lost")
    where = archive_of(folder, tmp_path / "packed" / "CUB_200_2011.tgz") if packed else folder
    with pytest.raises(BadInput) as caught:
        build_bank(source(), where.parent, tmp_path / "banks")
    name = "images/003.Crow/Crow_0001_3.jpg"
    assert str(caught.value) == f"{where}: {name}: is not an image that can be read{AGAIN}"
    assert not (tmp_path / "banks").exists()


def test_a_box_beside_the_image_is_named(tmp_path: Path) -> None:
    folder = official(tmp_path)
    line("bounding_boxes.txt", 1, "1 50 50 3 3")(folder)
    given = source(crop_to_box=True)
    given.prepare(tmp_path, tmp_path)
    with pytest.raises(BadInput, match=r"Albatross_0000_1.jpg: nothing of the image \(10 x 12\) lies in the box"):
        given.decode_image("images/001.Albatross/Albatross_0000_1.jpg")


def test_archives_that_are_not_the_official_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    path = tmp_path / "CUB_200_2011.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "text", "CUB_200_2010")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(BadInput) as caught:
        source().open(tmp_path, scratch)
    assert str(caught.value) == f"{path} has no CUB_200_2011/images.txt; delete it and fetch it again from {HOME}"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"CUB_200_2011.tgz is damaged"):
        source().open(tmp_path, scratch)


def test_the_archive_is_fetched_if_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = archive_of(official(tmp_path / "made"), tmp_path / "served" / "CUB_200_2011.tgz")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(served.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = source()
        assert given.official is not None
        file = replace(
            given.official.files[0],
            address=f"http://127.0.0.1:{server.server_port}/{served.name}",
            size=served.stat().st_size,
            checksum=f"md5:{hashlib.md5(served.read_bytes()).hexdigest()}",
        )
        monkeypatch.setattr(SmallCub, "official", replace(given.official, files=(file,)))
        (tmp_path / "root").mkdir()
        (tmp_path / "scratch").mkdir()
        assert given.files(tmp_path / "root") == []
        given.prepare(tmp_path / "root", tmp_path / "scratch")
        server.shutdown()
    assert given.files(tmp_path / "root") == [tmp_path / "root" / "cub" / "CUB_200_2011.tgz"]
    assert sum(given.counts("train")) == 8


@pytest.mark.parametrize("options", [{"split_seed": 1}, {"crop_to_box": True}, {"image_size": 5}, {"fit": "squash"}])
def test_each_option_that_decides_the_images_has_its_own_bank(tmp_path: Path, options: dict[str, Any]) -> None:
    assert source(**options).identity(tmp_path) != source().identity(tmp_path)


def test_the_names_in_the_lists_decide_the_bank(tmp_path: Path) -> None:
    split = lists(tmp_path / "lists", "Heron", "Crow", "Duck")
    before = source(split=split).identity(tmp_path)
    (tmp_path / "lists" / "test.txt").write_text("Gull")
    assert source(split=split).identity(tmp_path) != before != source().identity(tmp_path)


def test_a_data_set_of_the_official_size_passes(tmp_path: Path) -> None:
    first = tmp_path / "one.jpg"
    Image.new("RGB", (8, 8)).save(first)
    folder = tmp_path / "CUB_200_2011"
    names = [f"{label:03}.Bird_{label}" for label in range(1, 201)]
    images, labels = [], []
    for number in range(11_788):
        label = number % 200
        path = folder / "images" / names[label] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(first, path)
        images.append(f"{number + 1} {names[label]}/{number}.jpg\n")
        labels.append(f"{number + 1} {label + 1}\n")
    (folder / "images.txt").write_text("".join(images))
    (folder / "image_class_labels.txt").write_text("".join(labels))
    (folder / "classes.txt").write_text("".join(f"{label} {name}\n" for label, name in enumerate(names, 1)))
    given = source(Cub)
    given.prepare(tmp_path, tmp_path)
    assert {split: len(classes) for split, classes in given.splits().items()} == {"train": 100, "val": 50, "test": 50}
    assert sum(sum(given.counts(split)) for split in given.splits()) == 11_788
