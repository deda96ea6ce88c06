"""CIFAR-FS: the same images from every form that people have, the published numbers, and what is said of bad files."""

import functools
import hashlib
import io
import pickle
import shutil
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metashot.bad_input import BadInput
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.getting.download import OfficialFile
from metashot.sources.images import cifarfs
from metashot.sources.images.cifar100 import CLASSES
from metashot.sources.images.cifarfs import BERTINETTO, CifarFS
from tests.sources.getting.test_files import as_an_ordinary_user
from tests.sources.images import cifar100_forms as forms

SPLITS = {"train": 64, "val": 16, "test": 20}


class SmallCifarFS(CifarFS):
    images_of_a_class = forms.EACH


def complaint(root: Path, scratch: Path, split: str = "bertinetto") -> str:
    with pytest.raises(BadInput) as error:
        forms.read_bank(SmallCifarFS(split, 32), root, scratch)
    return str(error.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.mark.parametrize("place", forms.FORMS)
def test_same_images_in_the_same_order_from_every_form_and_place(root: Path, scratch: Path, place: str) -> None:
    forms.FORMS[place](root / place)
    shutil.rmtree(root / "to pack", ignore_errors=True)
    found = forms.read_bank(SmallCifarFS("bertinetto", 32), root, scratch)
    forms.assert_same_bank(found, forms.expected_bank(BERTINETTO))


def test_images_of_another_size_are_the_same_from_files_and_pickles(tmp_path: Path, scratch: Path) -> None:
    forms.make_zip(tmp_path / "files" / "cifar100.zip")
    forms.make_python_folder(tmp_path / "pickles" / "cifar-100-python")
    of_files, of_pickles = (
        forms.read_bank(SmallCifarFS("bertinetto", 20), tmp_path / form, scratch) for form in ("files", "pickles")
    )
    forms.assert_same_bank(of_pickles, of_files)
    assert of_files["val"]["beaver"].shape == (forms.EACH, 3, 20, 20)


@pytest.mark.parametrize("place", ["cifar100.zip", "cifar-100-python.tar.gz"])
def test_workers_build_the_same_bank(root: Path, tmp_path: Path, place: str) -> None:
    forms.FORMS[place](root / place)
    folder = build_bank(SmallCifarFS("bertinetto", 32), root, tmp_path / "banks")
    expected = forms.expected_bank(BERTINETTO)
    manifest = read_manifest(folder)
    assert {split: about["classes"] for split, about in manifest["splits"].items()} == BERTINETTO
    for split, classes in expected.items():
        np.testing.assert_array_equal(np.load(folder / f"{split}.npy"), np.concatenate(list(classes.values())))
    assert [Path(path).name for path, *_ in manifest["files"]["each"]] == [place]
    assert [path.name for path in folder.iterdir() if path.name == "scratch"] == []


def test_bank_within_the_folder_of_the_files_does_not_make_itself_outdated(root: Path) -> None:
    forms.FORMS["root"](root / "root")
    assert CifarFS("bertinetto", 32).files(root) == [root / "data", root / "splits"]
    shutil.rmtree(root)
    forms.make_python_folder(root)
    (root / "data").mkdir()
    assert CifarFS("bertinetto", 32).files(root) == [root / "train", root / "test", root / "meta"]


def test_lists_in_the_archive_are_used(root: Path, scratch: Path) -> None:
    """Bertinetto's lists are published with the images; the copy in the program is for CIFAR-100's own archive."""
    swapped = BERTINETTO | {"val": [*BERTINETTO["val"][1:], "baby"], "test": ["beaver", *BERTINETTO["test"][1:]]}
    lists = {f"cifar100/splits/bertinetto/{split}.txt": "\n".join(names).encode() for split, names in swapped.items()}
    forms.make_zip(root / "cifar100.zip", forms.ARCHIVE | lists)
    source = SmallCifarFS("bertinetto", 32)
    forms.read_bank(source, root, scratch)
    assert source.splits() == swapped


@pytest.mark.parametrize("place", ["cifar100.zip", "cifar-100-python"])
def test_lists_of_a_folder_are_used_and_decide_the_bank(root: Path, tmp_path: Path, scratch: Path, place: str) -> None:
    forms.FORMS[place](root / place)
    splits = {"train": ["worm", "apple", "maple_tree"], "val": ["bee"], "test": ["wolf", "sea"]}
    forms.make_folder(tmp_path / "lists", {f"my_{s}.txt": "\n".join(names).encode() for s, names in splits.items()})
    source = SmallCifarFS(str(tmp_path / "lists"), 32)
    forms.assert_same_bank(forms.read_bank(source, root, scratch), forms.expected_bank(splits))
    assert source.identity(root) != SmallCifarFS("bertinetto", 32).identity(root)


def test_split_that_is_neither_known_nor_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        CifarFS(f"{tmp_path}/nowhere", 32)
    assert str(error.value) == (
        f"data.source.split={tmp_path}/nowhere cannot be used; allowed: bertinetto, or a folder with train.txt, val.txt and "
        "test.txt"
    )


@pytest.mark.parametrize("make", [forms.make_zip, forms.make_folder])
def test_missing_list_is_named(root: Path, scratch: Path, make: Callable[..., Path]) -> None:
    content = {name: data for name, data in forms.ARCHIVE.items() if not name.endswith("val.txt")}
    place = make(root / "cifar100.zip" if make is forms.make_zip else root, content)
    path = place if place.is_file() else root / "cifar100"
    assert complaint(root, scratch) == (
        f"{path} has no splits/bertinetto/val.txt, the list of the val split's classes: "
        "fetch the archive again, or give a folder with such lists as data.source.split"
    )


def test_class_in_two_lists_is_refused(root: Path, scratch: Path) -> None:
    content = {"cifar100/splits/bertinetto/val.txt": b"apple\nsea\n"}
    path = forms.make_zip(root / "cifar100.zip", forms.ARCHIVE | content)
    assert complaint(root, scratch) == (
        f"{path}: apple is in the lists of both train and val, and 0 more: a class may be in one split only"
    )


def test_class_that_the_archive_lacks_is_named(root: Path, tmp_path: Path, scratch: Path) -> None:
    path = forms.make_zip(root / "cifar100.zip", {n: d for n, d in forms.ARCHIVE.items() if "/fox/" not in n})
    assert complaint(root, scratch) == (
        f"{path} has no images data/fox/*.png, and the test split of cifarfs has that class (1 of its 20 classes are "
        "missing): fetch the archive again, or correct the list"
    )
    forms.make_folder(tmp_path / "lists", {"train.txt": b"apple\nunicorn", "val.txt": b"bee", "test.txt": b"sea"})
    assert complaint(root, scratch, str(tmp_path / "lists")) == (
        f"{path} has no images data/unicorn/*.png, and the train split of cifarfs has that class (1 of its 2 classes are "
        "missing): fetch the archive again, or correct the list"
    )


def test_missing_image_is_an_error_with_the_split_and_the_counts(root: Path, scratch: Path) -> None:
    missing = next(name for name in forms.ARCHIVE if "/wolf/" in name)
    path = forms.make_zip(root / "cifar100.zip", {n: d for n, d in forms.ARCHIVE.items() if n != missing})
    assert complaint(root, scratch) == (
        f"the train split of cifarfs in {path} has 64 classes and 127 images, but 64 and 128 were published: "
        "the files are not whole or not the official ones"
    )


@pytest.mark.parametrize("damage", ["cut off", "no image"])
def test_damaged_image_stops_the_build_and_is_named(root: Path, scratch: Path, damage: str) -> None:
    name = next(name for name in forms.ARCHIVE if "/wolf/" in name)
    content = forms.ARCHIVE[name][:900] if damage == "cut off" else b"not found"
    path = forms.make_zip(root / "cifar100.zip", forms.ARCHIVE | {name: content})
    what = "is cut off or damaged" if damage == "cut off" else "is not an image that can be read"
    assert complaint(root, scratch) == f"{path}: {name}: {what}; the files are damaged: fetch them again"


def test_archive_with_a_member_outside_of_it_is_refused(root: Path, scratch: Path) -> None:
    path = forms.make_zip(root / "cifar100.zip", forms.ARCHIVE | {"cifar100/../../apple.png": b"x"})
    assert complaint(root, scratch) == (
        f"{path}: its member 'cifar100/../../apple.png' points outside the archive's folder; it was not opened"
    )


def test_tar_with_a_member_outside_of_it_is_refused(root: Path, tmp_path: Path, scratch: Path) -> None:
    path = root / "cifar-100-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    assert complaint(root, scratch) == (
        f"{path}: its member '../outside' points outside the archive's folder; it was not unpacked"
    )
    assert not (tmp_path / "outside").exists()


def test_archive_of_something_else_is_named(root: Path, scratch: Path) -> None:
    path = root / "cifar-100-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("cifar-100-binary/train.bin"), io.BytesIO())
    assert complaint(root, scratch) == (f"{path} is not CIFAR-100's archive: it lacks train, test, meta; fetch it again")


def test_truncated_archive_is_named(root: Path, scratch: Path) -> None:
    path = forms.make_zip(root / "cifar100.zip")
    path.write_bytes(path.read_bytes()[:5000])
    assert complaint(root, scratch) == (
        f"{path} is damaged (File is not a zip file); delete the archive and download it again"
    )


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("packed", [False, True])
def test_hostile_pickle_is_refused_by_name_and_does_not_run(tmp_path: Path, root: Path, scratch: Path, packed: bool) -> None:
    folder = forms.make_python_folder((tmp_path / "packing" if packed else root) / "cifar-100-python")
    (folder / "train").write_bytes(pickle.dumps(Hostile(tmp_path / "was here"), protocol=2))
    path = folder
    if packed:
        path = root / "cifar-100-python.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, folder.name)
    assert complaint(root, scratch).startswith(f"{path}/train: this pickle wants to load ")
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("train", {"filenames": None}, "it has no 'filenames'"),
        ("train", {"data": [1, 2]}, "its 'data' is no array of bytes of shape (images, 3072)"),
        ("test", {"data": np.zeros((100, 3071), np.uint8)}, "its 'data' is no array of bytes of shape (images, 3072)"),
        ("train", {"data": np.zeros((100, 3072))}, "its 'data' is no array of bytes of shape (images, 3072)"),
        ("train", {"fine_labels": [0] * 99}, "it has 100 images and not as many fine_labels and filenames"),
        ("train", {"fine_labels": [100] * 100}, "it has the label 100; allowed: 0 to 99"),
        ("train", {"fine_labels": ["0"] * 100}, "it has the label '0'; allowed: 0 to 99"),
        ("meta", {"fine_label_names": CLASSES[1:]}, "its 'fine_label_names' are not the 100 classes"),
    ],
)
def test_pickle_that_is_not_the_official_one_is_named(
    root: Path, scratch: Path, part: str, change: dict[str, Any], reason: str
) -> None:
    folder = forms.make_python_folder(root / "cifar-100-python")
    table = pickle.loads((folder / part).read_bytes()) | change
    kept = {key: value for key, value in table.items() if value is not None}
    (folder / part).write_bytes(pickle.dumps(kept, protocol=2))
    assert complaint(root, scratch) == f"{folder}/{part} is not the official pickle: {reason}; fetch it again"


def test_pickle_of_something_else_is_named(root: Path, scratch: Path) -> None:
    folder = forms.make_python_folder(root / "cifar-100-python")
    (folder / "test").write_bytes(pickle.dumps([1, 2]))
    assert complaint(root, scratch) == (
        f"{folder}/test is not the official pickle: it holds a list, not a dict; fetch it again"
    )


def test_without_files_and_network_the_message_says_which_file_to_put_where(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens at this address, so that the test needs no network and fails on no machine that has one.
    file = OfficialFile("cifar-100-python.tar.gz", "http://127.0.0.1:9/cifar-100-python.tar.gz", 169_001_437, None)
    monkeypatch.setattr("metashot.sources.images.cifar100.CIFAR_100", file)
    assert complaint(root, scratch) == (
        f"cifar-100-python.tar.gz (169.0 MB) is not in {root}/cifar100 and could not be downloaded from {file.address}: "
        f"Connection refused; download it with a browser and put it there: {root}/cifar100/cifar-100-python.tar.gz"
    )


def test_archive_is_downloaded_where_nothing_is_there(
    root: Path, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    archive = forms.make_python_tar(tmp_path / "home" / "cifar-100-python.tar.gz")
    checksum = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(archive.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        file = OfficialFile(archive.name, address, archive.stat().st_size, checksum)
        monkeypatch.setattr("metashot.sources.images.cifar100.CIFAR_100", file)
        found = forms.read_bank(SmallCifarFS("bertinetto", 32), root, scratch)
        server.shutdown()
    forms.assert_same_bank(found, forms.expected_bank(BERTINETTO))
    assert SmallCifarFS("bertinetto", 32).files(root) == [root / "cifar100" / "cifar-100-python.tar.gz"]


def test_root_that_is_no_folder_is_refused(tmp_path: Path, scratch: Path) -> None:
    assert complaint(tmp_path / "nowhere", scratch) == (
        f"data.root={tmp_path}/nowhere is not a folder; give the folder that data sets are kept in, or make it for "
        "cifar-100-python.tar.gz"
    )


def test_folder_that_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:  # which others may enter, unlike pytest's
        Path(name).chmod(0o755)
        folder = Path(name) / "cifar100"
        folder.mkdir(mode=0o000)
        with as_an_ordinary_user(), pytest.raises(BadInput) as error:
            CifarFS("bertinetto", 32).files(Path(name))
        assert str(error.value) == f"{folder} cannot be read: Permission denied; see data.root"


def test_file_that_is_still_being_fetched_is_not_taken(root: Path) -> None:
    forms.make_folder(
        root, {"cifar100/cifar-100-python.tar.gz.part": b"x", "cifar100/cifar-100-python.tar.gz.part.json": b""}
    )
    assert CifarFS("bertinetto", 32).files(root) == []


def test_folder_of_other_images_is_not_taken(root: Path) -> None:
    forms.make_folder(root, {"animals/data/wolf/1.png": b"", "notes/train": b"", "notes/test": b"", "notes/meta": b""})
    assert CifarFS("bertinetto", 32).files(root) == []


def test_lists_in_the_program_are_a_partition_of_the_classes() -> None:
    assert {split: len(names) for split, names in BERTINETTO.items()} == SPLITS
    assert sorted(name for names in BERTINETTO.values() for name in names) == CLASSES
    assert cifarfs.CifarFS.images_of_a_class == 600


# The real archive


def test_real_bank_has_the_published_classes_and_images(real_cifarfs_bank: Path) -> None:
    splits = read_manifest(real_cifarfs_bank)["splits"]
    assert {split: about["classes"] for split, about in splits.items()} == BERTINETTO
    assert {split: about["counts"] for split, about in splits.items()} == {s: [600] * n for s, n in SPLITS.items()}


def test_real_bank_has_the_pixels_of_the_archive(real_cifarfs_bank: Path, real_cifarfs_zip: Path) -> None:
    with zipfile.ZipFile(real_cifarfs_zip) as archive:
        names = archive.namelist()
        for split, label, number in (("train", 0, 0), ("train", 63, 599), ("val", 7, 123), ("test", 19, 599)):
            of_class = sorted(name for name in names if f"/{BERTINETTO[split][label]}/" in name)
            with Image.open(io.BytesIO(archive.read(of_class[number]))) as image:
                expected = np.asarray(image).transpose(2, 0, 1)
            found = np.load(real_cifarfs_bank / f"{split}.npy", mmap_mode="r")[600 * label + number]
            np.testing.assert_array_equal(found, expected)


def test_constants_of_the_configuration_are_those_of_the_training_split(real_cifarfs_bank: Path) -> None:
    forms.assert_constants("cifarfs", [np.load(real_cifarfs_bank / "train.npy", mmap_mode="r")])
