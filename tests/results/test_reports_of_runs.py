"""What is kept of a run is what was noted of it, and nothing where the note is not its last one."""

import json
from pathlib import Path
from typing import Any

import pytest

from metashot.results.reports_of_runs import record_of
from metashot.results.tables import Cell, Table
from metashot.results.trainings import Training

CELL = Cell(Table("glyphs", "Glyphs", "Glyphs", "", ("5w1s",), None), "pixels", "5w1s")
NOTE = {"seconds": 40.0, "processor_seconds": 39.0, "peak_memory": 2**20, "machine": "one", "commit": None}


@pytest.mark.parametrize(
    ("changed", "is_known"),
    [
        ({"final": True}, True),
        ({}, True),  # as older versions noted it
        ({"final": False, "peak_memory": 0}, False),
        ({"peak_memory": 0}, False),
        ({"final": False}, False),  # of a run that was resumed, whose first part has told its memory
    ],
    ids=str,
)
def test_the_time_of_a_run_that_went_on_after_its_last_note_is_not_known(
    tmp_path: Path, changed: dict[str, Any], is_known: bool
) -> None:
    training = Training(CELL, {"trainer": {"max_steps": 10}}, tmp_path / CELL.name, None)
    training.folder.mkdir(parents=True)
    (training.folder / "report.json").write_text(json.dumps({"accuracy": 0.5, "step": 10}))
    (training.folder / "metrics.csv").write_text("step,val/accuracy,val/ci95\n10,0.5,0.1\n")
    training.note.write_text(json.dumps(NOTE | changed))
    record = record_of(training, "c0ffee" * 10)
    used = (40.0, 39.0, 2**20) if is_known else (None, None, None)
    assert (record.seconds, record.processor_seconds, record.peak_memory) == used
