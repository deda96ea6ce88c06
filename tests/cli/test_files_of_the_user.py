"""Files of the user's that lie where a run keeps its own: none is emptied, replaced or removed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Command, Trained
from .processes import contents, copy
from .test_bad_input import refused

SHORT = ("trainer.max_steps=62", "logger=none")


def test_a_lock_that_is_a_link_empties_nothing(command: Command, first: Trained) -> None:
    run, precious = copy(first.run, command.folder / "run"), command.folder / "precious"
    precious.write_text("mine")
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(precious)
    outcome = command.run("train.py", "resume=run", *SHORT)
    assert outcome.code == 2, outcome
    assert outcome.err.count("error: ") == 1, outcome
    assert precious.read_text() == "mine"


def test_a_lock_that_is_a_pipe_is_not_waited_for(command: Command, first: Trained) -> None:
    run = copy(first.run, command.folder / "run")
    (run / ".lock").unlink()
    os.mkfifo(run / ".lock")
    outcome = command.run("train.py", "resume=run", *SHORT)
    assert outcome.code == 2, outcome


@pytest.mark.parametrize("name", ["checkpoints", "evaluations", "report.json"])
def test_a_link_out_of_a_run_is_not_followed(command: Command, first: Trained, name: str) -> None:
    run, elsewhere = copy(first.run, command.folder / "run"), command.folder / "elsewhere"
    if (run / name).exists():
        (run / name).rename(elsewhere)
    else:
        elsewhere.mkdir()
    (run / name).symlink_to(elsewhere)
    before = contents(command.folder)
    outcome = command.run("train.py", "resume=run", *SHORT)
    assert outcome.code == 2, outcome
    assert f"{name} is a link" in outcome.err, outcome
    assert contents(command.folder) == before


@pytest.mark.parametrize("content", [bytes(range(256)), b"name,step\nmine,60\n", b"step,a\r\n25,1\0\r\n"])
def test_a_resumed_run_keeps_what_is_not_its_table_of_metrics(command: Command, first: Trained, content: bytes) -> None:
    run = copy(first.run, command.folder / "run")
    (run / "metrics.csv").write_bytes(content)
    before = contents(command.folder)
    outcome = command.run("train.py", "resume=run", "trainer.max_steps=62")
    refused(outcome, ["run/metrics.csv is not a table", "move it away"])
    assert contents(command.folder) == before


def a_link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "elsewhere")


def a_file(path: Path) -> None:
    path.write_text("mine")


@pytest.mark.parametrize(("make", "what"), [(a_link, "a link"), (a_file, "not a folder"), (os.mkfifo, "not a folder")])
def test_evaluation_does_not_follow_a_link_out_of_a_run_and_says_so_before_it_scores(
    command: Command, first: Trained, make: Callable[[Path], None], what: str
) -> None:
    run, elsewhere = copy(first.run, command.folder / "run"), command.folder / "elsewhere"
    elsewhere.mkdir()
    make(run / "evaluations")
    before = contents(command.folder)
    outcome = command.start("evaluate.py", "ckpt=run", "episodes=1000000").wait(30)
    refused(outcome, [f"run/evaluations is {what}", "out="])
    assert contents(command.folder) == before


@pytest.mark.parametrize("folder", [".", "/", "..", "./", "other/..", "other/../.."])
def test_a_folder_that_is_there_for_certain_is_not_taken_for_a_new_one(command: Command, folder: str) -> None:
    (command.folder / "other").mkdir()
    before, around = contents(command.folder), sorted(command.folder.parent.iterdir())
    refused(command.train(f"folder={folder}"), [f"folder={folder} is no new folder", "folder=runs/first"])
    assert contents(command.folder) == before
    assert sorted(command.folder.parent.iterdir()) == around


def test_a_run_leaves_a_folder_of_its_name_alone(command: Command) -> None:
    """It has a folder of its own beside it, whatever the other one holds."""
    for name in ("full", "empty"):
        (command.folder / name).mkdir()
    (command.folder / "full" / "config.yaml").write_text("mine")
    before = contents(command.folder)
    short = ("trainer.max_steps=1", "data.val.episodes=2", "data.test.episodes=2", "logger=none", "pictures=none")
    for given, number in (("full", 2), ("full/", 3), ("empty", 2)):
        outcome = command.train(f"folder={given}", *short)
        assert outcome.code == 0, outcome
        made = command.folder / f"{given.strip('/')}-{number}"
        assert command.folder / outcome.run == made
        assert (made / "report.json").is_file()
    after = contents(command.folder)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after.keys() - before.keys() if name.startswith(("full/", "empty/"))]


def test_a_project_that_has_a_checkpoint_is_not_taken_for_a_run(command: Command, first: Trained) -> None:
    project = command.folder / "project"
    (project / "models").mkdir(parents=True)
    (project / "config.yaml").write_text("server: x\n")
    (project / ".notes.writing").write_text("mine")
    (project / "models" / "last.ckpt").write_bytes((first.run / "checkpoints" / "last.ckpt").read_bytes())
    before = contents(project)
    outcome = command.run("train.py", "resume=project/models/last.ckpt", "folder=run", *SHORT)
    assert outcome.code == 0, outcome
    assert contents(project) == before
    assert (command.folder / "run" / "report.json").is_file()


def test_a_left_over_folder_of_another_run_is_not_written_into(command: Command, first: Trained) -> None:
    other = copy(first.run, command.folder / "other")
    before = contents(other)
    outcome = command.train("folder=wanted", "trainer.max_steps=1", METASHOT_RUN_FOLDER=str(other))
    assert outcome.code == 0, outcome
    assert contents(other) == before
    assert (command.folder / "wanted" / "report.json").is_file()


def test_pictures_and_reports_of_a_project_are_not_replaced(command: Command, first: Trained) -> None:
    project = command.folder / "project"
    (project / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "report.json", "episode.png"):
        (project / name).write_text("mine")
    before = contents(project)
    scored = command.run("evaluate.py", f"ckpt={first.run}", "episodes=4", "out=project")
    looked = command.run("src/metashot/data/__main__.py", f"data.banks={command.banks}", "out=project/episode.png")
    assert (scored.code, looked.code) == (2, 2), (scored, looked)
    assert contents(project) == before


def test_output_that_knows_ascii_alone_does_not_end_a_run(command: Command, first: Trained) -> None:
    outcome = command.train("folder=run", "trainer.max_steps=1", PYTHONIOENCODING="ascii", fresh=True)
    assert outcome.code == 0, outcome
    assert "accuracy" in outcome.out
