"""A note or a log beside a run that this command did not write is refused, named, and stays as it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.results import queue
from metashot.results.beside_runs import refuse_foreign
from metashot.results.budget import Budget
from metashot.results.commands import Conditions
from metashot.results.queue import Queue
from metashot.results.storage import Cost, write_cost
from metashot.results.tables import Cell, Plan, Table
from metashot.results.trainings import Training

GLYPHS = Table("glyphs", "Glyphs", "Glyphs", "", ("5w1s",), None)
CELL = Cell(GLYPHS, "pixels", "5w1s")
NOTE = {"seconds": 1.0, "processor_seconds": 1.0, "peak_memory": 2**20, "machine": "one", "commit": None}


def training(runs: Path) -> Training:
    folder = runs / CELL.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Training(CELL, {}, folder, None)


@pytest.mark.parametrize("content", ['{"my": "thesis"}', "my thesis", "", "[1]", json.dumps({**NOTE, "commit": 1})[:-20]])
def test_a_foreign_file_in_the_place_of_a_note_is_refused(tmp_path: Path, content: str) -> None:
    one = training(tmp_path)
    one.note.write_text(content)
    with pytest.raises(BadInput, match=r"runs: .*/glyphs/pixels_5w1s\.json would be replaced, and .* folder for runs="):
        refuse_foreign(one)


def test_a_foreign_log_is_refused(tmp_path: Path) -> None:
    one = training(tmp_path)
    one.log.write_text("my notes\n")
    with pytest.raises(BadInput, match=r"runs: .*/glyphs/pixels_5w1s\.log would be appended to, and .* move that file away"):
        refuse_foreign(one)


def test_notes_and_logs_of_this_command_are_accepted(tmp_path: Path) -> None:
    one = training(tmp_path)
    refuse_foreign(one)
    one.note.write_text(json.dumps(NOTE))
    one.log.write_text("error: it failed\n")
    refuse_foreign(one)
    one.note.write_text(json.dumps({**NOTE, "more": "of a later version"}))
    refuse_foreign(one)


def test_the_log_of_a_run_is_accepted_without_its_note(tmp_path: Path) -> None:
    one = training(tmp_path)
    one.folder.mkdir()
    (one.folder / "config.yaml").write_text("{}")
    one.log.write_text("step 10\n")
    refuse_foreign(one)


@pytest.mark.parametrize("name", ["pixels_5w1s.json", "pixels_5w1s.log", "protonet_5w1s.json"])
def test_a_foreign_file_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also beside the run that a later cell needs."""
    called: list[str] = []
    monkeypatch.setattr(queue, "run_command", lambda *given, **named: called.append(given[0]))
    first, start = replace(CELL, row="vae_images"), replace(CELL, row="protonet")
    cells = [first, start, replace(CELL, starts_from=start.recipe)]
    plan = Plan({GLYPHS.name: GLYPHS}, cells, [first.recipe], {})
    for cell in cells:
        write_cost(tmp_path / "results", cell.name, Cost(1.0, "this one"))
    theirs = tmp_path / "runs/glyphs" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"my": "thesis"}')
    measuring = Queue(plan, tmp_path / "results", tmp_path / "runs", Conditions(None, "cpu", 1), lambda line: None)
    with pytest.raises(BadInput, match=f"{name} would be "):
        measuring.measure([first, cells[2]], Budget(float("inf"), 1e9))
    assert called == []
    assert theirs.read_text() == '{"my": "thesis"}'
    assert [path.name for path in theirs.parent.iterdir()] == [name]
