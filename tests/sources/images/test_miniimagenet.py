"""miniImageNet in the forms that people have it in, and what is wrong with files is said of the right one."""

import io
import os
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from metashot.bad_input import BadInput
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.images.miniimagenet import MiniImageNet
from metashot.sources.official import Official

CLASSES = {"train": ["n01532829", "n01558993"], "val": ["n01855672"], "test": ["n01930112"]}
EACH = 3


def nowhere(official: Official) -> Official:
    """The same where no server answers."""
    return replace(
        official, files=tuple(replace(file, address=f"http://127.0.0.1:9/{file.name}") for file in official.files)
    )


class Small(MiniImageNet):
    """As many classes and images as the tests' files have, and no network."""

    official = nowhere(MiniImageNet.official)
    sizes: ClassVar = {split: (len(names), EACH * len(names)) for split, names in CLASSES.items()}


def pixels(split: str) -> np.ndarray:
    """Images whose pixels say which they are."""
    count = EACH * len(CLASSES[split])
    images = np.random.default_rng(len(split) * 7 + ord(split[0])).integers(0, 256, (count, 84, 84, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return images


def caches(folder: Path, protocol: int = 2, validation: str = "val") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in CLASSES.items():
        indices = {name: list(range(EACH * i, EACH * (i + 1))) for i, name in enumerate(names)}
        content = pickle.dumps({"image_data": pixels(split), "class_dict": indices}, protocol=protocol)
        written(folder / f"mini-imagenet-cache-{validation if split == 'val' else split}.pkl", content)
    return folder


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def image_files(place: str = "{file}") -> dict[str, bytes]:
    """Images by their names, in the form that `place` says."""
    return {
        place.format(split=split, label=label, file=f"{label}0000000{i + 1}.png"): png(pixels(split)[EACH * number + i])
        for split, names in CLASSES.items()
        for number, label in enumerate(names)
        for i in range(EACH)
    }


def lists() -> dict[str, bytes]:
    return {
        f"{split}.csv": "\n".join(
            ["filename,label", *(f"{label}0000000{i + 1}.png,{label}" for label in names for i in range(EACH)), ""]
        ).encode()
        for split, names in CLASSES.items()
    }


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        written(folder / name, content)


def with_lists(root: Path) -> Path:
    """The folder images with the lists beside it."""
    write_all(root / "images", image_files())
    write_all(root, lists())
    return root


def prepared(root: Path, scratch: Path) -> Small:
    scratch.mkdir(exist_ok=True)
    source = Small(84)
    source.prepare(root, scratch)
    return source


def assert_official(root: Path, scratch: Path, classes: dict[str, list[str]] = CLASSES) -> None:
    """What the workers of a bank get draws the right images."""
    source = pickle.loads(pickle.dumps(prepared(root, scratch)))
    assert source.splits() == classes
    for split, names in CLASSES.items():
        assert source.counts(split) == [EACH] * len(names)
        drawn = np.concatenate([source.draw(split, label, 0, EACH).items for label in range(len(names))])
        assert np.array_equal(drawn, pixels(split).transpose(0, 3, 1, 2))


def complaint(root: Path, scratch: Path) -> str:
    with pytest.raises(BadInput) as caught:
        prepared(root, scratch)
    return str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["", "mini-imagenet", "miniImageNet/mini-imagenet"])
def test_three_pickles_are_read_wherever_people_have_them(tmp_path: Path, place: str, protocol: int) -> None:
    root = tmp_path / "data"
    caches(root / place, protocol)
    assert_official(root, tmp_path / "scratch")
    assert [path.name[20:] for path in Small(84).files(root)] == ["train.pkl", "val.pkl", "test.pkl"]


def test_the_mirrors_name_of_the_validation_pickle_is_known(tmp_path: Path) -> None:
    assert_official(caches(tmp_path / "data", validation="validation"), tmp_path / "scratch")


def test_python_2_keys_and_arrays_of_indices_are_understood(tmp_path: Path) -> None:
    root = caches(tmp_path / "data")
    indices = {b"n01855672": np.arange(EACH)}
    content = pickle.dumps({b"image_data": np.asfortranarray(pixels("val")), b"class_dict": indices})
    written(root / "mini-imagenet-cache-val.pkl", content)
    assert_official(root, tmp_path / "scratch")


def test_the_pickles_of_gidaris_are_read(tmp_path: Path) -> None:
    classes = {"train": ["0", "1"], "val": ["64"], "test": ["80"]}
    for split, names in classes.items():
        labels = [int(name) for name in names for _ in range(EACH)]
        phase = "train_phase_train" if split == "train" else split
        content = pickle.dumps({"data": pixels(split), "labels": labels})
        written(tmp_path / "data" / "miniImageNet_numpy" / f"miniImageNet_category_split_{phase}.pickle", content)
    assert_official(tmp_path / "data", tmp_path / "scratch", classes)
    (tmp_path / "data/miniImageNet_numpy/miniImageNet_category_split_val.pickle").unlink()
    message = complaint(tmp_path / "data", tmp_path / "scratch")
    assert message == (
        f"miniImageNet_category_split_val.pickle is not in {tmp_path}/data/miniImageNet_numpy, where there is "
        "miniImageNet_category_split_train_phase_train.pickle, miniImageNet_category_split_test.pickle; "
        "it is needed too: put it there"
    )


def test_the_authors_archive_is_unpacked(tmp_path: Path) -> None:
    caches(tmp_path / "unpacked")
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "mini-imagenet.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "unpacked", "mini-imagenet")
    assert_official(tmp_path / "data", tmp_path / "scratch")
    assert Small(84).files(tmp_path / "data") == [tmp_path / "data" / "mini-imagenet.tar.gz"]


def test_an_archive_that_lacks_a_pickle_is_named(tmp_path: Path) -> None:
    caches(tmp_path / "unpacked")
    (tmp_path / "unpacked" / "mini-imagenet-cache-test.pkl").unlink()
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "mini-imagenet.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "unpacked", "mini-imagenet")
    message = complaint(tmp_path / "data", tmp_path / "scratch")
    assert message.startswith(
        f"mini-imagenet-cache-test.pkl is not in {tmp_path}/data/mini-imagenet.tar.gz, where there is "
    )


@pytest.mark.parametrize("lists_at", ["", "images", ".."])
@pytest.mark.parametrize("place", ["{file}", "{label}/{file}", "{split}/{label}/{file}"])
def test_images_with_lists_are_read(tmp_path: Path, place: str, lists_at: str) -> None:
    folder = tmp_path / "data" / "mini-imagenet"
    write_all(folder / "images", image_files(place))
    write_all(folder / lists_at, lists())
    assert_official(tmp_path / "data", tmp_path / "scratch")
    assert Small(84).files(tmp_path / "data")[0] == folder / "images"


@pytest.mark.parametrize("inside", [True, False])
def test_a_zip_of_images_is_read_with_lists_in_it_or_beside_it(tmp_path: Path, inside: bool) -> None:
    root = tmp_path / "data"
    files = image_files("images/{file}") | (lists() if inside else {})
    root.mkdir()
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    if not inside:
        write_all(root, lists())
    assert_official(root, tmp_path / "scratch")


def test_folders_of_classes_are_read_from_a_folder_or_a_zip(tmp_path: Path) -> None:
    files = image_files("{split}/{label}/{file}")
    write_all(tmp_path / "one" / "miniImageNet", files | {"images/.keep": b""})
    assert_official(tmp_path / "one", tmp_path / "scratch")
    (tmp_path / "two").mkdir()
    with zipfile.ZipFile(tmp_path / "two" / "mini-imagenet.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"mini-imagenet/{name}", content)
    assert_official(tmp_path / "two", tmp_path / "scratch")


def test_images_of_other_sizes_are_squashed_with_lanczos(tmp_path: Path) -> None:
    root = with_lists(tmp_path / "data")
    large = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    written(root / "images" / "n0185567200000001.png", png(large))
    expected = np.asarray(Image.fromarray(large).resize((84, 84), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    assert np.array_equal(prepared(root, tmp_path / "scratch").draw("val", 0, 0, 1).items[0], expected)


def test_names_may_have_spaces_and_chinese_characters(tmp_path: Path) -> None:
    root = with_lists(tmp_path / "我的 数据")
    (root / "images" / "n0185567200000001.png").rename(root / "images" / "鸟 一.png")
    text = (root / "val.csv").read_text().replace("n0185567200000001.png", "鸟 一.png").replace(",n01855672", ",大 鸟")
    (root / "val.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert_official(root, tmp_path / "scratch", CLASSES | {"val": ["大 鸟"]})


def test_the_whole_way_to_a_bank(tmp_path: Path) -> None:
    root = caches(tmp_path / "data", protocol=2)
    folder = build_bank(Small(84), root, tmp_path / "banks")
    for split in ("train", "val", "test"):
        assert read_manifest(folder)["splits"][split]["classes"] == CLASSES[split]
        assert np.array_equal(np.load(folder / f"{split}.npy"), pixels(split).transpose(0, 3, 1, 2))
    before = (folder / "manifest.json").stat().st_mtime_ns
    build_bank(Small(84), root, tmp_path / "banks")
    assert (folder / "manifest.json").stat().st_mtime_ns == before


def test_workers_get_no_images(tmp_path: Path) -> None:
    assert len(pickle.dumps(prepared(caches(tmp_path / "data"), tmp_path / "scratch"))) < 5000


# What is wrong with files


@pytest.mark.parametrize("split", CLASSES)
def test_a_pickle_that_is_missing_is_named_with_its_place(tmp_path: Path, split: str) -> None:
    root = caches(tmp_path / "data")
    (root / f"mini-imagenet-cache-{split}.pkl").unlink()
    name = f"mini-imagenet-cache-{'validation' if split == 'val' else split}.pkl"
    message = complaint(root, tmp_path / "scratch")
    assert message.startswith(f"{name} (")
    assert f" is not in {root} and could not be downloaded from http://127.0.0.1:9/{name}: " in message
    assert message.endswith(f"put it there: {root / name}")


def test_without_files_and_network_the_first_file_is_named_with_its_place(tmp_path: Path) -> None:
    place = tmp_path / "mini-imagenet" / "mini-imagenet-cache-train.pkl"
    message = complaint(tmp_path, tmp_path / "scratch")
    assert message.startswith(
        f"mini-imagenet-cache-train.pkl (1145.5 MB) is not in {place.parent} and could not be downloaded"
    )
    assert message.endswith(f"download it with a browser and put it there: {place}")
    missing = tmp_path / "nothing"
    assert complaint(missing, tmp_path / "scratch").startswith(f"data.root={missing} is not a folder; give the folder")


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    root = caches(tmp_path / "data")
    path = written(root / "mini-imagenet-cache-val.pkl", pickle.dumps({"image_data": Trap(tmp_path / "ran")}))
    message = complaint(root, tmp_path / "scratch")
    assert (
        message
        == f"{path}: this pickle wants to load posix.mkdir, which is not an array or a plain container; it was not loaded"
    )
    assert not (tmp_path / "ran").exists()


def test_a_truncated_pickle_is_named(tmp_path: Path) -> None:
    root = caches(tmp_path / "data")
    path = root / "mini-imagenet-cache-val.pkl"
    written(path, path.read_bytes()[:-1000])
    assert complaint(root, tmp_path / "scratch").startswith(f"{path} is damaged or not a pickle: it ")


IMAGES = np.zeros((EACH, 84, 84, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1], "it holds a list, not a dict"),
        ({"class_dict": {}}, "it has no 'image_data', an array of bytes of shape (images, height, width, 3)"),
        ({"image_data": IMAGES[..., 0]}, "it has no 'image_data', an array of bytes of shape (images, height, width, 3)"),
        ({"image_data": IMAGES.astype(np.float32)}, "it has no 'image_data', an array of bytes of shape"),
        ({"image_data": IMAGES}, "it has no 'class_dict', the numbers of the images of each class"),
        ({"image_data": IMAGES, "class_dict": {"a": "012"}}, "it has no 'class_dict', the numbers"),
        ({"image_data": IMAGES, "class_dict": {"a": [2**70]}}, "it has no 'class_dict', the numbers"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    root = caches(tmp_path / "data")
    path = written(root / "mini-imagenet-cache-val.pkl", pickle.dumps(content))
    assert complaint(root, tmp_path / "scratch").startswith(f"{path} is not the official file: {reason}")


@pytest.mark.parametrize(("given", "different"), [([0, 1], 2), ([0, 1, 1], 2), ([0, 1, 3], 3), ([-1, 0, 1], 3)])
def test_indices_have_to_fit_the_images(tmp_path: Path, given: list[int], different: int) -> None:
    root = caches(tmp_path / "data")
    content = {"image_data": IMAGES, "class_dict": {"n01855672": given}}
    path = written(root / "mini-imagenet-cache-val.pkl", pickle.dumps(content))
    assert complaint(root, tmp_path / "scratch") == (
        f"{path}: its 'class_dict' and its images do not belong together: it has 3 images, and {len(given)} are given a "
        f"class, {different} of them different; fetch it again"
    )


def test_a_class_with_too_few_images_is_counted_and_the_split_named(tmp_path: Path) -> None:
    root = caches(tmp_path / "data")
    content = {"image_data": IMAGES[:2], "class_dict": {"n01855672": [0, 1]}}
    written(root / "mini-imagenet-cache-val.pkl", pickle.dumps(content))
    assert complaint(root, tmp_path / "scratch") == (
        f"the val split of miniimagenet in {root} has 1 classes and 2 images, but 1 and 3 were published: "
        "the files are not whole or not the official ones"
    )


def test_a_class_in_two_splits_is_refused_in_every_form(tmp_path: Path) -> None:
    root = caches(tmp_path / "pickles")
    content = {"image_data": IMAGES, "class_dict": {"n01532829": [0, 1, 2]}}
    written(root / "mini-imagenet-cache-val.pkl", pickle.dumps(content))
    shared = "n01532829 is in the lists of both train and val, and 0 more: a class may be in one split only"
    assert complaint(root, tmp_path / "scratch") == f"{root}: {shared}"
    root = with_lists(tmp_path / "lists")
    written(root / "val.csv", (root / "val.csv").read_bytes().replace(b",n01855672", b",n01532829"))
    assert complaint(root, tmp_path / "scratch") == f"{root}/images: {shared}"
    root = tmp_path / "folders"
    write_all(root, image_files("{split}/{label}/{file}"))
    (root / "val" / "n01855672").rename(root / "val" / "n01532829")
    assert complaint(root, tmp_path / "scratch") == f"{root}: {shared}"


def test_a_list_that_is_missing_is_named_with_its_place(tmp_path: Path) -> None:
    root = with_lists(tmp_path / "data")
    (root / "val.csv").unlink()
    message = complaint(root, tmp_path / "scratch")
    assert message.startswith(
        f"val.csv (0.3 MB) is not in {root} and could not be downloaded from http://127.0.0.1:9/val.csv"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b"filename,label", b"filename,class"), " has no column label: it has 'filename', 'class', and those of Ravi"),
        ((b"filename,label", b"n0185567200000009.png,n01855672"), " has no column filename: it has 'n0185567200000009.png'"),
        (
            (b"00000002.png", b"00000009.png"),
            ", line 3: n0185567200000009.png is not in {root}/images: fetch the images again",
        ),
        ((b"00000002.png", b"00000001.png"), ", line 3: n0185567200000001.png is listed before, at {root}/val.csv, line 2;"),
        ((b"00000002.png,n01855672", b"00000002.png"), ", line 3: it has no label"),
        ((b"00000002.png", b'"quoted" badly.png'), ", line 3: "),
        ((b"n0185567200000002", b"../n0185567200000002"), ", line 3: ../n0185567200000002.png is not in {root}/images"),
        ((b"00000002.png", b"\xff.png"), " is not UTF-8 text"),
    ],
)
def test_a_wrong_list_is_named_with_the_line(tmp_path: Path, change: tuple[bytes, bytes], reason: str) -> None:
    root = with_lists(tmp_path / "data")
    path = root / "val.csv"
    assert change[0] in path.read_bytes()
    written(path, path.read_bytes().replace(*change))
    assert complaint(root, tmp_path / "scratch").startswith(f"{path}{reason.format(root=root)}")


def test_a_file_listed_in_two_splits_is_refused(tmp_path: Path) -> None:
    root = with_lists(tmp_path / "data")
    written(root / "test.csv", (root / "test.csv").read_bytes() + b"n0185567200000001.png,n01930112\n")
    assert complaint(root, tmp_path / "scratch") == (
        f"{root}/test.csv, line 5: n0185567200000001.png is listed before, at {root}/val.csv, line 2; remove one of "
        "the lines"
    )


def test_a_name_that_two_files_have_is_refused(tmp_path: Path) -> None:
    root = with_lists(tmp_path / "data")
    written(root / "images" / "more" / "n0185567200000001.png", b"")
    assert complaint(root, tmp_path / "scratch") == (
        f"{root}/val.csv, line 2: n0185567200000001.png is in {root}/images more than once: "
        "more/n0185567200000001.png, n0185567200000001.png; keep one"
    )


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    write_all(tmp_path / "data", image_files("{split}/{label}/{file}"))
    empty = tmp_path / "data" / "val" / "n02971356"
    empty.mkdir()
    assert complaint(tmp_path / "data", tmp_path / "scratch").startswith(f"{empty} is an empty class folder")


@pytest.mark.parametrize("content", [b"", b"not an image", png(IMAGES[0])[:60]])
def test_a_damaged_image_is_named_and_stops_the_build(tmp_path: Path, content: bytes) -> None:
    root = with_lists(tmp_path / "data")
    written(root / "images" / "n0185567200000002.png", content)
    with pytest.raises(
        BadInput, match=rf"^{root}/images: n0185567200000002\.png: .*; the files are damaged: fetch them again$"
    ):
        prepared(root, tmp_path / "scratch").draw("val", 0, 0, EACH)


def test_other_data_sets_beside_it_are_not_taken_for_it(tmp_path: Path) -> None:
    write_all(tmp_path / "data", {"images/001.Albatross/a.jpg": b"", "mini-imagenet/notes.txt": b"", "train/a.jpg": b""})
    assert Small(84).files(tmp_path / "data") == []
