"""Metrics as a CSV table in the run's folder: one row per measurement, one column per metric."""

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from metashot.bad_input import BadInput
from metashot.checkpoints.run_folder import METRICS, missing_folder, write_text
from metashot.files.paths import printable, read_file

STEP = "step"
_STEP = re.compile(r"[0-9]{1,18}")
_MOST_BYTES = 2**28  # the largest table that is read


class CsvLogger(Logger):
    """Appends metrics to `metrics.csv`. A new metric rewrites the table, which happens a few times at most.

    Args:
        folder: the folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / METRICS
        self.columns: list[str] = []

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is already in the run's folder."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not (self.path.exists() if self.columns else self.path.parent.is_dir()):
            raise missing_folder(self.path.parent)
        new = [name for name in metrics if name not in self.columns]
        if new:
            rows = read_rows(self.path)
            self.columns = list(dict.fromkeys([STEP, *(rows[0] if rows else []), *self.columns, *new]))
            self._rewrite(rows)
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow({STEP: step, **metrics})
        except OSError as error:
            raise BadInput(f"{self.path} cannot be written: {error.strerror or error}") from error

    @rank_zero_only
    def continue_from(self, step: int) -> None:
        """Drop the rows after the checkpoint that a run resumes from, and its test results; both are measured again.

        Args:
            step: the training step of the checkpoint.
        """
        rows = [
            row
            for row in read_rows(self.path)
            if int(row[STEP]) <= step and not any(value for name, value in row.items() if name.startswith("test/"))
        ]
        if rows:
            self.columns = list(rows[0])
            self._rewrite(rows)
        else:
            self.path.unlink(missing_ok=True)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the complete rows of a table, without a last line that a killed process left unfinished.

    Args:
        path: the table; without one there are no rows.

    Raises:
        BadInput: if the path holds anything but a table of metrics, which must not be overwritten.
    """
    if not os.path.lexists(path):
        return []
    try:
        text = read_file(path, _MOST_BYTES).decode()
        return _rows(text) if text else []
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, csv.Error) as error:
        reason = str(error)
    raise BadInput(f"{printable(path)} is not a table of metrics: {reason}; move it away")


def _rows(text: str) -> list[dict[str, str]]:
    if "\0" in text:
        raise ValueError("it has null bytes")
    whole, end, _ = text.rpartition("\n")
    head, *lines = csv.reader(io.StringIO(whole + end, newline=""), strict=True) if end else [[]]
    if head[:1] != [STEP] or len(set(head)) != len(head):
        raise ValueError(f"its first line is not that of one, which begins with {STEP}")
    if lines and len(lines[-1]) < len(head):  # left unfinished by a killed process
        del lines[-1]
    for number, values in enumerate(lines, 2):
        if len(values) != len(head) or not _STEP.fullmatch(values[0]):
            raise ValueError(f"its line {number} is not a {STEP} and a value for each column")
    return [dict(zip(head, values, strict=True)) for values in lines]
