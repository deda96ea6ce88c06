"""The table of metrics: what was logged is what is read, also after a kill and a resume."""

import os
from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.checkpoints.run_folder import METRICS
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


HEAD = b"step,train/loss\r\n10,1.5\r\n"
NO_TABLES = {
    "binary": bytes(range(256)),
    "binary without a line": b"\x01\x02\x03",
    "a line that does not end": b"my notes",
    "lines": b"my notes\nand more\n",
    "another table": b"a,b\n1,2\n",
    "another table with steps": b"name,step\nx,2\n",
    "the columns of another table": b"a,b\n",
    "a column twice": b"step,a,a\n1,2,3\n",
    "half a row in the middle": HEAD + b"20\r\n30,1.0\r\n",
    "rows of more values": HEAD + b"20,1,2\r\n",
    "a step that is text": HEAD + b"best,1.0\r\n",
    "a step that is a digit elsewhere": HEAD + "²,1.0\r\n".encode(),
    "a step of many digits": HEAD + b"9" * 5000 + b",1.0\r\n",
    "a null byte": HEAD + b"20,1\0\r\n",
    "null bytes at its end": HEAD + bytes(100),
    "a huge value": HEAD + b"20," + b"1" * 200_000 + b"\r\n",
    "a quote that stays open": HEAD + b'20,"1\r\n30,2\r\n',
    "UTF-16": HEAD.decode().encode("utf-16"),
}


@pytest.mark.parametrize("content", NO_TABLES.values(), ids=NO_TABLES.keys())
def test_what_is_not_a_table_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / METRICS).write_bytes(content)
    for write in (lambda logger: logger.continue_from(100), lambda logger: logger.log_metrics({"train/loss": 0.5}, step=40)):
        with pytest.raises(BadInput, match=r"metrics\.csv is not a table of metrics: .*; move it away$") as refused:
            write(CsvLogger(tmp_path))
        assert len(str(refused.value)) < 500
    assert (tmp_path / METRICS).read_bytes() == content


def test_neither_a_folder_nor_a_pipe_nor_a_file_without_end_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / METRICS

    def endless() -> None:
        path.write_bytes(HEAD)
        os.truncate(path, 10**12)

    for make, remove in ((path.mkdir, path.rmdir), (lambda: os.mkfifo(path), path.unlink), (endless, path.unlink)):
        make()
        with pytest.raises(BadInput, match="is not a table of metrics"):
            CsvLogger(tmp_path).continue_from(100)
        remove()  # it is still there


def test_a_table_that_cannot_be_written_is_named(logged: Path) -> None:
    logger = CsvLogger(logged)
    logger.continue_from(30)
    (logged / METRICS).unlink()
    (logged / METRICS).mkdir()
    with pytest.raises(BadInput, match=METRICS):
        logger.log_metrics({"train/loss": 0.5}, step=40)
