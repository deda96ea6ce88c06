"""FC100: the same images from its own pickles and from every form of CIFAR-100, split by superclass."""

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metashot.bad_input import BadInput
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.getting.download import OfficialFile
from metashot.sources.images.cifar100 import CLASSES, SUPERCLASSES
from metashot.sources.images.cifarfs import CifarFS
from metashot.sources.images.fc100 import FC100
from tests.sources.images import cifar100_forms as forms
from tests.sources.images.cifar100_forms import FC100_CLASSES

SPLITS = {"train": 60, "val": 20, "test": 20}


class SmallFC100(FC100):
    images_of_a_class = forms.EACH


def zipped_pickles(path: Path, folder: str = "") -> Path:
    pickles = forms.make_fc100_pickles(path.parent / "to pack")
    forms.make_zip(path, {f"{folder}{file.name}": file.read_bytes() for file in pickles.iterdir()})
    shutil.rmtree(pickles)
    return path


PICKLED: dict[str, Callable[[Path], Path]] = {
    "FC100": forms.make_fc100_pickles,
    "fc100": forms.make_fc100_pickles,
    "root": lambda path: forms.make_fc100_pickles(path.parent),
    "FC100.zip": zipped_pickles,
    "FC100/FC100.zip": zipped_pickles,
    "fc100.zip": lambda path: zipped_pickles(path, "FC100/"),
}


def complaint(root: Path, scratch: Path) -> str:
    with pytest.raises(BadInput) as error:
        forms.read_bank(SmallFC100(32), root, scratch)
    return str(error.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.mark.parametrize("place", [*PICKLED, *forms.FORMS])
def test_same_images_in_the_same_order_from_every_form_and_place(root: Path, scratch: Path, place: str) -> None:
    (PICKLED | forms.FORMS)[place](root / place)
    shutil.rmtree(root / "to pack", ignore_errors=True)
    found = forms.read_bank(SmallFC100(32), root, scratch)
    forms.assert_same_bank(found, forms.expected_bank(FC100_CLASSES))


@pytest.mark.parametrize("place", ["FC100", "FC100.zip"])
def test_workers_build_the_same_bank(root: Path, tmp_path: Path, place: str) -> None:
    PICKLED[place](root / place)
    folder = build_bank(SmallFC100(32), root, tmp_path / "banks")
    for split, classes in forms.expected_bank(FC100_CLASSES).items():
        np.testing.assert_array_equal(np.load(folder / f"{split}.npy"), np.concatenate(list(classes.values())))
    stamped = sorted(Path(path).name for path, *_ in read_manifest(folder)["files"]["each"])
    assert stamped == (["FC100.zip"] if place == "FC100.zip" else [f"FC100_{s}.pickle" for s in ("test", "train", "val")])


def test_splits_share_no_superclass() -> None:
    superclass = {name: title for title, names in SUPERCLASSES.items() for name in names.split()}
    titles = {split: {superclass[name] for name in names} for split, names in FC100_CLASSES.items()}
    assert {split: len(of_split) for split, of_split in titles.items()} == {"train": 12, "val": 4, "test": 4}
    assert set.union(*titles.values()) == set(SUPERCLASSES)
    assert {split: len(names) for split, names in FC100_CLASSES.items()} == SPLITS
    assert sorted(name for names in FC100_CLASSES.values() for name in names) == CLASSES
    assert FC100.images_of_a_class == 600


def test_splits_are_those_of_the_paper() -> None:
    """Its appendix lists the numbers that CIFAR-100 gives the superclasses."""
    numbers = {name: number for number, names in enumerate(SUPERCLASSES.values()) for name in names.split()}
    assert list(SUPERCLASSES) == sorted(SUPERCLASSES)
    assert {split: {numbers[name] for name in names} for split, names in FC100_CLASSES.items()} == {
        "train": {1, 2, 3, 4, 5, 6, 9, 10, 15, 17, 18, 19},
        "val": {8, 11, 13, 16},
        "test": {0, 7, 12, 14},
    }


def test_splits_are_those_of_the_published_table(real_data: Path) -> None:
    path = real_data / "cifar-fs" / "fc100.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    table = json.loads(path.read_text())
    assert {name: title for title, names in SUPERCLASSES.items() for name in names.split()} == table["superclass_of_class"]
    for split, titles in table["fc100_superclasses"].items():
        assert {name for title in titles for name in SUPERCLASSES[title].split()} == set(FC100_CLASSES[split])


def test_its_own_pickles_are_taken_before_other_forms(root: Path) -> None:
    forms.make_zip(root / "cifar100.zip", {})
    assert FC100(32).files(root) == [root / "cifar100.zip"]
    forms.make_fc100_pickles(root / "FC100")
    assert [path.parent.name for path in FC100(32).files(root)] == ["FC100"] * 3
    assert CifarFS("bertinetto", 32).files(root) == [root / "cifar100.zip"]


def test_missing_pickle_is_named(root: Path, scratch: Path) -> None:
    folder = forms.make_fc100_pickles(root / "FC100")
    (folder / "FC100_val.pickle").unlink()
    assert complaint(root, scratch) == (
        f"{folder}/FC100_val.pickle cannot be read: No such file or directory; check the path and its permissions"
    )


def test_archive_without_the_pickles_is_named(root: Path, scratch: Path) -> None:
    path = forms.make_zip(root / "FC100.zip", {"readme.txt": b""})
    assert complaint(root, scratch) == (
        f"{path}/FC100_train.pickle cannot be read: No such file or directory; check the path and its permissions"
    )


def test_missing_image_is_an_error_with_the_split_and_the_counts(root: Path, scratch: Path) -> None:
    folder = forms.make_fc100_pickles(root / "FC100")
    table = pickle.loads((folder / "FC100_val.pickle").read_bytes())
    shorter = {"data": table["data"][1:], "labels": table["labels"][1:]}
    (folder / "FC100_val.pickle").write_bytes(pickle.dumps(shorter, protocol=2))
    assert complaint(root, scratch) == (
        f"the val split of fc100 in {folder} has 20 classes and 39 images, but 20 and 40 were published: "
        "the files are not whole or not the official ones"
    )


def test_class_that_the_archive_lacks_is_named(root: Path, scratch: Path) -> None:
    path = forms.make_zip(root / "cifar100.zip", {n: d for n, d in forms.ARCHIVE.items() if "/fox/" not in n})
    assert complaint(root, scratch) == (
        f"{path} has no images data/fox/*.png, and the test split of fc100 has that class (1 of its 20 classes are "
        "missing): fetch the archive again, or correct the list"
    )


def test_lists_of_cifarfs_are_not_needed(root: Path, scratch: Path) -> None:
    forms.make_zip(root / "cifar100.zip", {n: d for n, d in forms.ARCHIVE.items() if not n.endswith(".txt")})
    forms.assert_same_bank(forms.read_bank(SmallFC100(32), root, scratch), forms.expected_bank(FC100_CLASSES))


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("packed", [False, True])
def test_hostile_pickle_is_refused_by_name_and_does_not_run(tmp_path: Path, root: Path, scratch: Path, packed: bool) -> None:
    content = pickle.dumps(Hostile(tmp_path / "was here"), protocol=2)
    path = root / ("FC100.zip" if packed else "FC100")
    if packed:
        forms.make_zip(path, {"FC100_train.pickle": content})
    else:
        forms.make_fc100_pickles(path)
        (path / "FC100_train.pickle").write_bytes(content)
    assert complaint(root, scratch).startswith(f"{path}/FC100_train.pickle: this pickle wants to load ")
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": np.zeros((120, 84, 84, 3), np.uint8)}, "its 'data' is no array of bytes of shape (images, 32, 32, 3)"),
        ({"labels": [0] * 119}, "it has 120 images and not as many labels"),
        ({"labels": [-1] * 120}, "it has the label -1; allowed: 0 to 99"),
        ({"labels": [[0]] * 120}, "it has the label [0]; allowed: 0 to 99"),
    ],
)
def test_pickle_that_is_not_the_official_one_is_named(
    root: Path, scratch: Path, change: dict[str, Any], reason: str
) -> None:
    folder = forms.make_fc100_pickles(root / "FC100")
    path = folder / "FC100_train.pickle"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | change, protocol=2))
    assert complaint(root, scratch) == f"{path} is not the official pickle: {reason}; fetch it again"


def test_archive_with_a_member_outside_of_it_is_refused(root: Path, tmp_path: Path, scratch: Path) -> None:
    path = root / "FC100.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../FC100_train.pickle", b"x")
    assert complaint(root, scratch) == (
        f"{path}: its member '../FC100_train.pickle' points outside the archive's folder; it was not opened"
    )
    assert not (tmp_path / "FC100_train.pickle").exists()


def test_without_files_and_network_the_message_says_which_file_to_put_where(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = OfficialFile("cifar-100-python.tar.gz", "http://127.0.0.1:9/cifar-100-python.tar.gz", 169_001_437, None)
    monkeypatch.setattr("metashot.sources.images.cifar100.CIFAR_100", file)
    assert complaint(root, scratch) == (
        f"cifar-100-python.tar.gz (169.0 MB) is not in {root}/cifar100 and could not be downloaded from {file.address}: "
        f"Connection refused; download it with a browser and put it there: {root}/cifar100/cifar-100-python.tar.gz"
    )


# The real images, of which CIFAR-FS's bank is there already


@pytest.fixture(scope="module")
def real_classes(real_cifarfs_bank: Path) -> dict[str, forms.Pixels]:
    """The images of each class, in CIFAR-FS's bank."""
    classes = {}
    for split, about in read_manifest(real_cifarfs_bank)["splits"].items():
        images = np.load(real_cifarfs_bank / f"{split}.npy", mmap_mode="r")
        for label, name in enumerate(about["classes"]):
            classes[name] = images[600 * label : 600 * (label + 1)]
    return classes


def test_real_images_are_regrouped_by_class(real_data: Path, real_classes: dict[str, forms.Pixels], scratch: Path) -> None:
    source = FC100(32)
    source.prepare(real_data, scratch)
    assert source.splits() == FC100_CLASSES
    assert {split: source.counts(split) for split in SPLITS} == {s: [600] * n for s, n in SPLITS.items()}
    for split, label, first in (("train", 0, 0), ("train", 59, 595), ("val", 7, 300), ("test", 19, 595)):
        found = source.draw(split, label, first, first + 5).items
        np.testing.assert_array_equal(found, real_classes[FC100_CLASSES[split][label]][first : first + 5])


def test_constants_of_the_configuration_are_those_of_the_training_split(real_classes: dict[str, forms.Pixels]) -> None:
    forms.assert_constants("fc100", [real_classes[name] for name in FC100_CLASSES["train"]])
