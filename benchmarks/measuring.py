"""Commands of a user whose reports make a table: each is run within a time, and how it ended is noted."""

import json
import shutil
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.compare.table import machine
from benchmarks.outputs import write_json
from metashot.bad_input import BadInput
from metashot.checkpoints.run_folder import REPORT
from metashot.results.commands import run_python

ROOT = Path(__file__).parents[1]
_LAST = Path("checkpoints", "last.ckpt")


@dataclass(frozen=True)
class Measurement:
    """A command, and the folder with its report.

    Attributes:
        script: train.py or evaluate.py.
        arguments: Its arguments, without the folder.
        folder: What the command writes.
        needs: The runs that it starts from.
    """

    script: str
    arguments: tuple[str, ...]
    folder: Path
    needs: tuple[Path, ...] = ()

    @property
    def command(self) -> list[str]:
        key = "folder" if self.script == "train.py" else "out"
        return [self.script, *self.arguments, f"{key}={self.folder}"]

    @property
    def note(self) -> Path:
        """The file in which the benchmark notes how the command ended."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def log(self) -> Path:
        """The file of what the command printed."""
        return self.folder.with_name(f"{self.folder.name}.log")


def noted(measurement: Measurement) -> dict[str, Any] | None:
    """How the command ended; None if it has not been run to its end."""
    if not measurement.note.is_file():
        return None
    note: dict[str, Any] = json.loads(measurement.note.read_text())
    return note


def report_of(measurement: Measurement) -> dict[str, Any] | None:
    """The report of a command that succeeded; None also if it was deleted since."""
    note, path = noted(measurement), measurement.folder / REPORT
    if note is None or note["code"] != 0 or not path.is_file():
        return None
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def measure(measurements: Sequence[Measurement], seconds: float, say: Callable[[str], None]) -> list[Measurement]:
    """Run all commands that have no report yet.

    Args:
        measurements: The commands, in an order in which each comes after what it needs.
        seconds: The time for all of them. A command that runs when it is over is stopped, and continued by the next call.
        say: Called with a line about each command.

    Returns:
        The commands that were not run, because the time was over.

    Raises:
        BadInput: The folder has reports of other commands.
    """
    for measurement in measurements:
        _refuse_other(measurement)
    end = time.monotonic() + seconds
    for number, measurement in enumerate(measurements):
        if report_of(measurement) is not None:
            continue
        measurement.note.unlink(missing_ok=True)  # of a failure
        if missing := [folder for folder in measurement.needs if not (folder / REPORT).is_file()]:
            say(f"left out, since {missing[0]} has no report: {measurement.folder}")
            continue
        left = end - time.monotonic()
        note = _run(measurement, left) if left > 0 else None
        if note is None:
            return list(measurements[number:])
        write_json(measurement.note, note)
        ended = "" if note["code"] == 0 else f"FAILED ({note['message']}): "
        say(f"{ended}{measurement.folder}, {note['seconds']:.0f} s")
    return []


def measure_or_exit(
    parser: ArgumentParser, planned: Sequence[Measurement], minutes: float, failures: Callable[[], list[str]]
) -> NoReturn:
    """Run what has no report yet, say what is left and what failed, and exit: with 0, or 3 if something is left, or 1."""
    try:
        left = measure(planned, 60 * minutes, lambda line: print(line, flush=True))
    except BadInput as error:
        parser.error(str(error))
    if left:
        print(f"the time is over: {len(left)} of {len(planned)} commands are left; the same call continues")
    failed = told(failures())
    sys.exit(3 if left else 1 if failed else 0)


def refuse_unmeasured(parser: ArgumentParser, planned: Sequence[Measurement], folder: Path) -> None:
    """Refuse to replace the rows of a page where nothing has been measured."""
    if all(noted(measurement) is None for measurement in planned):
        parser.error(f"no reports in {folder}: measure first, or name another --folder")


def told(failures: list[str]) -> list[str]:
    for line in failures:
        print(f"failed: {line}")
    return failures


def _refuse_other(measurement: Measurement) -> None:
    note = noted(measurement)
    if note is not None and note["command"] != measurement.command and note["code"] == 0:
        raise BadInput(
            f"{measurement.folder} was measured by another command, {' '.join(note['command'])}: give another --folder, or "
            f"delete {measurement.note} and that folder to measure it again"
        )


def _run(measurement: Measurement, seconds: float) -> dict[str, Any] | None:
    """Run a command, and stop it when its time limit is reached; the result is then None."""
    command = measurement.command
    if measurement.script == "train.py" and measurement.folder.is_dir():
        if (measurement.folder / _LAST).is_file():
            command = ["train.py", f"resume={measurement.folder}"]
        else:
            shutil.rmtree(measurement.folder)  # a run of this benchmark that was stopped before its first checkpoint
    measurement.log.unlink(missing_ok=True)  # of an earlier call
    begin = time.monotonic()
    ended = run_python((str(ROOT / command[0]), *command[1:]), measurement.log, seconds)
    if ended.code is None:
        return None
    return {
        "command": measurement.command,
        "code": ended.code,
        "message": ended.message if ended.code else "",
        "seconds": time.monotonic() - begin,
        "machine": machine(),
    }
