"""tieredImageNet in its official forms: read from where the images lie, in little memory, and wrong files are named."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from metashot.bad_input import BadInput
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.images.packed_images import Numbered, Packing
from metashot.sources.images.tieredimagenet import TieredImageNet

SIZES = {"train": (3, 9), "val": (2, 6), "test": (2, 6)}
EACH = 3
NAMES = ["crane", "cab, hack, taxi, taxicab", "crane"]


class Small(TieredImageNet):
    """As many classes and images as the tests' files have, and no server that answers."""

    official = replace(
        TieredImageNet.official,
        files=tuple(replace(file, address=f"http://127.0.0.1:9/{file.name}") for file in TieredImageNet.official.files),
    )
    sizes: ClassVar = SIZES


def pixels(split: str) -> np.ndarray:
    return np.random.default_rng(ord(split[1])).integers(0, 256, (SIZES[split][1], 84, 84, 3), np.uint8)


def labels(split: str) -> np.ndarray:
    """The classes take turns, so that an image's place in its class is another than its number."""
    return np.arange(SIZES[split][1], dtype=np.int32) % SIZES[split][0]


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def encoded(split: str, column: bool = False) -> list[np.ndarray]:
    arrays = [np.frombuffer(png(image), np.uint8).copy() for image in pixels(split)]
    return [array[:, None] for array in arrays] if column else arrays  # as old versions of OpenCV made them


def about(split: str) -> dict[str, Any]:
    names = NAMES[: SIZES[split][0]]
    general = np.zeros(SIZES[split][1], np.int32)
    return {
        "label_specific": labels(split),
        "label_general": general,
        "label_specific_str": names,
        "label_general_str": {0: "bird"},
    }


def written(path: Path, content: Any, protocol: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def pickles(folder: Path, protocol: int = 2, column: bool = False, prefix: str = "") -> Path:
    for split in SIZES:
        written(folder / f"{prefix}{split}_images_png.pkl", encoded(split, column), protocol)
        written(folder / f"{prefix}{split}_labels.pkl", about(split), protocol)
    return folder


def prepared(root: Path, scratch: Path) -> Small:
    scratch.mkdir(exist_ok=True)
    source = Small(84)
    source.prepare(root, scratch)
    return source


def expected(split: str, label: int) -> np.ndarray:
    return pixels(split)[labels(split) == label].transpose(0, 3, 1, 2)


def assert_official(root: Path, scratch: Path, names: Callable[[str], list[str]] | None = None) -> None:
    """What the workers of a bank get draws the right images."""
    source = pickle.loads(pickle.dumps(prepared(root, scratch)))
    texts = {"train": ["crane (0)", NAMES[1], "crane (2)"], "val": NAMES[:2], "test": NAMES[:2]}
    for split, (classes, _) in SIZES.items():
        assert source.splits()[split] == (names(split) if names else texts[split])
        assert source.counts(split) == [EACH] * classes
        for label in range(classes):
            assert np.array_equal(source.draw(split, label, 0, EACH).items, expected(split, label))
            assert np.array_equal(source.draw(split, label, 1, 2).items, expected(split, label)[1:2])


def complaint(root: Path, scratch: Path) -> str:
    with pytest.raises(BadInput) as caught:
        prepared(root, scratch)
    return str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("column", [False, True])
def test_the_official_pickles_are_read(tmp_path: Path, protocol: int, column: bool) -> None:
    root = tmp_path / "data"
    pickles(root / "tiered-imagenet" / "tiered-imagenet", protocol, column)  # doubled, as the authors' instructions do
    assert_official(root, tmp_path / "scratch")
    assert len(Small(84).files(root)) == 6


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_images_stay_in_the_pickle_where_it_holds_their_bytes(tmp_path: Path, protocol: int) -> None:
    prepared(pickles(tmp_path / "data", protocol), tmp_path / "scratch")
    assert [path.name for path in (tmp_path / "scratch").iterdir() if not path.name.endswith(".index")] == []


def test_object_arrays_and_bytes_keys_are_understood(tmp_path: Path) -> None:
    root = pickles(tmp_path / "data")
    images = np.empty(SIZES["val"][1], object)
    images[:] = encoded("val")
    written(root / "val_images_png.pkl", images)
    written(
        root / "val_labels.pkl",
        {b"label_specific": labels("val").tolist(), b"label_specific_str": [n.encode() for n in NAMES[:2]]},
        protocol=4,
    )
    assert_official(root, tmp_path / "scratch")


def test_the_mirrors_names_are_known(tmp_path: Path) -> None:
    assert_official(pickles(tmp_path / "data", prefix="tiered-imagenet-"), tmp_path / "scratch")


def test_the_authors_archive_is_unpacked(tmp_path: Path) -> None:
    pickles(tmp_path / "unpacked")
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "tiered-imagenet.tar", "w") as archive:
        archive.add(tmp_path / "unpacked", "tiered-imagenet")
    assert_official(tmp_path / "data", tmp_path / "scratch")
    assert Small(84).files(tmp_path / "data") == [tmp_path / "data" / "tiered-imagenet.tar"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_are_read_and_their_colours_put_right(tmp_path: Path, save: Callable[..., None]) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for split, first in (("train", 0), ("val", 351), ("test", 448)):
        save(root / f"{split}_images.npz", images=pixels(split)[..., ::-1])
        written(root / f"{split}_labels.pkl", {"labels": (labels(split) + first).tolist()})
    numbered = {"train": ["0", "1", "2"], "val": ["351", "352"], "test": ["448", "449"]}
    assert_official(root, tmp_path / "scratch", numbered.__getitem__)


def test_folders_of_classes_are_read(tmp_path: Path) -> None:
    for split in SIZES:
        for number, (image, label) in enumerate(zip(pixels(split), labels(split), strict=True)):
            folder = tmp_path / "我的 tiered" / "tiered_imagenet" / split / f"{split} 鸟 {label}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number} 一.png").write_bytes(png(image))
    root = tmp_path / "我的 tiered"
    assert_official(root, tmp_path / "scratch", lambda split: [f"{split} 鸟 {label}" for label in range(SIZES[split][0])])
    (root / "tiered_imagenet" / "val" / "nothing").mkdir()
    assert complaint(root, tmp_path / "scratch").startswith(f"{root}/tiered_imagenet/val/nothing is an empty class folder")


def test_the_whole_way_to_a_bank(tmp_path: Path) -> None:
    folder = build_bank(Small(84), pickles(tmp_path / "data"), tmp_path / "banks")
    for split, (classes, _) in SIZES.items():
        wanted = np.concatenate([expected(split, label) for label in range(classes)])
        assert np.array_equal(np.load(folder / f"{split}.npy"), wanted)
    assert read_manifest(folder)["splits"]["train"]["classes"] == ["crane (0)", NAMES[1], "crane (2)"]
    assert not (folder / "scratch").exists()


def test_what_workers_get_is_small_however_many_images_there_are(tmp_path: Path) -> None:
    few = pickle.dumps(prepared(pickles(tmp_path / "data"), tmp_path / "scratch"))
    many = pickle.dumps(Numbered("train_images_png.pkl", np.arange(450_000, dtype=np.int32)))
    assert len(few) < 8000
    assert len(many) < 2_000_000


MEGABYTES = 120  # of images in the generated set
MEMORY = 60  # MB that preparing and drawing may take


@pytest.mark.parametrize("protocol", [2, 4])
def test_images_larger_than_memory_are_prepared_and_drawn(tmp_path: Path, protocol: int) -> None:
    """The images of protocol 2 lie in the file as text, and have to be copied."""
    sizes = {"train": (3, MEGABYTES * 10), "val": (2, 6), "test": (2, 6)}
    root = pickles(tmp_path / "data", protocol)
    noise = np.random.default_rng(0)
    first = np.frombuffer(png(pixels("train")[0]), np.uint8)
    images = [
        np.concatenate([first, noise.integers(0, 256, 100_000 - len(first), np.uint8)]) for _ in range(sizes["train"][1])
    ]
    written(root / "train_images_png.pkl", images, protocol)
    written(
        root / "train_labels.pkl",
        {"label_specific": np.arange(len(images)) % 3, "label_specific_str": ["a", "b", "c"]},
        protocol,
    )
    del images
    (tmp_path / "scratch").mkdir()
    program = f"""
        import resource, sys, pickle
        from pathlib import Path
        from metashot.sources.images.tieredimagenet import TieredImageNet
        TieredImageNet.sizes = {sizes}
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        limit = int(status["VmData"].split()[0]) * 1024 + {MEMORY} * 10**6
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        source = TieredImageNet(84)
        source.prepare(Path(sys.argv[1]), Path(sys.argv[2]))
        source = pickle.loads(pickle.dumps(source))
        for first in range(0, {sizes["train"][1] // 3}, 100):
            drawn = source.draw("train", 1, first, min(first + 100, {sizes["train"][1] // 3}))
        print(drawn.items.sum())
        try:
            bytes(bytearray({MEMORY} * 10**6))
        except MemoryError:
            print("limited")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(root), str(tmp_path / "scratch")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(int(pixels("train")[0].sum()) * (sizes["train"][1] // 3 % 100 or 100)), "limited"]


def test_preparing_leaves_no_images_in_the_process(tmp_path: Path) -> None:
    source = prepared(pickles(tmp_path / "data"), tmp_path / "scratch")
    mapped = Path("/proc/self/maps").read_text()
    assert source.splits()
    assert "_images_png.pkl" not in mapped


# What is wrong with files


@pytest.mark.parametrize("name", ["train_images_png.pkl", "val_labels.pkl", "test_images_png.pkl"])
def test_a_pickle_that_is_missing_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    root = pickles(tmp_path / "data")
    (root / name).unlink()
    message = complaint(root, tmp_path / "scratch")
    assert message.startswith(f"{name} is not in {root} and could not be downloaded from http://127.0.0.1:9/{name}: ")
    assert message.endswith(f"put it there: {root / name}")


def test_a_missing_npz_file_is_named_with_its_place(tmp_path: Path) -> None:
    np.savez(tmp_path / "train_images.npz", images=pixels("train"))
    message = complaint(tmp_path, tmp_path / "scratch")
    assert message == (
        f"train_labels.pkl is not in {tmp_path}, where there are train_images.npz; it is needed too: put it there"
    )


def test_without_files_and_network_the_first_file_is_named_with_its_place(tmp_path: Path) -> None:
    place = tmp_path / "tiered-imagenet" / "train_labels.pkl"
    message = complaint(tmp_path, tmp_path / "scratch")
    assert message.startswith(f"train_labels.pkl is not in {place.parent} and could not be downloaded from")
    assert message.endswith(f"download it with a browser and put it there: {place}")


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["val_images_png.pkl", "val_labels.pkl"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    root = pickles(tmp_path / "data")
    path = written(root / name, [Trap(tmp_path / "ran")])
    message = complaint(root, tmp_path / "scratch")
    assert (
        message
        == f"{path}: this pickle wants to load posix.mkdir, which is not an array or a plain container; it was not loaded"
    )
    assert not (tmp_path / "ran").exists()


def test_objects_in_an_npz_file_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "train_images.npz", images=np.array([Trap(tmp_path / "ran")], object))
    written(tmp_path / "train_labels.pkl", {"labels": [0]})
    message = complaint(tmp_path, tmp_path / "scratch")
    assert message == (
        f"{tmp_path}/train_images.npz: its 'images' holds Python objects, which could run code; it was not loaded: "
        "give images as uint8"
    )
    assert not (tmp_path / "ran").exists()


def test_a_broken_npz_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train_images.npz"
    np.savez_compressed(path, images=pixels("train"))
    written(tmp_path / "train_labels.pkl", {"labels": [0]})
    whole = path.read_bytes()
    for broken in (whole[:-200], whole[:9000] + b"x" * 50 + whole[9050:], b"no zip"):
        path.write_bytes(broken)
        assert complaint(tmp_path, tmp_path / "scratch").startswith(f"{path} is damaged or no .npz file (")
    np.savez(path, pictures=pixels("train"))
    assert complaint(tmp_path, tmp_path / "scratch").startswith(f"{path} has no array 'images'")


@pytest.mark.parametrize("name", ["val_images_png.pkl", "val_labels.pkl"])
def test_a_truncated_pickle_is_named(tmp_path: Path, name: str) -> None:
    root = pickles(tmp_path / "data")
    content = (root / name).read_bytes()
    (root / name).unlink()
    (root / name).write_bytes(content[:-20])
    assert complaint(root, tmp_path / "scratch").startswith(f"{root / name} is damaged or not a pickle: ")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("val_images_png.pkl", {"images": []}, "it holds a dict, not a list"),
        ("val_images_png.pkl", [b"\x89PNG"], "its image 0 is a bytes, not an array of the bytes of a PNG file"),
        ("val_images_png.pkl", [encoded("val")[0], pixels("val")[0]], "its image 1 is an array of uint8 (84, 84, 3), not"),
        ("val_labels.pkl", [1], "it holds a list, not a dict"),
        ("val_labels.pkl", {"label_general": [0] * 6}, "it has neither 'label_specific' nor 'labels' with a whole number"),
        (
            "val_labels.pkl",
            {"label_specific": ["a"] * 6},
            "it has neither 'label_specific' nor 'labels' with a whole number",
        ),
        (
            "val_labels.pkl",
            {"label_specific": [0, 0, 0, 2, 2, 2], "label_specific_str": ["a", "b"]},
            "'label_specific_str' has no name for some of its labels",
        ),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, name: str, content: Any, reason: str) -> None:
    root = pickles(tmp_path / "data")
    path = written(root / name, content)
    assert complaint(root, tmp_path / "scratch").startswith(f"{path} is not the official file: {reason}")


def test_labels_have_to_be_as_many_as_images(tmp_path: Path) -> None:
    root = pickles(tmp_path / "data")
    path = written(root / "val_labels.pkl", about("val") | {"label_specific": np.zeros(5, np.int32)})
    assert complaint(root, tmp_path / "scratch") == (
        f"{path} has 5 labels and val_images_png.pkl has 6 images: they do not belong together, or one is not whole: "
        "fetch both again"
    )


@pytest.mark.parametrize(("count", "classes"), [(5, 2), (3, 2), (1, 1)])
def test_missing_images_are_counted_and_the_split_named(tmp_path: Path, count: int, classes: int) -> None:
    root = pickles(tmp_path / "data")
    written(root / "val_images_png.pkl", encoded("val")[:count])
    written(root / "val_labels.pkl", about("val") | {"label_specific": labels("val")[:count]})
    assert complaint(root, tmp_path / "scratch") == (
        f"the val split of tieredimagenet in {root} has {classes} classes and {count} images, but 2 and 6 were published: "
        "the files are not whole or not the official ones"
    )


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_damaged_png_is_named_by_its_file_and_number(tmp_path: Path, cut: int) -> None:
    root = pickles(tmp_path / "data")
    images = encoded("val")
    images[3] = images[3][:cut]
    written(root / "val_images_png.pkl", images)
    source = prepared(root, tmp_path / "scratch")
    with pytest.raises(BadInput, match=rf"^{root}: val_images_png\.pkl\[3\]: .*; the files are damaged: fetch them again$"):
        source.draw("val", 1, 0, EACH)


def test_arrays_that_do_not_lie_in_the_file_as_they_are_get_copied_row_by_row(tmp_path: Path) -> None:
    packing = Packing(written(tmp_path / "file.pkl", None), tmp_path)
    images = np.asfortranarray(np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8))
    pack = packing.pixels(packing.place(images, 10), 2, 3, 4)
    assert pack.read(1) == b"P6 4 3 255\n" + images[1].tobytes()
