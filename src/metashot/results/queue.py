"""Measures the cells that are missing, one after the other within a time budget; what was killed is resumed."""

import csv
import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metashot.checkpoints.run_folder import EPISODES, METRICS, REPORT
from metashot.checkpoints.stored import BEST
from metashot.configuration import Container, differences
from metashot.files.outputs import write_atomically
from metashot.files.paths import open_lock, printable
from metashot.results.commands import Ended, run_command
from metashot.results.machine import commit, machine
from metashot.results.storage import (
    Cost,
    Record,
    Result,
    digest_of,
    digest_of_episodes,
    kept_report,
    read_cost,
    read_result,
    write_cost,
    write_record,
    write_result,
)
from metashot.results.tables import Cell, Plan
from metashot.results.trainings import Training, configuration_of, training_of

_PILOT_STEPS = 60
_PILOT = (
    *(f"trainer.max_steps={_PILOT_STEPS}", f"trainer.validate_every={_PILOT_STEPS}", "trainer.log_every=20"),
    *("data.val.episodes=2", "data.test.episodes=2", "curve=0", "pictures=none", "logger=csv"),
)
_SPEED = "train/tasks_per_second"
_MOST_PILOT = 600.0  # seconds


class NotMeasured(Exception):
    """Why a cell was left out for now."""


class TimeOver(NotMeasured):
    """The time of the call is over."""


class Failed(NotMeasured):
    """A command failed."""


@dataclass(frozen=True)
class Budget:
    """How long a call may take, and how long a training.

    Attributes:
        end: When the call ends, by `time.monotonic`.
        training: The seconds that a training may take; longer ones are left out.
    """

    end: float
    training: float

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


@dataclass(frozen=True)
class Queue:
    """Measures cells.

    Attributes:
        plan: All cells.
        results: The folder of the reports.
        runs: The folder of the runs.
        root: The folder of the data sets; None for the default one.
        threads: The threads of each command.
        say: Called with a line about each thing that was done.
    """

    plan: Plan
    results: Path
    runs: Path
    root: str | None
    threads: int
    say: Callable[[str], None]

    def measure(self, cells: Sequence[Cell], budget: Budget) -> list[str]:
        """Measure the cells that are missing, in their order.

        Args:
            cells: The cells.
            budget: The time.

        Returns:
            What failed, a line each.

        Raises:
            BadInput: a run was trained in another way than its recipe says now.
        """
        left_out: dict[str, NotMeasured] = {}  # by training
        for cell in cells:
            if read_result(self.results, cell.name) is not None:
                continue
            training = training_of(cell, self.plan.cells, self.runs)
            if training.name in left_out:
                continue
            try:
                self._train(training, budget)
                self._test(cell, training, budget)
            except TimeOver as reason:
                self.say(str(reason))
                break
            except NotMeasured as reason:
                left_out[training.name] = reason
                self.say(f"{'failed' if isinstance(reason, Failed) else 'left out'}: {reason}")
        return [str(reason) for reason in left_out.values() if isinstance(reason, Failed)]

    def measure_costs(self, cells: Sequence[Cell], budget: Budget) -> None:
        """Measure what the trainings of missing cells would take, by a few steps of each."""
        for cell in cells:
            if read_result(self.results, cell.name) is None:
                if budget.left <= 0:
                    raise TimeOver("the time is over")
                training = training_of(cell, self.plan.cells, self.runs)
                if training.start is not None and not training.start.is_done:
                    self.say(f"left out: {training.name} starts from {training.start.name}, which is not trained yet")
                    continue
                self.cost_of(training)

    def cost_of(self, training: Training) -> Cost:
        """What a training takes, which is measured if it is not known."""
        known = read_cost(self.results, training.name)
        if known is not None:
            return known
        if training.config["trainer"]["max_steps"] == 0:  # nothing is trained, and there is no speed to measure
            return Cost(0.0, machine(self.threads))
        with tempfile.TemporaryDirectory(prefix="metashot-results-") as scratch:
            folder = Path(scratch, "run")
            arguments = (*training.cell.overrides, *self._root(), *_PILOT, *_start_of(training), f"folder={folder}")
            ended = run_command("train", arguments, self.threads, Path(scratch, "log"), _MOST_PILOT)
            if ended.code != 0:
                raise Failed(f"{training.name}, of which a few steps were tried: {ended.message or 'it took too long'}")
            with (folder / METRICS).open(newline="") as file:
                speeds = [float(row[_SPEED]) for row in csv.DictReader(file) if row.get(_SPEED)]
        tasks = training.config["trainer"]["max_steps"] * training.config["data"]["tasks_per_step"]
        cost = Cost(tasks / speeds[-1], machine(self.threads))
        write_cost(self.results, training.name, cost)
        self.say(f"{training.name}: about {cost.seconds / 60:.1f} minutes of training")
        return cost

    def _train(self, training: Training, budget: Budget) -> None:
        """Train unless that has been done, and keep a record of it."""
        if training.start is not None:
            self._train(training.start, budget)
        with _claimed(training):
            training.refuse_other()
            if not training.is_done:
                if not training.can_be_resumed:
                    minutes = self.cost_of(training).seconds / 60
                    if 60 * minutes > budget.training:
                        allowed = f"training_minutes={budget.training / 60:g}"
                        raise NotMeasured(f"{training.name} would take about {minutes:.0f} minutes, and {allowed}")
                self._run(training, budget)
            note = json.loads(training.note.read_text())
            report = json.loads((training.folder / REPORT).read_text())
            write_record(self.results, training.name, _record(training, note, report))

    def _run(self, training: Training, budget: Budget) -> None:
        arguments: tuple[str, ...] = (*training.cell.overrides, *self._root(), "logger=csv", f"folder={training.folder}")
        arguments += _start_of(training)
        if training.can_be_resumed:
            arguments = (f"resume={training.folder}",)
        elif training.folder.is_dir():
            shutil.rmtree(training.folder)  # stopped before its first checkpoint
        ended = self._command("train", arguments, training, budget)
        before: dict[str, Any] = json.loads(training.note.read_text()) if training.note.is_file() else {}
        note = {
            "seconds": before.get("seconds", 0.0) + ended.seconds,
            "processor_seconds": before.get("processor_seconds", 0.0) + ended.processor_seconds,
            "peak_memory": max(before.get("peak_memory", 0), ended.peak_memory),
            "machine": machine(self.threads),
            "commit": commit(),
        }
        write_atomically(training.note, (json.dumps(note, indent=2) + "\n").encode())
        _refuse_end(ended, f"{training.name} ({printable(training.log)})")
        self.say(f"trained {training.name}, {note['seconds'] / 60:.1f} minutes")

    def _test(self, cell: Cell, training: Training, budget: Budget) -> None:
        """Test the checkpoint of a training on the episodes of a cell, unless the run itself has done so."""
        config = training.config if cell == training.cell else configuration_of(cell)
        folder = training.folder
        if cell != training.cell:
            folder = training.folder / "evaluations" / cell.name.rpartition("/")[2]
            test = config["data"]["test"]
            trained = training.config["data"]["test"]
            changed = [f"{key}={_as_argument(new)}" for key, new, _ in differences(test, trained, "data.test.")]
            arguments = (f"ckpt={training.folder}", *self._root(), *changed, f"episodes={test['episodes']}")
            arguments += (f"curve={config['curve']}", "pictures=none", f"out={folder}")
            _refuse_end(self._command("evaluate", arguments, training, budget), f"the test of {cell.name}")
        result = _result(cell, training, config, folder)
        write_result(self.results, result)
        self.say(f"{cell.name}: {result.metric} {result.score:.4f}")

    def _command(self, command: str, arguments: Sequence[str], training: Training, budget: Budget) -> Ended:
        if budget.left <= 0:
            raise TimeOver("the time is over; the same call continues")
        return run_command(command, arguments, self.threads, training.log, budget.left)

    def _root(self) -> tuple[str, ...]:
        return () if self.root is None else (f"data.root={self.root}",)


@contextmanager
def _claimed(training: Training) -> Iterator[None]:
    """Keep other calls from the same training."""
    training.folder.parent.mkdir(parents=True, exist_ok=True)
    with open_lock(training.folder.with_name(f".{training.folder.name}.lock")) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise NotMeasured(f"another call is training {training.name}") from None
        yield


def _start_of(training: Training) -> tuple[str, ...]:
    return () if training.start is None else (f"init_from={training.start.folder}",)


def _refuse_end(ended: Ended, what: str) -> None:
    if ended.code is None:
        raise TimeOver(f"the time is over, and {what} was stopped; the same call continues")
    if ended.code != 0:
        raise Failed(f"{what}: {ended.message}")


def _record(training: Training, note: dict[str, Any], report: dict[str, Any]) -> Record:
    metric = next(iter(report))
    with (training.folder / METRICS).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(f"val/{metric}")]
    return Record(
        training.cell.recipe,
        training.cell.seed,
        training.cell.arguments,
        None if training.start is None else training.start.name,
        round(note["seconds"], 1),
        round(note["processor_seconds"], 1),
        note["peak_memory"],
        note["machine"],
        training.config["trainer"]["max_steps"],
        report["step"],
        metric,
        [[int(row["step"]), float(row[f"val/{metric}"]), float(row.get("val/ci95") or 0)] for row in rows],
        digest_of(training.folder / "checkpoints" / BEST),
        note["commit"],
    )


def _result(cell: Cell, training: Training, config: Container, folder: Path) -> Result:
    report = json.loads((folder / REPORT).read_text())
    metric = next(iter(report))
    with (folder / EPISODES).open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = [row["classes"] for row in rows if "classes" in row]
    digest = digest_of_episodes(config["data"], report, classes)
    return Result(cell.name, training.name, metric, kept_report(report), digest, [float(row[metric]) for row in rows])


def _as_argument(value: object) -> str:
    return "null" if value is None else json.dumps(value).replace(" ", "")
