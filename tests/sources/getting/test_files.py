"""The files of a data set: the same from a folder and a zip, never outside of an archive, and damage is named."""

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.sources.getting.files import Files, Folder, Zip, open_files, stamps, unpack_tar

CONTENT = {
    "test/图像 集/图 1.png": b"a picture",
    "train/class one/with space.png": bytes(range(256)) * 50,
    "train/empty.png": b"",
    "train.csv": b"filename,label\n",
}
JUNK = ("__MACOSX/train/._empty.png", "train/.DS_Store", "train/._empty.png", "Thumbs.db", "test/desktop.ini")
NOBODY = 65534


@contextlib.contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Permissions count for this process, even if it is root's."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except PermissionError:
        pytest.skip("root may read and write everywhere and cannot become another user here")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def make_folder(path: Path) -> Path:
    for name, content in [*CONTENT.items(), *((name, b"junk") for name in JUNK)]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def make_zip(path: Path, content: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        if content is None:
            archive.mkdir("train")
            content = CONTENT | dict.fromkeys(JUNK, b"junk")
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def one_member(**attributes: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("member.png")
    for name, value in attributes.items():
        setattr(member, name, value)
    return member


@pytest.fixture(params=["folder", "stored", "deflated", "bzip2", "lzma"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return open_files(make_folder(tmp_path / "data set"))
    method = getattr(zipfile, f"ZIP_{request.param.upper()}")
    return open_files(make_zip(tmp_path / "data set.ZIP", compression=method))


def test_names_are_sorted_posix_and_without_junk(files: Files) -> None:
    assert files.names() == sorted(CONTENT)


def test_read_returns_the_content_of_each_file(files: Files) -> None:
    assert {name: files.read(name) for name in files.names()} == CONTENT


def test_a_name_that_is_not_there_is_bad_input_with_the_path(files: Files) -> None:
    with pytest.raises(BadInput, match=r"data set.*train/none\.png"):
        files.read("train/none.png")


def test_files_say_where_they_are(files: Files) -> None:
    assert files.path.name.startswith("data set")


@pytest.mark.parametrize("name", ["nothing", "nothing.zip", "readme.txt"])
def test_what_is_no_folder_and_no_zip_is_bad_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(BadInput, match=name):
        open_files(tmp_path / name)


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    kept = make_folder(tmp_path / "kept")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "first").symlink_to(kept / "train")
    (linked / "second").symlink_to(kept / "train")
    (linked / "one.csv").symlink_to(kept / "train.csv")
    names = Folder(linked).names()
    train = ("class one/with space.png", "empty.png")
    assert names == [*(f"first/{name}" for name in train), "one.csv", *(f"second/{name}" for name in train)]
    assert Folder(linked).read("second/class one/with space.png") == CONTENT["train/class one/with space.png"]


def test_links_that_lead_in_a_circle_are_survived(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "circle")
    (folder / "again").symlink_to(folder)
    (folder / "train" / "up").symlink_to("..")
    (folder / "train" / "other").symlink_to(folder / "test")
    (folder / "test" / "other").symlink_to(folder / "train")
    (folder / "itself").symlink_to("itself")
    names = Folder(folder).names()
    assert set(CONTENT) <= set(names)
    assert "train/other/图像 集/图 1.png" in names
    assert len(names) == len(set(names)) < 20


def test_a_link_to_nothing_is_named_and_not_passed_over(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    (folder / "train" / "gone").symlink_to("/scratch/purged")
    with pytest.raises(BadInput, match=r"folder/train/gone is a link to /scratch/purged, which does not exist"):
        Folder(folder).names()


@pytest.mark.parametrize("use", [lambda f: f.names(), lambda f: f.read("hidden/a.png"), lambda f: stamps([f.path])])
def test_what_may_not_be_read_is_named_with_the_reason(open_folder: Path, use: Callable[[Folder], object]) -> None:
    (open_folder / "hidden").mkdir(mode=0o700)
    (open_folder / "hidden" / "a.png").touch()
    (open_folder / "hidden").chmod(0 if os.geteuid() else 0o700)
    try:
        with as_an_ordinary_user(), pytest.raises(BadInput, match=r"hidden.* cannot be read: Permission denied"):
            use(Folder(open_folder))
    finally:
        (open_folder / "hidden").chmod(0o700)


def test_names_that_are_no_text_are_read_and_can_be_printed(tmp_path: Path) -> None:
    name = os.fsdecode(b"gr\xfcn.png")
    try:
        (tmp_path / name).write_bytes(b"green")
    except OSError:
        pytest.skip("this file system has only names that are text")
    folder = Folder(tmp_path)
    assert folder.names() == [name]
    assert folder.read(name) == b"green"
    (tmp_path / name).unlink()
    with pytest.raises(BadInput) as caught:
        folder.read(name)
    assert b"gr\\udcfcn.png" in str(caught.value).encode()


OUTSIDE = [
    "../a.png",
    "a/../../b.png",
    "/etc/passwd",
    "C:\\a.png",
    "c:a.png",
    "..\\a.png",
    "a\\..\\..\\b",
    "\\\\host\\a",
    "..",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_zip_with_a_member_outside_is_not_opened(tmp_path: Path, name: str) -> None:
    path = make_zip(tmp_path / "a.zip", {"fine.png": b"", name: b"", "z.png": b""})
    with pytest.raises(BadInput) as caught:
        open_files(path).names()
    assert str(caught.value) == f"{path}: its member {name!r} points outside the archive's folder; it was not opened"
    with pytest.raises(BadInput):
        open_files(path).read("fine.png")


def test_a_zip_with_a_link_is_not_opened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(one_member(create_system=3, external_attr=0o120777 << 16), "/etc/passwd")
    with pytest.raises(BadInput, match=r"'member\.png' points outside"):
        open_files(tmp_path / "a.zip").names()


@pytest.mark.parametrize("name", ["train\\a b.png", "./train/a b.png", "train//a b.png", "x/../train/a b.png"])
def test_a_zip_member_that_stays_inside_has_a_posix_name(tmp_path: Path, name: str) -> None:
    files = open_files(make_zip(tmp_path / "a.zip", {name: b"content"}))
    assert files.names() == ["train/a b.png"]
    assert files.read("train/a b.png") == b"content"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["train/a.png", "train\\a.png"])
def test_a_zip_with_a_name_twice_is_bad_input(tmp_path: Path, second: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train/a.png", b"one")
        archive.writestr(second, b"two")
    with pytest.raises(BadInput, match=r"a\.zip .*same name.*'train/a\.png'"):
        open_files(tmp_path / "a.zip").names()


def rewritten(path: Path, field: int, code: str, value: int) -> Path:
    """The archive with another value in its (only) directory entry."""
    data = bytearray(path.read_bytes())
    struct.pack_into(code, data, data.index(b"PK\x01\x02") + field, value)
    path.write_bytes(data)
    return path


def test_an_encrypted_member_is_bad_input(tmp_path: Path) -> None:
    path = rewritten(make_zip(tmp_path / "a.zip", {"secret.png": b"content"}), 8, "<H", 1)
    with pytest.raises(BadInput, match=r"a\.zip.*'secret\.png' is encrypted"):
        open_files(path).names()


def test_a_member_of_absurd_size_is_bad_input(tmp_path: Path) -> None:
    path = rewritten(make_zip(tmp_path / "a.zip", {"bomb.png": b"content"}), 24, "<I", 3 * 10**9)
    with pytest.raises(BadInput, match=r"a\.zip.*'bomb\.png' would unpack to 3\.0 GB"):
        open_files(path).names()


def test_a_member_that_is_larger_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    path = rewritten(make_zip(tmp_path / "a.zip", {"bomb.png": bytes(200_000_000)}), 24, "<I", 10)
    source = f"""
import resource
from pathlib import Path
from metashot.bad_input import BadInput
from metashot.sources.getting.files import Zip
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    Zip(Path({str(path)!r})).read("bomb.png")
except BadInput as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""
    printed = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    assert "'bomb.png' is damaged" in printed
    assert int(printed.split()[0]) < 50_000  # kB


def test_a_packing_that_python_cannot_read_is_bad_input(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.png": b"content"})
    rewritten(path, 10, "<H", 9)  # deflate64, which Windows uses for large archives
    with pytest.raises(BadInput, match=r"a\.zip.*'a\.png'.*unpack the archive and give the folder"):
        open_files(path).read("a.png")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_named_when_it_is_read(tmp_path: Path, compression: int) -> None:
    path = make_zip(tmp_path / "a.zip", {"fine.png": b"fine", "broken.png": bytes(range(256))}, compression)
    data = bytearray(path.read_bytes())
    data[data.index(b"broken.png") + 60] ^= 0xFF
    path.write_bytes(data)
    files = open_files(path)
    assert files.read("fine.png") == b"fine"
    with pytest.raises(BadInput, match=r"a\.zip.*'broken\.png' is damaged.*delete the archive and download it again"):
        files.read("broken.png")


@pytest.mark.parametrize("size", [0, 1, 100, -1, -30, -200])
def test_a_truncated_zip_is_bad_input(tmp_path: Path, size: int) -> None:
    path = make_zip(tmp_path / "a.zip")
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    with pytest.raises(BadInput, match=r"a\.zip is damaged.*delete the archive and download it again"):
        open_files(path).names()


def test_a_zip_without_its_beginning_is_bad_input(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.png": b"content"})
    path.write_bytes(path.read_bytes()[20:])
    with pytest.raises(BadInput, match=r"a\.zip.* is damaged.*delete the archive and download it again"):
        open_files(path).read("a.png")


def test_a_zip_whose_directory_would_begin_before_the_file_is_bad_input(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x05\x06") + 12, 10**6)  # the directory's size
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"a\.zip is damaged.*delete the archive and download it again"):
        open_files(path).names()


def test_no_damage_to_a_zip_is_a_traceback(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "whole.zip", {"a/b.png": b"content" * 5, "图.png": bytes(90)}).read_bytes()
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path = tmp_path / f"{place}.zip"
        path.write_bytes(damaged)
        try:
            files = open_files(path)
            for name in files.names():
                files.read(name)
        except BadInput:
            refused += 1
    assert refused > len(whole) / 2


@pytest.mark.parametrize(
    ("raw", "name"),
    [("图.png".encode(), "图.png"), ("图像.png".encode("gbk"), "═╝╧±.png"), ("Größe.png".encode("cp437"), "Größe.png")],
)
def test_names_without_the_flag_for_utf8_are_readable(tmp_path: Path, raw: bytes, name: str) -> None:
    path = make_zip(tmp_path / "a.zip", {"x" * len(raw): b"content"})
    path.write_bytes(path.read_bytes().replace(b"x" * len(raw), raw))
    files = open_files(path)
    assert files.names() == [name]
    assert files.read(name) == b"content"


def test_an_archive_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"old.png": b"old"})
    assert open_files(path).names() == ["old.png"]
    path.unlink()
    assert open_files(make_zip(path, {"new.png": b"new, and longer"})).names() == ["new.png"]


def test_a_pickled_zip_is_small_and_works_in_spawned_and_forked_processes(tmp_path: Path) -> None:
    content = {f"{number:04}.png": str(number).encode() for number in range(2000)}
    files = open_files(make_zip(tmp_path / "a.zip", content))
    names = files.names()
    assert len(pickle.dumps(files)) < 1000
    for method in ("spawn", "fork"):
        with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
            expected = [files.read(name) for name in names]
            assert list(pool.map(files.read, names, chunksize=100)) == expected == list(content.values())


def test_an_archive_is_opened_once_in_a_process(tmp_path: Path) -> None:
    files = open_files(make_zip(tmp_path / "a.zip", {f"{number}.png": b"" for number in range(5000)}))
    files.names()
    pickled = pickle.dumps(files)
    start = time.perf_counter()
    for _ in range(100):
        pickle.loads(pickled).read("7.png")
    assert time.perf_counter() - start < 0.5  # opening it takes 40 ms


def test_neither_files_nor_download_needs_torch() -> None:
    source = "import sys, metashot.sources.getting.files, metashot.sources.getting.download; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], capture_output=True, text=True).stdout == "False\n"


def tar_member(name: str, **attributes: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(member, key, value)
    return member


def make_tar(path: Path, *more: tarfile.TarInfo, last: bytes = b"last") -> Path:
    """The usual content, then `more`, then one more file."""
    modes = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2"}
    with tarfile.open(path, modes[path.suffix]) as archive:  # type: ignore[call-overload]
        for name, content in CONTENT.items():
            archive.addfile(tar_member(name, size=len(content)), io.BytesIO(content))
        for member in more:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        archive.addfile(tar_member("z.png", size=len(last)), io.BytesIO(last))
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "outer" / "into").mkdir(parents=True)
    return tmp_path / "outer" / "into"


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2"])
def test_a_tar_is_unpacked_whole(tmp_path: Path, into: Path, name: str) -> None:
    symbolic = tar_member("train/link", type=tarfile.SYMTYPE, linkname="../test/图像 集")
    hard = tar_member("hard.csv", type=tarfile.LNKTYPE, linkname="train.csv")
    unpack_tar(make_tar(tmp_path / name, symbolic, hard), into)
    files = Folder(into)
    expected = CONTENT | {
        "z.png": b"last",
        "hard.csv": CONTENT["train.csv"],
        "train/link/图 1.png": CONTENT["test/图像 集/图 1.png"],
    }
    assert {name: files.read(name) for name in files.names()} == expected


HOSTILE = {
    "parent": [tar_member("../out.png", size=3)],
    "deep parent": [tar_member("a/../../out.png", size=3)],
    "absolute": [tar_member("/out.png", size=3)],
    "drive": [tar_member("C:\\out.png", size=3)],
    "device": [tar_member("out", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "pipe": [tar_member("out", type=tarfile.FIFOTYPE)],
    "link": [tar_member("out", type=tarfile.SYMTYPE, linkname="../../x")],
    "absolute link": [tar_member("out", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
    "hard link": [tar_member("out", type=tarfile.LNKTYPE, linkname="../x")],
    "absolute hard link": [tar_member("out", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    "hard link to nothing": [tar_member("out", type=tarfile.LNKTYPE, linkname="none.png")],
    "hard link to a link": [
        tar_member("in", type=tarfile.SYMTYPE, linkname="train.csv"),
        tar_member("out", type=tarfile.LNKTYPE, linkname="in"),
    ],
    "through a link": [
        tar_member("in", type=tarfile.SYMTYPE, linkname="train"),
        tar_member("in/out", type=tarfile.SYMTYPE, linkname="x"),
    ],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_tar_that_leads_outside_is_refused_and_nothing_is_written_there(
    tmp_path: Path, into: Path, members: list[tarfile.TarInfo]
) -> None:
    path = make_tar(tmp_path / "a.tar", *members)
    with pytest.raises(BadInput) as caught:
        unpack_tar(path, into)
    assert str(path) in str(caught.value)
    assert repr(members[-1].name) in str(caught.value)
    assert os.listdir(into.parent) == ["into"]
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "outer"]


def test_no_file_of_a_tar_is_written_behind_one_of_its_links(tmp_path: Path, into: Path) -> None:
    """A chain of links too long to be resolved leads older versions of tarfile's filter astray (CVE-2025-4517)."""
    long = "d" * 247
    members, step = [], ""
    for letter in "abcdefghijklmnop":
        members.append(tar_member(step + long, type=tarfile.DIRTYPE))
        members.append(tar_member(step + letter, type=tarfile.SYMTYPE, linkname=long))
        step += f"{letter}/"
    escape = step + "l" * 254
    members.append(tar_member(escape, type=tarfile.SYMTYPE, linkname="../" * 16))
    members.append(tar_member("escape", type=tarfile.SYMTYPE, linkname=f"{escape}/../.."))
    members.append(tar_member("escape/out.png", size=3))
    with pytest.raises(BadInput, match=r"a\.tar"):
        unpack_tar(make_tar(tmp_path / "a.tar", *members), into)
    assert os.listdir(into.parent) == ["into"]
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "outer"]


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.tar.bz2"])
def test_a_truncated_tar_is_bad_input_wherever_it_was_cut(tmp_path: Path, into: Path, name: str) -> None:
    path = make_tar(tmp_path / name, last=b"")
    whole = path.read_bytes()
    end = whole.rindex(b"z.png") + 512 if name == "a.tar" else len(whole)  # behind it there are only zeros
    for size in (0, 1, 511, 512, 513, 1024, end - 513, end - 512, end - 1, end):
        if size < len(whole):
            path.write_bytes(whole[:size])
            with pytest.raises(BadInput, match=rf"{name} is damaged.*delete the archive and download it again"):
                unpack_tar(path, into)


def test_a_tar_with_a_wrong_checksum_or_none_at_all_is_bad_input(tmp_path: Path, into: Path) -> None:
    path = make_tar(tmp_path / "a.tgz")
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"a\.tgz is damaged"):
        unpack_tar(path, into)
    path.write_text("<html>quota exceeded</html>" * 100)
    with pytest.raises(BadInput, match=r"a\.tgz is damaged \(file could not be opened successfully\); delete"):
        unpack_tar(path, into)
    with pytest.raises(BadInput, match=r"none\.tar"):
        unpack_tar(tmp_path / "none.tar", into)


def test_a_folder_that_takes_no_more_is_named_with_the_reason(tmp_path: Path, into: Path) -> None:
    path = make_tar(tmp_path / "a.tar", last=bytes(200_000))
    source = f"""
import resource
from pathlib import Path
from metashot.bad_input import BadInput
from metashot.sources.getting.files import unpack_tar
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    unpack_tar(Path({str(path)!r}), Path({str(into)!r}))
except BadInput as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True).stdout
    assert printed == f"{path} cannot be unpacked into {into}: File too large\n"


def test_stamps_tell_a_changed_file_from_an_unchanged_one(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder")
    path = make_zip(tmp_path / "a.zip")
    before = stamps([path, folder])
    assert before == stamps([path, folder])
    status = path.stat()
    assert before[0] == [str(path), status.st_size, status.st_mtime_ns]
    assert [stamp[0] for stamp in before[1:]] == [str(folder / name) for name in sorted(CONTENT)]
    os.utime(folder / "train.csv", ns=(0, 5))
    (folder / "new.png").touch()
    after = stamps([path, folder])
    assert [str(folder / "train.csv"), len(CONTENT["train.csv"]), 5] in after
    assert len(after) == len(before) + 1
    (folder / "new.png").unlink()
    (folder / "train.csv").unlink()
    assert len(stamps([folder])) == len(CONTENT) - 1
    with pytest.raises(BadInput, match=r"train\.csv cannot be read"):
        stamps([folder / "train.csv"])


def test_a_zip_can_be_recognised_by_its_type(tmp_path: Path) -> None:
    assert isinstance(open_files(make_zip(tmp_path / "a.zip")), Zip)
    assert isinstance(open_files(tmp_path), Folder)
