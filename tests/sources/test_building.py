"""The bank: what it holds, that it is built once and whole, and that it is never written to."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from metashot.bad_input import BadInput
from metashot.data.bank import Bank
from metashot.sources.building import build_bank, read_manifest
from metashot.sources.images.folder import OwnImages
from tests.sources.small_source import (
    SHAPE,
    SPLITS,
    Filling,
    FromFiles,
    HalfReadable,
    KillsItsBuilder,
    Large,
    Logged,
    OtherItems,
    SmallSource,
    Untouched,
    image_of,
)

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534
CPU = torch.device("cpu")


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
from metashot.sources.building import build_bank
from tests.sources.small_source import *
{waiting}
if __name__ == "__main__":
    build_bank({source}, Path({str(root)!r}), Path({str(root)!r}))
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
    bank, source = Bank.open(bank_folder, split), SmallSource()
    assert bank.classes == source.splits()[split]
    assert bank.items_per_class.tolist() == source.counts(split)
    assert len(set(bank.items_per_class.tolist())) > 1
    expected = [image_of(split, c, n) for c, count in enumerate(source.counts(split)) for n in range(count)]
    assert bank.items.dtype == np.uint8
    assert np.array_equal(np.asarray(bank.items), np.stack(expected))


def test_a_whole_bank_is_not_drawn_again(bank_folder: Path) -> None:
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in bank_folder.iterdir()}
    assert build_bank(SmallSource(), bank_folder.parent, bank_folder.parent) == bank_folder
    assert build_bank(Untouched(), bank_folder.parent, bank_folder.parent) == bank_folder
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
    assert build_bank(Untouched(), root, root) == folder
    assert Logged(log).identity(Path()) == SmallSource().identity(Path())


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
    assert KillsItsBuilder().identity(Path()) == SmallSource().identity(Path())
    assert not list(root.glob("small-*"))
    assert list(root.glob(".small-*building*"))
    folder = build_bank(SmallSource(), root, root)
    images = Bank.open(folder, "test").items
    assert np.array_equal(images[-1], image_of("test", 8, SmallSource().counts("test")[-1] - 1))
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


def a_link(folder: Path) -> None:
    (folder / "val.npy").rename(folder.parent / "elsewhere")
    (folder / "val.npy").symlink_to(folder.parent / "elsewhere")


def images_are(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Other contents of the same length, which no size gives away."""

    def damage(folder: Path) -> None:
        path = folder / "val.npy"
        whole = path.read_bytes()
        path.write_bytes(change(whole))
        assert path.stat().st_size == len(whole)

    return damage


def header(**changes: Any) -> Callable[[bytes], bytes]:
    """Another header of an array, before the same bytes."""

    def change(whole: bytes) -> bytes:
        with io.BytesIO(whole) as file:
            np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
            start = file.tell()
        fields = {"descr": dtype.str, "fortran_order": fortran_order, "shape": shape} | changes
        text = repr({name: value(shape) if callable(value) else value for name, value in fields.items()}).encode()
        return whole[:10] + text.ljust(start - 11) + b"\n" + whole[start:]

    return change


def described(part: str, change: Callable[[Any], Any], key: str = "splits") -> Callable[[Path], None]:
    """A manifest that says something else of a split, and sums up as before."""

    def damage(folder: Path) -> None:
        manifest = read_manifest(folder)
        of_split = manifest[key]["val"] if key == "splits" else manifest[key]
        of_split[part] = change(of_split[part])
        (folder / "manifest.json").write_text(json.dumps(manifest))

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
    "a manifest that is deep": manifest_of("[" * 100_000),
    "garbage for images": images_are(lambda whole: np.random.default_rng(0).bytes(len(whole))),
    "an archive for images": images_are(lambda whole: b"PK\x03\x04" + whole[4:]),
    "a pickle for images": images_are(lambda whole: b"\x80\x04" + whole[2:]),
    "a link for images": a_link,
    "a header that does not end": images_are(lambda whole: whole[:10] + b"{" * 50 + whole[60:]),
    "images of another type": images_are(header(descr="|i1")),
    "images that are objects": images_are(header(descr="|O")),
    "images of another shape": images_are(header(shape=lambda shape: (shape[0], *shape[:0:-1]))),
    "images in another order": images_are(header(fortran_order=True)),
    "more images than there are": images_are(header(shape=lambda shape: (10**25, *shape[1:]))),
    "one image too few": described("counts", lambda counts: [counts[0] - 1, *counts[1:]]),
    "a class without images": described("counts", lambda counts: [0, counts[0] + counts[1], *counts[2:]]),
    "a class of fewer than no images": described("counts", lambda counts: [-1, counts[0] + counts[1] + 1, *counts[2:]]),
    "half an image": described("counts", lambda counts: [counts[0] - 0.5, counts[1] + 0.5, *counts[2:]]),
    "one class too few": described("classes", lambda classes: classes[1:]),
    "one class too many": described("classes", lambda classes: [*classes, "more"]),
    "classes that are numbers": described("classes", lambda classes: list(range(len(classes)))),
    "classes that are text": described("classes", lambda classes: "x" * len(classes)),
    "digests of other classes": described("val", lambda digests: digests[1:], "digests"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_bank_is_drawn_again(bank_folder: Path, damage: Callable[[Path], None]) -> None:
    damage(bank_folder)
    with pytest.raises(AssertionError, match="drawn again"):
        build_bank(Untouched(), bank_folder.parent, bank_folder.parent)
    assert not list(bank_folder.parent.glob(".small-*building*"))


def test_a_bank_that_is_drawn_again_is_whole(bank_folder: Path) -> None:
    whole = {path.name: path.read_bytes() for path in bank_folder.glob("*.npy")}
    manifest = read_manifest(bank_folder)
    truncate(200)(bank_folder)
    half_a_manifest(bank_folder)
    assert build_bank(SmallSource(), bank_folder.parent, bank_folder.parent) == bank_folder
    assert {path.name: path.read_bytes() for path in bank_folder.glob("*.npy")} == whole
    assert read_manifest(bank_folder) | {"seconds": 0} == manifest | {"seconds": 0}


def test_another_identity_is_another_folder(bank_folder: Path) -> None:
    other = SmallSource(classes=3)
    with pytest.raises(AssertionError, match="drawn again"):
        build_bank(Untouched(classes=3), bank_folder.parent, bank_folder.parent)
    assert other.identity(Path()) != SmallSource().identity(Path())
    assert build_bank(Untouched(), bank_folder.parent, bank_folder.parent) == bank_folder


def test_manifest_says_what_went_in(bank_folder: Path) -> None:
    manifest = json.loads((bank_folder / "manifest.json").read_text())
    assert manifest["identity"].items() >= SmallSource().identity(Path()).items()
    assert list(manifest["splits"]) == list(SPLITS)


def test_a_whole_bank_opens_below_a_read_only_root(small_root: Path, open_folder: Path) -> None:
    (folder,) = small_root.glob("small-*")
    copy = Path(shutil.copytree(folder, open_folder / folder.name))
    with read_only(open_folder):
        assert build_bank(Untouched(), open_folder, open_folder) == copy
        assert Bank.open(copy, "val").gather(np.array([0]), CPU).shape == (1, *SHAPE)


def test_a_root_that_cannot_be_written_names_itself_and_the_key(open_folder: Path) -> None:
    with read_only(open_folder), pytest.raises(BadInput, match=r"banks.*cannot be written|cannot be written.*data\.banks"):
        build_bank(Untouched(), open_folder / "banks", open_folder / "banks")


def test_a_file_in_place_of_the_root_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"file: .*data\.banks"):
        build_bank(Untouched(), tmp_path / "file", tmp_path / "file")


def test_gather_returns_the_items_at_indices_of_any_shape_as_they_are(bank_folder: Path) -> None:
    bank = Bank.open(bank_folder, "train")
    indices = np.array([[[5, 0], [699, 5]], [[17, 18], [19, 300]]])
    items = bank.gather(indices, CPU)
    assert items.shape == (2, 2, 2, *SHAPE)
    assert items.dtype == torch.uint8
    for place in np.ndindex(indices.shape):
        assert torch.equal(items[place], torch.from_numpy(np.array(bank.items[indices[place]])))


def test_a_bank_held_by_a_device_gathers_the_same_images(bank_folder: Path) -> None:
    bank = Bank.open(bank_folder, "val")
    held = Bank(torch.from_numpy(np.array(bank.items)), bank.classes, bank.items_per_class)
    indices = np.array([[3, 0], [17, 3]])
    assert torch.equal(held.gather(indices, CPU), bank.gather(indices, CPU))
    assert bank.placed_on(CPU) is bank


def test_an_opened_bank_never_writes_to_its_files(bank_folder: Path) -> None:
    before = (bank_folder / "val.npy").read_bytes()
    bank = Bank.open(bank_folder, "val")
    with pytest.raises(ValueError, match="read-only"):
        bank.items[0] = 7
    bank.gather(np.arange(4), CPU).zero_()
    del bank
    assert (bank_folder / "val.npy").read_bytes() == before


def test_files_that_cannot_be_read_leave_no_gap_and_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = build_bank(HalfReadable(), tmp_path, tmp_path)
    for split in SPLITS:
        bank, source = Bank.open(folder, split), SmallSource()
        kept = [label for label in range(len(source.splits()[split])) if label != 2]
        assert bank.classes == [source.splits()[split][label] for label in kept]
        assert bank.items_per_class.tolist() == [source.counts(split)[label] // 2 for label in kept]
        expected = [image_of(split, k, n) for k in kept for n in range(1, source.counts(split)[k], 2)]
        assert np.array_equal(np.asarray(bank.items), np.stack(expected))
    announced = sum(sum(SmallSource().counts(split)) for split in SPLITS)
    kept_images = sum(len(Bank.open(folder, split).items) for split in SPLITS)
    manifest = read_manifest(folder)
    assert len(manifest["skipped"]) == announced - kept_images + len(SPLITS)
    assert len(manifest["remarks"]) == kept_images
    said = capfd.readouterr().err
    assert f"animated: its first frame is used ({kept_images} images, first: train-0-1)" in said
    assert f"{len(manifest['skipped'])} left out: train-0-0: is damaged; " in said
    assert "class train-2 of the train split: it has no image that can be read" in manifest["skipped"]
    assert build_bank(HalfReadable(), tmp_path, tmp_path) == folder
    assert capfd.readouterr().err == ""


def test_a_class_larger_than_a_piece_is_written_whole_and_in_order(tmp_path: Path) -> None:
    images = Bank.open(build_bank(Large(), tmp_path, tmp_path), "test").items
    assert (images[:, 0, 0, 0] * 256 + images[:, 0, 0, 1].astype(int)).tolist() == list(range(2100))


@pytest.mark.parametrize("change", ["content", "time", "another file", "one file less"])
def test_a_bank_is_built_again_when_its_files_have_changed(tmp_path: Path, change: str) -> None:
    root, banks = tmp_path / "root", tmp_path / "banks"
    root.mkdir()
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    folder = build_bank(FromFiles(), root, banks)
    before = (folder / "manifest.json").stat().st_ino, (folder / "manifest.json").stat().st_mtime_ns
    assert build_bank(FromFiles(), root, banks) == folder
    assert ((folder / "manifest.json").stat().st_ino, (folder / "manifest.json").stat().st_mtime_ns) == before
    if change == "content":
        (root / "a").write_text("longer")
    elif change == "time":
        os.utime(root / "a", (1, 1))
    elif change == "another file":
        (root / "c").touch()
    else:
        (root / "a").unlink()
    assert build_bank(FromFiles(), root, banks) == folder
    after = (folder / "manifest.json").stat().st_ino, (folder / "manifest.json").stat().st_mtime_ns
    assert after != before


def test_a_bank_outlives_the_files_it_was_built_from(tmp_path: Path) -> None:
    root, banks = tmp_path / "root", tmp_path / "banks"
    root.mkdir()
    (root / "a").touch()
    folder = build_bank(FromFiles(), root, banks)
    inode = (folder / "manifest.json").stat().st_ino
    (root / "a").unlink()
    assert build_bank(FromFiles(), root, banks) == folder
    assert (folder / "manifest.json").stat().st_ino == inode


@pytest.mark.long
def test_a_split_larger_than_memory_is_opened_and_gathered_from(tmp_path: Path) -> None:
    """Four gigabytes of images for a process that may use a few hundred megabytes; the file has holes, so it takes none."""
    images, marked = 4 * 10**9 // (3 * 84 * 84), [0, 77_777, 150_000, 188_000]
    folder = tmp_path / "bank"
    folder.mkdir()
    with (folder / "train.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (images, 3, 84, 84)}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
        start = file.tell()
        file.truncate(start + images * 3 * 84 * 84)
        for value, image in enumerate(marked, start=1):
            file.seek(start + image * 3 * 84 * 84)
            file.write(bytes([value]) * (3 * 84 * 84))
    counts = [images // 4] * 4
    about = {"classes": list("abcd"), "counts": counts, "bytes": (folder / "train.npy").stat().st_size}
    (folder / "manifest.json").write_text(json.dumps({"splits": {"train": about}}))
    program = f"""
import resource
import numpy as np, torch
from pathlib import Path
from metashot.data.bank import Bank
from metashot.data.gathering import gather
from metashot.episodes import EpisodeSampler, EpisodeSpec
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 600 * 2**20, used + 600 * 2**20))
try:
    bytearray(700 * 2**20)
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
bank = Bank.open(Path({str(folder)!r}), "train").placed_on(torch.device("cpu"))
found = bank.gather(np.array({marked}), torch.device("cpu")).float()
sampler = EpisodeSampler(EpisodeSpec(4, 5, 15), bank.items_per_class, 0, "train")
for step in range(5):
    gather(bank, sampler(np.array([step])), torch.device("cpu"))
print(found.flatten(1).mean(1).round().int().tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[1,", "2,", "3,", "4]"]


def test_a_full_disk_is_refused_before_the_work_with_what_is_needed(tmp_path: Path) -> None:
    """On a file system of its own; where none can be mounted there is nothing to fill."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(
            BadInput, match=r"cannot be written .*disk: No space left .*MB are needed .*MB are free.*data\.banks"
        ):
            build_bank(Filling(), disk, disk)
        assert [path.name for path in disk.iterdir() if not path.name.endswith(".lock")] == []
    finally:
        subprocess.run(["umount", disk], check=True)


LITTLE_MEMORY = """
import resource
from pathlib import Path
from metashot.bad_input import BadInput
from metashot.sources.building import build_bank
from metashot.sources.images.folder import OwnImages

if __name__ == "__main__":
    source = OwnImages(image_size=28, channels=1, fit="crop", shares=[0.5, 0.25, 0.25], split_seed=0)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        build_bank(source, Path("images"), Path("new/banks"))
    except BadInput as error:
        print(error)
"""


@pytest.mark.parametrize("memory", [80_000_000, 420_000_000])  # too little for the workers, or for the large image
def test_too_little_memory_is_said_and_no_image_is_taken_for_damaged(tmp_path: Path, memory: int) -> None:
    for label in range(6):
        (tmp_path / "images" / f"c{label}").mkdir(parents=True)
        for number in range(2):
            side = 13_000 if (label, number) == (0, 0) else 28
            Image.new("1", (side, side)).save(tmp_path / "images" / f"c{label}" / f"{number}.png", compress_level=1)
    program = tmp_path / "build.py"
    program.write_text(LITTLE_MEMORY.replace("MEMORY", str(memory)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("there is too little memory to "), done
    assert done.stdout.count("\n") == 1, done
    assert not (tmp_path / "new").exists()


def test_a_refused_build_leaves_no_lock_and_no_folder(tmp_path: Path) -> None:
    source = OwnImages(image_size=28, channels=1, fit="crop", shares=[0.5, 0.25, 0.25], split_seed=0)
    (tmp_path / "images").mkdir()
    with pytest.raises(BadInput, match="is empty"):
        build_bank(source, tmp_path / "images", tmp_path / "new" / "banks")
    assert {path.name for path in tmp_path.iterdir()} == {"images"}
    (tmp_path / "old").mkdir()
    with pytest.raises(BadInput, match="is empty"):
        build_bank(source, tmp_path / "images", tmp_path / "old")
    assert list((tmp_path / "old").iterdir()) == []


@pytest.mark.parametrize(("dtype", "shape"), [("float32", (5,)), ("int32", (3, 2)), ("float32", ())])
def test_items_of_any_type_and_shape_are_kept_as_they_are(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    source = OtherItems(dtype, shape)
    folder = build_bank(source, tmp_path, tmp_path)
    for split in SPLITS:
        bank = Bank.open(folder, split)
        assert bank.items.dtype == np.dtype(dtype)
        assert bank.item_shape == shape
        places = zip(bank.items_per_class.tolist(), range(len(bank.classes)), strict=True)
        expected = [source.item(split, label, number) for count, label in places for number in range(count)]
        assert np.array_equal(np.asarray(bank.items), np.stack(expected))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {(about["dtype"], tuple(about["item_shape"])) for about in manifest["splits"].values()} == {(dtype, shape)}
    assert len(set(manifest["digests"]["train"])) == 4
    assert build_bank(OtherItems(dtype, shape), tmp_path, tmp_path) == folder  # found again by who knows no shape yet


def test_a_bank_whose_items_are_not_of_the_type_of_its_source_is_built_again(tmp_path: Path) -> None:
    folder = build_bank(OtherItems("float32", (5,)), tmp_path, tmp_path)
    whole = (folder / "val.npy").read_bytes()
    (folder / "val.npy").write_bytes(whole.replace(b"<f4", b"<i4"))
    build_bank(OtherItems("float32", (5,)), tmp_path, tmp_path)
    assert (folder / "val.npy").read_bytes() == whole


def test_banks_of_images_are_described_as_they_always_were(bank_folder: Path) -> None:
    """Their description is part of what a checkpoint knows of its data."""
    for about in json.loads((bank_folder / "manifest.json").read_text())["splits"].values():
        assert list(about) == ["classes", "counts", "content", "bytes"]
