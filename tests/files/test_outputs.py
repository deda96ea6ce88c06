"""What is written for a user is whole, and never takes the place of a file that metashot did not write."""

import io
import os
import stat
import threading
from pathlib import Path

import pytest
from PIL import Image

from metashot.bad_input import BadInput
from metashot.evaluation.documents import write_document
from metashot.evaluation.gallery import refuse_to_replace_evaluation
from metashot.evaluation.pictures.drawing import new_figure, write_picture
from metashot.evaluation.report import as_json
from metashot.files.outputs import Kind, named_file, refuse_to_replace, write_atomically, write_output

TABLE = b"file,label,probability,p(a),p(b)\nx.png,a,1,1,0\n"
EPISODES = b"number,accuracy,loss,classes\n0,1.0,0.1,a; b\n"


def png() -> bytes:
    content = io.BytesIO()
    Image.new("L", (3, 3)).save(content, "PNG")
    return content.getvalue()


FOREIGN: dict[str, bytes] = {
    "a.png": png(),
    "a.csv": b"file,label,probability\n",
    "b.csv": b"number,name\n",
    "a.json": b'{"accuracy": 1.0, "version": "0.1.0"}',
    "a.md": b"# maml on glyphs\n",
    "a.onnx": b"\x08\x08\x12\x07pytorch\x1a\x052.1.0",
    "a.fewshot": b"PK not an archive",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_file_of_somebody_else_stays_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FOREIGN[name])
    with pytest.raises(BadInput, match=rf"{name} would be replaced, and metashot did not write it.*out="):
        refuse_to_replace(path, "out")
    with pytest.raises(BadInput, match="did not write it"):
        write_output(path, b"new", "out")
    assert path.read_bytes() == FOREIGN[name]
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_ours_are_known_again_and_replaced(tmp_path: Path) -> None:
    write_picture(new_figure(1, 1), tmp_path / "a.png")
    write_output(tmp_path / "a.csv", TABLE)
    write_output(tmp_path / "b.csv", EPISODES)
    write_document(tmp_path / "a.md", "# maml\n")
    write_output(tmp_path / "a.json", as_json({"accuracy": 1.0}).encode())
    refuse_to_replace(tmp_path / "nothing.csv")
    (tmp_path / "empty.csv").touch()  # as tempfile makes one, whose name is then given
    for path in sorted(tmp_path.iterdir()):
        refuse_to_replace(path)
        write_output(path, b"new")
        assert path.read_bytes() == b"new"
        assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_kinds_do_not_take_each_others_place(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_bytes(TABLE)
    kind: Kind = "fitted learner"
    with pytest.raises(BadInput, match="did not write it"):
        write_output(path, b"new", "path", kind)


def test_file_that_comes_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flush = tmp_path / "it.csv", os.fsync

    def while_it_is_written(handle: int) -> None:
        flush(handle)
        path.write_text("a user's")

    monkeypatch.setattr(os, "fsync", while_it_is_written)
    with pytest.raises(BadInput, match="did not write it"):
        write_output(path, TABLE, "out")
    assert path.read_text() == "a user's"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there_before", [False, True])
def test_file_system_without_hard_links_keeps_the_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_before: bool
) -> None:
    def link(*ignored: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "it.csv"
    if there_before:
        path.write_text("a user's")
        with pytest.raises(BadInput, match="did not write it"):
            write_output(path, TABLE, "out")
        assert path.read_text() == "a user's"
    else:
        write_output(path, TABLE, "out")
        assert path.read_bytes() == TABLE
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link, end = tmp_path / "it.csv", tmp_path / "far" / "end.csv"
    link.symlink_to(end)
    for _ in range(2):  # a link that leads nowhere yet, and one to what we wrote
        write_output(link, TABLE)
        assert link.is_symlink()
        assert end.read_bytes() == TABLE
    end.write_text("a user's")
    with pytest.raises(BadInput, match="did not write it"):
        write_output(link, TABLE)
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(BadInput, match="cannot be written"):
        write_output(link, TABLE)


def test_pipes_and_devices_are_written_into(tmp_path: Path) -> None:
    pipe, got = tmp_path / "it.csv", []
    os.mkfifo(pipe)
    with pytest.raises(BadInput, match="No such device"):  # and does not wait for ever
        write_output(pipe, TABLE, "out")
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    while True:
        try:
            write_output(pipe, TABLE * 10_000, "out")
            break
        except BadInput:  # the reader has not opened it yet
            continue
    reader.join()
    assert got == [TABLE * 10_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_output(Path("/dev/null"), TABLE, "out", "table")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_full_device_stays_a_device(tmp_path: Path) -> None:
    device = tmp_path / "full"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("only root makes devices")
    with pytest.raises(BadInput, match=r"path=.*full cannot be written: No space left"):
        write_output(device, b"content", "path", "fitted learner")
    assert stat.S_ISCHR(device.stat().st_mode)


def test_standard_output_is_not_replaced_where_it_is_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        file.write("before\n")
        file.flush()
        write_output(Path(f"/dev/fd/{file.fileno()}"), TABLE, "out", "table")
    assert (tmp_path / "log").read_bytes() == b"before\n" + TABLE


def test_folders_and_names_that_cannot_be_are_bad_input(tmp_path: Path) -> None:
    for given, words in (
        (tmp_path, "is a folder"),
        ("~nosuchuser/x.csv", "cannot be used"),
        ("x" * 300 + ".csv", "out="),
    ):
        with pytest.raises(BadInput, match=words):
            refuse_to_replace(named_file(given, "out", "x.csv"), "out")
    with pytest.raises(BadInput, match="cannot be written: Is a directory"):
        write_output(tmp_path, b"", "out", "table")
    longest = tmp_path / ("x" * 251 + ".csv")  # to which no temporary name may be added
    write_output(longest, TABLE)
    write_atomically(longest, TABLE)
    assert longest.read_bytes() == TABLE


def test_foreign_files_in_the_folder_of_an_evaluation_are_seen_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "1_maml").mkdir()
    refuse_to_replace_evaluation(tmp_path)
    for name in ("report.json", "report.md", "episodes.csv", "episode.png", "confusion.png", "1_maml/features.png"):
        (tmp_path / name).write_bytes(b"a user's")
        with pytest.raises(BadInput, match=name):
            refuse_to_replace_evaluation(tmp_path)
        (tmp_path / name).unlink()


def test_reports_in_a_run_that_an_older_version_wrote_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / ".lock").touch()
    (tmp_path / "config.yaml").write_text("algo:\n  _target_: metashot.algorithms.gradient.maml.MAML\n")
    (tmp_path / "report.json").write_text("{}\n")
    write_output(tmp_path / "report.json", b"new")
    assert (tmp_path / "report.json").read_bytes() == b"new"
