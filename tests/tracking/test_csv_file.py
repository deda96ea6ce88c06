"""The table of metrics: what was logged is what is read, also after a kill and a resume."""

from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.run_folder import METRICS
from metashot.tracking.csv_file import CsvLogger, read_rows


def table(folder: Path) -> list[dict[str, str]]:
    return read_rows(folder / METRICS)


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """The folder of a run that logged three times and validated once."""
    logger = CsvLogger(tmp_path)
    logger.log_metrics({"train/loss": 1.5}, step=10)
    logger.log_metrics({"train/loss": 1.25}, step=20)
    logger.log_metrics({"val/accuracy": 1 / 3, "val/loss": 2.0}, step=20)
    logger.log_metrics({"train/loss": 1.0}, step=30)
    return tmp_path


def test_reading_gives_what_was_logged_and_new_columns_keep_old_rows(logged: Path) -> None:
    assert table(logged) == [
        {"step": "10", "train/loss": "1.5", "val/accuracy": "", "val/loss": ""},
        {"step": "20", "train/loss": "1.25", "val/accuracy": "", "val/loss": ""},
        {"step": "20", "train/loss": "", "val/accuracy": str(1 / 3), "val/loss": "2.0"},
        {"step": "30", "train/loss": "1.0", "val/accuracy": "", "val/loss": ""},
    ]
    assert [path.name for path in logged.iterdir()] == [METRICS]


def test_a_row_is_in_the_file_as_soon_as_it_was_logged(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path)
    for step in range(3):
        logger.log_metrics({"a": float(step)}, step=step)
        assert len(table(tmp_path)) == step + 1


def test_metrics_whose_text_is_awkward_are_read_back(tmp_path: Path) -> None:
    CsvLogger(tmp_path).log_metrics({'a,"b"': float("nan"), "ü": 1e-300}, step=1)
    assert table(tmp_path) == [{"step": "1", 'a,"b"': "nan", "ü": "1e-300"}]


def test_another_process_goes_on_with_the_same_table(logged: Path) -> None:
    before = table(logged)
    CsvLogger(logged).log_metrics({"test/accuracy": 0.5}, step=30)
    rows = table(logged)
    assert [{name: row[name] for name in before[0]} for row in rows[:-1]] == before
    assert rows[-1]["test/accuracy"] == "0.5"
    assert list(rows[-1])[:4] == list(before[0])


def test_a_resumed_run_drops_what_came_after_its_checkpoint(logged: Path) -> None:
    before = table(logged)
    logger = CsvLogger(logged)
    logger.continue_from(20)
    assert table(logged) == before[:3]
    logger.log_metrics({"train/loss": 0.75}, step=30)
    assert table(logged) == [*before[:3], {**before[3], "train/loss": "0.75"}]


def test_a_run_resumed_from_its_beginning_starts_a_new_table(logged: Path) -> None:
    logger = CsvLogger(logged)
    logger.continue_from(0)
    assert table(logged) == []
    logger.log_metrics({"other": 1.0}, step=5)
    assert table(logged) == [{"step": "5", "other": "1.0"}]


@pytest.mark.parametrize("unfinished", ["4", "40,0.", "40,0.5,,2", "40,0.5,,\r", '40,"0.5'])
def test_an_unfinished_last_line_is_dropped_and_the_table_goes_on(logged: Path, unfinished: str) -> None:
    before = table(logged)
    with (logged / METRICS).open("a", newline="") as file:
        file.write(unfinished)
    assert table(logged) == before
    logger = CsvLogger(logged)
    logger.continue_from(30)
    logger.log_metrics({"train/loss": 0.5}, step=40)
    assert table(logged) == [*before, {**before[3], "step": "40", "train/loss": "0.5"}]


def test_a_row_that_lost_its_end_is_dropped(logged: Path) -> None:
    before = table(logged)
    with (logged / METRICS).open("a", newline="") as file:
        file.write("40,0.5\r\n")
    assert table(logged) == before


def test_no_table_has_no_rows(tmp_path: Path) -> None:
    assert table(tmp_path) == []
    CsvLogger(tmp_path).continue_from(10)
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_cannot_be_written_is_named(logged: Path) -> None:
    logger = CsvLogger(logged)
    logger.continue_from(30)
    (logged / METRICS).unlink()
    (logged / METRICS).mkdir()
    with pytest.raises(BadInput, match=METRICS):
        logger.log_metrics({"train/loss": 0.5}, step=40)
