"""Metrics as a table in the run's folder: a row whenever something was measured, a column for each metric."""

import csv
import io
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from metashot.bad_input import BadInput
from metashot.paths import shown
from metashot.run_folder import METRICS, lost, write_text

STEP = "step"


class CsvLogger(Logger):
    """Rows are appended as they come; a new column rewrites the table, whole, which happens a few times at most."""

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
        """The configuration stands in the run's folder already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not (self.path.exists() if self.columns else self.path.parent.is_dir()):
            raise lost(self.path.parent)
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
        """Drop what a run wrote after the checkpoint that it is resumed from, and its test; both are measured again."""
        rows = [
            row
            for row in read_rows(self.path)
            if row[STEP].isdigit()
            and int(row[STEP]) <= step
            and not any(value for name, value in row.items() if name.startswith("test/"))
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
    """The whole rows of a table; a last line that a killed process left unfinished is not one."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        rows = [row for row in csv.DictReader(lines) if None not in row and None not in row.values()]
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{shown(path)} is not a table of metrics: {error}; move it away") from error
    if rows and STEP not in rows[0]:
        raise BadInput(f"{shown(path)} is not a table of metrics, since it has no column {STEP}: move it away")
    return rows
