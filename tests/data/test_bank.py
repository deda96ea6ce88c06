"""The bank: what it holds, that it is built once and whole, and that it is never written to."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from metashot.bad_input import BadInput
from metashot.data.bank import ImageBank, build_bank
from tests.data.small_source import SHAPE, SPLITS, KillsItsBuilder, Logged, SmallSource, Untouched, image_of

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def bank_folder(small_root: Path, tmp_path: Path) -> Path:
    """A copy of the small data set's bank, below `tmp_path`."""
    (folder,) = small_root.glob("small-*")
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def program(source: str, root: Path, wait: bool = False) -> list[str]:
    """A process that builds a bank; with `wait`, once it is told to."""
    waiting = "print('ready', flush=True); input()" if wait else ""
    return [
        sys.executable,
        "-c",
        f"""
from pathlib import Path
from metashot.data.bank import build_bank
from tests.data.small_source import *
{waiting}
if __name__ == "__main__":
    build_bank({source}, Path({str(root)!r}))
""",
    ]


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing below the folder can be written by this process, not even if it is root's."""
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            try:
                os.seteuid(NOBODY)
            except PermissionError:
                pytest.skip("root may write everywhere and cannot become another user here")
        with pytest.raises(PermissionError):
            (folder / "written").touch()
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("split", SPLITS)
def test_bank_holds_the_images_of_each_class_in_order(bank_folder: Path, split: str) -> None:
    bank, source = ImageBank.open(bank_folder, split), SmallSource()
    assert bank.classes == source.splits()[split]
    assert bank.images_per_class.tolist() == source.counts(split)
    assert len(set(bank.images_per_class.tolist())) > 1
    expected = [image_of(split, c, n) for c, count in enumerate(source.counts(split)) for n in range(count)]
    assert bank.images.dtype == torch.uint8
    assert np.array_equal(bank.images.numpy(), np.stack(expected))


def test_a_whole_bank_is_not_drawn_again(bank_folder: Path) -> None:
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in bank_folder.iterdir()}
    assert build_bank(SmallSource(), bank_folder.parent) == bank_folder
    assert build_bank(Untouched(), bank_folder.parent) == bank_folder
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in bank_folder.iterdir()} == before
    assert len(before) == len(SPLITS) + 1


def test_two_processes_at_once_build_a_bank_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    root = tmp_path / "banks"
    builders = [
        subprocess.Popen(
            program(f"Logged(Path({str(log)!r}))", root, wait=True),
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for builder in builders:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "ready\n"
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("\n")
        builder.stdin.flush()
    for builder in builders:
        builder.communicate(timeout=60)
    assert [builder.returncode for builder in builders] == [0, 0]
    written = log.read_text().split()
    assert written.count("asked") == 2
    assert written.count("drawn") == 1
    (folder,) = root.glob("small-*")
    assert build_bank(Untouched(), root) == folder
    assert Logged(log).identity() == SmallSource().identity()


@pytest.fixture(scope="module")
def killed_build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """The root of a build that was killed in the middle, and whether all of its processes ended."""
    root = tmp_path_factory.mktemp("killed")
    builder = subprocess.Popen(
        program("KillsItsBuilder()", root), cwd=REPOSITORY, stdout=subprocess.PIPE, start_new_session=True
    )
    assert builder.wait(timeout=60) == -signal.SIGKILL
    try:
        builder.communicate(timeout=15)  # every process of the build holds the pipe open
        ended = True
    except subprocess.TimeoutExpired:
        os.killpg(builder.pid, signal.SIGKILL)
        ended = False
    return root, ended


def test_a_killed_build_is_not_trusted_and_leaves_nothing_behind(killed_build: tuple[Path, bool]) -> None:
    root, _ = killed_build
    assert KillsItsBuilder().identity() == SmallSource().identity()
    assert not list(root.glob("small-*"))
    assert list(root.glob(".small-*building*"))
    folder = build_bank(SmallSource(), root)
    images = ImageBank.open(folder, "test").images
    assert np.array_equal(images[-1].numpy(), image_of("test", 8, SmallSource().counts("test")[-1] - 1))
    assert not list(root.glob(".small-*building*"))


def test_no_process_outlives_a_killed_build(killed_build: tuple[Path, bool]) -> None:
    _, ended = killed_build
    assert ended


def truncate(by: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "val.npy"
        os.truncate(path, path.stat().st_size - by)

    return damage


def empty_images(folder: Path) -> None:
    os.truncate(folder / "val.npy", 0)


def no_images(folder: Path) -> None:
    (folder / "val.npy").unlink()


def half_a_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    os.truncate(path, path.stat().st_size // 2)


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def manifest_of(text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "manifest.json").write_bytes(text.encode("latin-1"))

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "one byte missing": truncate(1),
    "an image missing": truncate(24),
    "more than the header's size missing": truncate(200),
    "empty images": empty_images,
    "no images": no_images,
    "half a manifest": half_a_manifest,
    "no manifest": no_manifest,
    "an empty manifest": manifest_of(""),
    "a manifest that is a list": manifest_of("[]"),
    "a manifest whose splits are a list": manifest_of('{"splits": []}'),
    "a manifest without sizes": manifest_of('{"splits": {"train": {}}}'),
    "a manifest that is not text": manifest_of("\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_bank_is_drawn_again(bank_folder: Path, damage: Callable[[Path], None]) -> None:
    damage(bank_folder)
    with pytest.raises(AssertionError, match="drawn again"):
        build_bank(Untouched(), bank_folder.parent)
    assert not list(bank_folder.parent.glob(".small-*building*"))


def test_a_bank_that_is_drawn_again_is_whole(bank_folder: Path) -> None:
    whole = {path.name: path.read_bytes() for path in bank_folder.iterdir()}
    truncate(200)(bank_folder)
    half_a_manifest(bank_folder)
    assert build_bank(SmallSource(), bank_folder.parent) == bank_folder
    assert {path.name: path.read_bytes() for path in bank_folder.iterdir()} == whole


def test_another_identity_is_another_folder(bank_folder: Path) -> None:
    other = SmallSource(classes=3)
    with pytest.raises(AssertionError, match="drawn again"):
        build_bank(Untouched(classes=3), bank_folder.parent)
    assert other.identity() != SmallSource().identity()
    assert build_bank(Untouched(), bank_folder.parent) == bank_folder


def test_manifest_says_what_went_in(bank_folder: Path) -> None:
    manifest = json.loads((bank_folder / "manifest.json").read_text())
    assert manifest["identity"] == SmallSource().identity()
    assert list(manifest["splits"]) == list(SPLITS)


def test_a_whole_bank_opens_below_a_read_only_root(small_root: Path, open_folder: Path) -> None:
    (folder,) = small_root.glob("small-*")
    copy = Path(shutil.copytree(folder, open_folder / folder.name))
    with read_only(open_folder):
        assert build_bank(Untouched(), open_folder) == copy
        assert ImageBank.open(copy, "val").gather(np.array([0])).shape == (1, *SHAPE)


def test_a_root_that_cannot_be_written_names_itself_and_the_key(open_folder: Path) -> None:
    with read_only(open_folder), pytest.raises(BadInput, match=r"banks.*cannot be written|cannot be written.*data\.banks"):
        build_bank(Untouched(), open_folder / "banks")


def test_a_file_in_place_of_the_root_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"file: .*data\.banks"):
        build_bank(Untouched(), tmp_path / "file")


def test_gather_returns_the_images_at_indices_of_any_shape_between_0_and_1(bank_folder: Path) -> None:
    bank = ImageBank.open(bank_folder, "train")
    indices = np.array([[[5, 0], [699, 5]], [[17, 18], [19, 300]]])
    images = bank.gather(indices)
    assert images.shape == (2, 2, 2, *SHAPE)
    assert images.dtype == torch.float32
    for place in np.ndindex(indices.shape):
        assert torch.equal(images[place], bank.images[int(indices[place])].float() / 255)
    white = ImageBank(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8), ["white"], np.array([1]))
    assert white.gather(np.array([[0]])).unique().tolist() == [1.0]


def test_an_opened_bank_never_writes_to_its_files(bank_folder: Path) -> None:
    before = (bank_folder / "val.npy").read_bytes()
    bank = ImageBank.open(bank_folder, "val")
    bank.images.fill_(7)
    bank.gather(np.arange(4)).zero_()
    del bank
    assert (bank_folder / "val.npy").read_bytes() == before
