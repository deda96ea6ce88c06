"""A few images of each class of CIFAR-100, written in every form that people have them, and read back from a source."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from metashot.sources.images.cifar100 import CLASSES, Cifar100
from metashot.sources.images.cifarfs import BERTINETTO
from metashot.sources.images.fc100 import FC100

EACH = 2  # images of a class; the first is in CIFAR-100's test part

Pixels = NDArray[np.uint8]
Bank = dict[str, dict[str, Pixels]]  # the images [N, 3, height, width] of each class of each split

_RANDOM = np.random.default_rng(7)
# As in CIFAR-100, the names of a class's images need not begin with its name, and go on in the other part.
IMAGES = {
    name: {
        f"{word}_{name[::-1]}_s_{number:06d}.png": _RANDOM.integers(256, size=(32, 32, 3), dtype=np.uint8)
        for word, number in (("bos", 9), ("zoo", 3))
    }
    for name in CLASSES
}
FC100_CLASSES = FC100(32).classes


def read_bank(source: Cifar100, root: Path, scratch: Path) -> Bank:
    """All images, drawn by a copy of the source such as workers get."""
    scratch.mkdir(exist_ok=True)
    source.prepare(root, scratch)
    sent = pickle.dumps(source)
    assert len(sent) < 100_000  # the images are not sent along: they alone are six times as many bytes
    worker: Cifar100 = pickle.loads(sent)
    counts = {split: worker.counts(split) for split in worker.splits()}
    return {
        split: {name: worker.draw(split, label, 0, counts[split][label]).items for label, name in enumerate(names)}
        for split, names in worker.splits().items()
    }


def expected_bank(splits: dict[str, list[str]]) -> Bank:
    return {
        split: {n: np.stack([image.transpose(2, 0, 1) for _, image in sorted(IMAGES[n].items())]) for n in names}
        for split, names in splits.items()
    }


def assert_same_bank(found: Bank, expected: Bank) -> None:
    """The same images, and the classes in the same order."""
    assert {split: list(classes) for split, classes in found.items()} == {s: list(c) for s, c in expected.items()}
    for split, classes in expected.items():
        for name, images in classes.items():
            np.testing.assert_array_equal(found[split][name], images, f"{name} of {split}")


def png(image: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


_PNG_FILES = {f"data/{name}/{file}": png(image) for name, images in IMAGES.items() for file, image in images.items()}
_LISTS = {f"splits/bertinetto/{split}.txt": "\n".join(names).encode() for split, names in BERTINETTO.items()}
ARCHIVE = {f"cifar100/{name}": content for name, content in (_PNG_FILES | _LISTS).items()}


def make_zip(path: Path, content: dict[str, bytes] = ARCHIVE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def make_folder(path: Path, content: dict[str, bytes] = ARCHIVE) -> Path:
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def make_python_folder(path: Path) -> Path:
    """CIFAR-100's own form: the images in no order, as planes of red, green and blue."""
    path.mkdir(parents=True)
    order = np.random.default_rng(3).permutation(len(CLASSES)).tolist()
    for part, kept in (("test", slice(0, 1)), ("train", slice(1, EACH))):
        rows = [(label, *item) for label in order for item in list(IMAGES[CLASSES[label]].items())[kept]]
        table = {
            "filenames": [file for _, file, _ in rows],
            "batch_label": f"{part} batch 1 of 1",
            "fine_labels": [label for label, _, _ in rows],
            "coarse_labels": [0 for _ in rows],
            "data": np.stack([image.transpose(2, 0, 1).ravel() for _, _, image in rows]),
        }
        (path / part).write_bytes(pickle.dumps(table, protocol=2))
    (path / "meta").write_bytes(pickle.dumps({"fine_label_names": CLASSES, "coarse_label_names": []}, protocol=2))
    return path


def make_python_tar(path: Path) -> Path:
    folder = make_python_folder(path.parent / "to pack" / "cifar-100-python")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


def make_fc100_pickles(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for split, names in FC100_CLASSES.items():
        order = np.random.default_rng(5).permutation(len(names)).tolist()
        rows = [(CLASSES.index(names[i]), image) for i in order for _, image in sorted(IMAGES[names[i]].items())]
        table = {"data": np.stack([image for _, image in rows]), "labels": [label for label, _ in rows]}
        (path / f"FC100_{split}.pickle").write_bytes(pickle.dumps(table, protocol=2))
    return path


def assert_constants(name: str, images: Iterable[Pixels]) -> None:
    """The mean and the standard deviation in the configuration are those of all these images, as fractions of 255."""
    counts = sum(np.stack([np.bincount(some[:, c].ravel(), minlength=256) for c in range(3)]) for some in images)
    shares = counts / np.sum(counts, axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = shares @ values
    std = np.sqrt(shares @ values**2 - mean**2)
    config = yaml.safe_load((Path(__file__).parents[3] / "conf" / "data" / f"{name}.yaml").read_text())
    np.testing.assert_allclose(
        [config["presentation"]["mean"], config["presentation"]["std"]], [mean, std], rtol=0, atol=0.00006
    )


FORMS: dict[str, Callable[[Path], Path]] = {  # by the place below data.root, in the layouts of several programs
    "cifar-fs.zip": make_zip,
    "cifar100.zip": make_zip,
    "cifar-fs/cifar-fs.zip": make_zip,
    "cifarfs/cifar100.zip": make_zip,
    "cifarfs": make_folder,  # which holds cifar100/, as learn2learn leaves it
    "CIFAR-FS": make_folder,
    "cifar100": lambda path: make_folder(path.parent),
    "root": lambda path: make_folder(path.parent, _PNG_FILES | _LISTS),
    "cifar-100-python": make_python_folder,
    "CIFAR-FS/cifar-100-python": make_python_folder,
    "cifar-100-python.tar.gz": make_python_tar,
    "cifar100/cifar-100-python.tar.gz": lambda path: make_python_tar(_with_parent(path)),
}


def _with_parent(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    return path
