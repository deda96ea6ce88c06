"""What is kept of the files that a run leaves, which anything may have damaged since."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metashot.checkpoints.run_folder import EPISODES, METRICS, REPORT
from metashot.configuration import Container
from metashot.files.paths import printable, read_file
from metashot.results.commands import Used
from metashot.results.not_measured import Failed
from metashot.results.storage import Record, Result, digest_of_episodes, kept_report
from metashot.results.tables import Cell
from metashot.results.trainings import Training

FINAL = "final"  # the key of a note that says whether its command had ended
_MOST_BYTES = 2**26  # of a file of a run


@contextmanager
def readable(training: Training) -> Iterator[None]:
    """Say which run is damaged, where its files cannot be read."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, StopIteration, RecursionError, csv.Error) as error:
        what = f"{type(error).__name__}: {error}"
        reason = (
            f"the files of the run {printable(training.folder)}, or those beside it, cannot be read ({what}): move it away"
        )
        raise Failed(training.name, f"{training.name}: {reason} to train it again") from error


def report_of(folder: Path) -> dict[str, Any]:
    """The report of a test."""
    return _json(folder / REPORT)


def noted(training: Training) -> dict[str, Any]:
    """What was noted of a training when its command was run."""
    return _json(training.note)


def used_until(note: dict[str, Any]) -> Used:
    """What a training had taken when that was noted."""
    return Used(float(note["seconds"]), float(note["processor_seconds"]), int(note["peak_memory"]))


def record_of(training: Training, checkpoint: str) -> Record:
    """What is kept of a training that has been done.

    Args:
        training: The training.
        checkpoint: The digest of its checkpoint.
    """
    report, note = report_of(training.folder), noted(training)
    metric, used = next(iter(report)), used_until(note)
    # A run that went on after this command was killed took longer than was noted, nobody knows how long. Older notes do not
    # say whether they are the last one.
    is_known = used.is_final and note.get(FINAL, True) is True
    rows = [row for row in rows_of(training.folder / METRICS) if row.get(f"val/{metric}")]
    return Record(
        training.cell.recipe,
        training.cell.seed,
        training.cell.arguments,
        None if training.start is None else training.start.name,
        round(used.seconds, 1) if is_known else None,
        round(used.processor_seconds, 1) if is_known else None,
        used.peak_memory if is_known else None,
        str(note["machine"]),
        training.config["trainer"]["max_steps"],
        report["step"],
        metric,
        [[int(row["step"]), float(row[f"val/{metric}"]), float(row.get("val/ci95") or 0)] for row in rows],
        checkpoint,
        note["commit"],
    )


def result_of(cell: Cell, training: Training, config: Container, folder: Path, checkpoint: str) -> Result:
    """What is kept of the test of a cell.

    Args:
        cell: The cell.
        training: The training whose checkpoint was tested.
        config: The configuration of the cell.
        folder: The folder with the files of the test.
        checkpoint: The digest of that checkpoint.
    """
    report = report_of(folder)
    metric = next(iter(report))
    rows = rows_of(folder / EPISODES)
    classes = [row["classes"] for row in rows if "classes" in row]
    digest = digest_of_episodes(config["data"], report, classes)
    scores = [float(row[metric]) for row in rows]
    return Result(cell.name, training.name, metric, kept_report(report), digest, scores, checkpoint)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of a run, which is a regular file of a reasonable size."""
    return list(csv.DictReader(io.StringIO(read_file(path, _MOST_BYTES).decode(), newline="")))


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(read_file(path, _MOST_BYTES))
    if not isinstance(content, dict):
        raise ValueError(f"{printable(path)} is not a report")
    return content
