"""A run's folder: claimed by one process at a time, and it gives its configuration back."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metashot.bad_input import BadInput
from metashot.checkpoints.run_folder import RunFolder, write_text
from metashot.checkpoints.stored import CONFIG, configuration_of_folder

CONFIGURATION: dict[str, Any] = {
    "seed": 0,
    "algo": {"name": "maml", "inner_lr": 0.4, "first_order": False, "nothing": None},
    "backbone": {"hidden": [256, 64], "text": "ünï: 'quoted' # no comment", "number_as_text": "1e3", "yes": "no"},
    "lr": 1e-05,
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No run is open in this process before a test or after it."""
    monkeypatch.delenv("METASHOT_RUN_FOLDER", raising=False)
    yield
    monkeypatch.delenv("METASHOT_RUN_FOLDER", raising=False)


class Holder:
    """Another process that opens a run's folder and keeps it until the test ends or kills it."""

    def __init__(self, call: str) -> None:
        program = (
            "import sys; from pathlib import Path; from metashot.checkpoints.run_folder import RunFolder\n"
            f"folder = RunFolder.{call}\nprint(folder.path, flush=True)\nsys.stdin.read()\n"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", program], text=True, **pipes)

    def opened(self) -> Path:
        assert self.process.stdout is not None
        return Path(self.process.stdout.readline().strip())

    def __enter__(self) -> "Holder":
        return self

    def __exit__(self, *ignored: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_claims_of_one_name_by_processes_at_once_give_different_folders(tmp_path: Path) -> None:
    call = f"claim({str(tmp_path / 'run')!r}, {{'seed': 1}})"
    with Holder(call) as one, Holder(call) as two, Holder(call) as three:
        folders = {holder.opened() for holder in (one, two, three)}
    assert folders == {tmp_path / "run", tmp_path / "run-2", tmp_path / "run-3"}
    assert all(configuration_of_folder(folder) == {"seed": 1} for folder in folders)


def test_claims_one_after_the_other_give_different_folders(tmp_path: Path) -> None:
    paths = []
    for seed in range(3):
        with RunFolder.claim(str(tmp_path / "deep" / "run"), {"seed": seed}) as folder:
            paths.append(folder.path)
    assert [path.name for path in paths] == ["run", "run-2", "run-3"]
    assert [configuration_of_folder(path)["seed"] for path in paths] == [0, 1, 2]


def test_a_run_that_is_open_cannot_be_opened_by_another_process(tmp_path: Path) -> None:
    with Holder(f"claim({str(tmp_path / 'run')!r}, {{}})") as holder:
        path = holder.opened()
        with pytest.raises(BadInput, match="in use"):
            RunFolder.reopen(path, {"seed": 5})
        assert configuration_of_folder(path) == {}
        holder.process.kill()
        holder.process.wait()
        with RunFolder.reopen(path, {"seed": 5}) as folder:  # the lock ended with the process
            assert folder.path == path
    assert configuration_of_folder(path) == {"seed": 5}


def test_a_run_that_was_reopened_is_closed_to_others(tmp_path: Path) -> None:
    with RunFolder.claim(str(tmp_path / "run"), {}):
        pass
    with Holder(f"reopen(Path({str(tmp_path / 'run')!r}), {{}})") as holder:
        holder.opened()
        with pytest.raises(BadInput, match="in use"):
            RunFolder.reopen(tmp_path / "run", {})


def test_processes_that_a_run_starts_share_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunFolder.claim(str(tmp_path / "run"), {"seed": 1}) as folder:
        of_lightning = {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
        for name, value in of_lightning.items():
            monkeypatch.setenv(name, value)
        with Holder(f"claim({str(tmp_path / 'run')!r}, {{}})") as device:
            assert device.opened() == folder.path
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert configuration_of_folder(folder.path) == {"seed": 1}
    assert "METASHOT_RUN_FOLDER" not in os.environ


def test_a_configuration_is_read_back_as_it_was(tmp_path: Path) -> None:
    with RunFolder.claim(str(tmp_path / "run"), CONFIGURATION) as folder:
        assert configuration_of_folder(folder.path) == CONFIGURATION
    with RunFolder.reopen(tmp_path / "run", CONFIGURATION):
        assert configuration_of_folder(tmp_path / "run") == CONFIGURATION
    assert list(configuration_of_folder(tmp_path / "run")) == list(CONFIGURATION)


@pytest.mark.parametrize(
    "content", [b"", b"- a\n- b\n", b"{", b"\xff\xfe\x00", b"text", b"run: !!python/object/apply:os.getcwd []"]
)
def test_a_damaged_configuration_is_bad_input(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONFIG).write_bytes(content)
    with pytest.raises(BadInput, match=CONFIG):
        configuration_of_folder(tmp_path)


def test_a_folder_without_a_configuration_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the folder of a run"):
        configuration_of_folder(tmp_path)


def test_a_folder_that_cannot_be_made_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"folder=.*file/run: .*choose another folder="):
        RunFolder.claim(str(tmp_path / "file" / "run"), {})


def test_a_refused_run_leaves_no_folder_but_a_trained_one_does(tmp_path: Path) -> None:
    def refused(train: bool) -> None:
        with RunFolder.claim(str(tmp_path / "run"), {}) as folder:
            if train:
                folder.checkpoints.mkdir()
            raise BadInput("something else is wrong")

    with pytest.raises(BadInput):
        refused(train=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput):
        refused(train=True)
    assert configuration_of_folder(tmp_path / "run") == {}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_text(path, "old ü")
    before = path.stat().st_ino
    write_text(path, "new ü")
    assert path.read_text(encoding="utf-8") == "new ü"
    assert path.stat().st_ino != before  # replaced, so that a reader never sees half of it
    assert stat.S_ISREG(path.stat().st_mode)
    assert [file.name for file in path.parent.iterdir()] == ["file"]
    path.unlink()
    path.mkdir()
    with pytest.raises(BadInput, match="cannot be written"):
        write_text(path, "text")
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_file_below_a_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        write_text(tmp_path / "file" / "report.json", "text")
