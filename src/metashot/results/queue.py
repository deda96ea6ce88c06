"""Measures the cells that are missing, one after the other within a time budget; what was killed is resumed."""

import csv
import fcntl
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metashot.bad_input import BadInput
from metashot.checkpoints.run_folder import EPISODES, METRICS, REPORT
from metashot.checkpoints.stored import BEST, CONFIG, configuration_of_folder
from metashot.configuration import Container, differences
from metashot.files.outputs import LEFTOVER, write_atomically
from metashot.files.paths import open_lock, printable, read_file, reason_of
from metashot.process.interruption import STOP
from metashot.results.commands import Ended, Used, run_command
from metashot.results.machine import commit, machine
from metashot.results.storage import (
    Cost,
    Record,
    Result,
    digest_of,
    digest_of_episodes,
    kept_report,
    read_cost,
    read_record,
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
# What a run that was stopped before its first checkpoint leaves in its folder.
_UNFINISHED = {".lock", CONFIG, METRICS, "checkpoints"}
_MOST_BYTES = 2**26  # of a file of a run


class NotMeasured(Exception):
    """Why a training was left out for now.

    Args:
        training: Its name.
        reason: Why.
    """

    def __init__(self, training: str, reason: str) -> None:
        super().__init__(reason)
        self.training = training


class TimeOver(NotMeasured):
    """The time of the call is over."""


class Busy(NotMeasured):
    """Another call is at it."""


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
        device: Where everything is computed: `cpu` or `gpu`.
        threads: The threads of each command.
        say: Called with a line about each thing that was done.
    """

    plan: Plan
    results: Path
    runs: Path
    root: str | None
    device: str
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
            Stopped: the user asked for it.
        """
        for training in self._begun(cells):
            training.refuse_other()
        left_out: dict[str, NotMeasured] = {}  # by training
        # Twice: another call may have been at a training, and a training may have been repeated after a cell was tested.
        for cell in (*cells, *cells):
            STOP.check()
            if self._is_measured(cell):
                continue
            training = training_of(cell, self.plan.cells, self.runs)
            if training.name in left_out:
                continue
            try:
                if training.start is not None and training.start.name in left_out:
                    missing = f"it starts from {training.start.name}, which is not trained"
                    raise NotMeasured(training.name, f"{training.name}: {missing}")
                self._measure(cell, training, budget)
            except TimeOver as reason:
                self.say(str(reason))
                break
            except Busy as reason:
                self.say(f"left out: {reason}")
            except NotMeasured as reason:
                left_out[reason.training] = reason
                self.say(f"{'failed' if isinstance(reason, Failed) else 'left out'}: {reason}")
        return [str(reason) for reason in left_out.values() if isinstance(reason, Failed)]

    def measure_costs(self, cells: Sequence[Cell], budget: Budget) -> list[str]:
        """Measure what the trainings of missing cells would take, by a few steps of each.

        Returns:
            What failed, a line each.
        """
        failed: dict[str, str] = {}
        for cell in cells:
            STOP.check()
            if read_result(self.results, cell.name) is not None:
                continue
            training = training_of(cell, self.plan.cells, self.runs)
            if training.name in failed:
                continue
            try:
                with _claimed(training) as lock:
                    self._cost(training, budget, lock)
            except TimeOver as reason:
                self.say(str(reason))
                break
            except NotMeasured as reason:
                if isinstance(reason, Failed):
                    failed[training.name] = str(reason)
                self.say(f"{'failed' if isinstance(reason, Failed) else 'left out'}: {reason}")
        return list(failed.values())

    def _begun(self, cells: Sequence[Cell]) -> Iterator[Training]:
        """The trainings of missing cells that have a run."""
        for cell in cells:
            if (self.runs / cell.name / CONFIG).is_file() and not self._is_measured(cell):
                yield training_of(cell, self.plan.cells, self.runs)

    def _is_measured(self, cell: Cell) -> bool:
        """Whether a cell was tested, with the checkpoint that its training is known by now."""
        result = read_result(self.results, cell.name)
        if result is None or result.checkpoint is None:
            return result is not None
        record = read_record(self.results, result.training)
        return record is None or record.checkpoint == result.checkpoint

    def _cost(self, training: Training, budget: Budget, lock: int) -> Cost:
        """What a training takes, which is measured if it is not known."""
        known = read_cost(self.results, training.name)
        if known is not None:
            return known
        tasks = training.config["trainer"]["max_steps"] * training.config["data"]["tasks_per_step"]
        seconds = 0.0
        if tasks > 0:
            with tempfile.TemporaryDirectory(prefix="metashot-results-") as scratch:
                seconds = tasks / self._speed(training, Path(scratch), budget, lock)
        cost = Cost(seconds, machine(self.threads, self.device))
        write_cost(self.results, training.name, cost)
        self.say(f"{training.name}: about {cost.seconds / 60:.1f} minutes of training")
        return cost

    def _speed(self, training: Training, scratch: Path, budget: Budget, lock: int) -> float:
        """Tasks per second, by a few steps."""
        with self._pilot(training, scratch, budget, lock).joinpath(METRICS).open(newline="") as file:
            speeds = [float(row[_SPEED]) for row in csv.DictReader(file) if row.get(_SPEED)]
        if not speeds or not speeds[-1] > 0 or math.isinf(speeds[-1]):
            raise Failed(training.name, f"{training.name}: a few steps were tried, and their speed was not measured")
        return speeds[-1]

    def _pilot(self, training: Training, scratch: Path, budget: Budget, lock: int) -> Path:
        """A run of a few steps; a training that starts from one that is missing starts from a few steps of that."""
        if budget.left <= 0:
            raise TimeOver(training.name, "the time is over; the same call continues")
        arguments: tuple[str, ...] = (*training.cell.overrides, *self._where(), *_PILOT)
        if training.start is not None:
            start = training.start
            found = start.folder if start.is_done else self._pilot(start, scratch, budget, lock)
            arguments += (f"init_from={found}",)
        folder = scratch / training.cell.name.replace("/", "-")
        limit = min(_MOST_PILOT, budget.left)
        ended = run_command("train", (*arguments, f"folder={folder}"), self.threads, folder.with_suffix(".log"), limit, lock)
        if ended.code is None and limit < _MOST_PILOT:
            raise TimeOver(training.name, "the time is over; the same call continues")
        if ended.code != 0:
            message = "it took too long" if ended.code is None else ended.message
            raise Failed(training.name, f"{training.name}, of which a few steps were tried: {message}")
        return folder

    def _measure(self, cell: Cell, training: Training, budget: Budget) -> None:
        if training.start is not None:
            self._train_start(training.start, budget)
        with _claimed(training) as lock:
            if self._is_measured(cell):  # another call was faster
                return
            record = self._train(training, budget, lock)
            # The run itself has tested the cell that it is named after.
            for one in dict.fromkeys((training.cell, cell)):
                if not self._is_measured(one):
                    self._test(one, training, record, budget, lock)

    def _train_start(self, training: Training, budget: Budget) -> None:
        if training.start is not None:
            self._train_start(training.start, budget)
        with _claimed(training) as lock:
            self._train(training, budget, lock)

    def _train(self, training: Training, budget: Budget, lock: int) -> Record:
        """Train unless that has been done, and keep a record of it."""
        training.refuse_other()
        if not training.is_done:
            if not training.can_be_resumed:
                minutes = self._cost(training, budget, lock).seconds / 60
                if 60 * minutes > budget.training:
                    allowed = f"training_minutes={budget.training / 60:g}"
                    reason = f"{training.name} would take about {minutes:.0f} minutes, and {allowed}"
                    raise NotMeasured(training.name, reason)
            self._run(training, budget, lock)
        with _readable(training):
            checkpoint = digest_of(training.folder / "checkpoints" / BEST)
            known = read_record(self.results, training.name)
            if known is not None and known.checkpoint == checkpoint:
                return known
            report = _json(training.folder / REPORT)
            record = _record(training, _noted(training), report, checkpoint)
        write_record(self.results, training.name, record)
        return record

    def _run(self, training: Training, budget: Budget, lock: int) -> None:
        before = Used()
        if training.can_be_resumed:
            arguments: tuple[str, ...] = (f"resume={training.folder}",)
            with _readable(training):
                before = _used(_noted(training))
        else:
            _remove_unfinished(training)
            arguments = (*training.cell.overrides, *self._where(), "logger=csv", f"folder={training.folder}")
            if training.start is not None:
                arguments += (f"init_from={training.start.folder}",)
        known = {"machine": machine(self.threads, self.device), "commit": commit()}

        def note(used: Used) -> None:
            write_atomically(training.note, (json.dumps({**asdict(before + used), **known}, indent=2) + "\n").encode())

        ended = self._command("train", arguments, training, budget, lock, note)
        _refuse_end(ended, training, f"{training.name} ({printable(training.log)})")
        if not training.is_done:
            raise Failed(training.name, f"{training.name}: train.py left no report in {printable(training.folder)}")
        self.say(f"trained {training.name}, {_used(_noted(training)).seconds / 60:.1f} minutes")

    def _test(self, cell: Cell, training: Training, record: Record, budget: Budget, lock: int) -> None:
        """Test the checkpoint of a training on the episodes of a cell, unless the run itself has done so."""
        config = configuration_of(cell)
        test, folder = config["data"]["test"], training.folder
        trained = configuration_of_folder(training.folder)["data"]["test"]
        changed = [f"{key}={_as_argument(new)}" for key, new, _ in differences(test, trained, "data.test.")]
        if changed:
            folder = training.folder / "evaluations" / cell.name.rpartition("/")[2]
            arguments = (f"ckpt={training.folder}", *self._where(), *changed, f"episodes={test['episodes']}")
            arguments += (f"curve={config['curve']}", "pictures=none", f"out={folder}")
            ended = self._command("evaluate", arguments, training, budget, lock)
            _refuse_end(ended, training, f"the test of {cell.name} ({printable(training.log)})")
        with _readable(training):
            result = _result(cell, training, config, folder, record.checkpoint)
        write_result(self.results, result)
        self.say(f"{cell.name}: {result.metric} {result.score:.4f}")

    def _command(
        self,
        command: str,
        arguments: Sequence[str],
        training: Training,
        budget: Budget,
        lock: int,
        note: Callable[[Used], None] = lambda used: None,
    ) -> Ended:
        if budget.left <= 0:
            raise TimeOver(training.name, "the time is over; the same call continues")
        note(Used())
        return run_command(command, arguments, self.threads, training.log, budget.left, lock, note)

    def _where(self) -> tuple[str, ...]:
        """Where the data are, and where everything is computed."""
        return (f"trainer={self.device}", *(() if self.root is None else (f"data.root={self.root}",)))


@contextmanager
def _claimed(training: Training) -> Iterator[int]:
    """Keep other calls from the same training; the open lock, which its commands hold, too."""
    place = training.folder.with_name(f".{training.folder.name}.lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        opened = open_lock(place)
    except OSError as error:
        raise BadInput(
            f"runs: {printable(place)} cannot be made: {reason_of(error)}; give another folder for runs="
        ) from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(training.name, f"another call is at {training.name}") from None
        except OSError as error:
            raise BadInput(f"runs: {printable(place)} cannot be locked: {reason_of(error)}") from error
        yield lock.fileno()


@contextmanager
def _readable(training: Training) -> Iterator[None]:
    """Say which run is damaged, where its files cannot be read."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        reason = (
            f"the files of the run {printable(training.folder)}, or those beside it, cannot be read ({what}): move it away"
        )
        raise Failed(training.name, f"{training.name}: {reason} to train it again") from error


def _remove_unfinished(training: Training) -> None:
    """Remove the folder of a run that was stopped before its first checkpoint, and nothing else."""
    folder = training.folder
    if not folder.exists() and not folder.is_symlink():
        return
    inside = [] if folder.is_symlink() or not folder.is_dir() else [path.name for path in folder.iterdir()]
    checkpoints = folder / "checkpoints"
    inside += [f"checkpoints/{path.name}" for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
    strange = [name for name in inside if name not in _UNFINISHED and not LEFTOVER.fullmatch(Path(name).name)]
    if strange or folder.is_symlink() or not folder.is_dir():
        named = f"{printable(folder)} has {printable(strange[0])}" if strange else f"{printable(folder)} is not a folder"
        raise Failed(training.name, f"{training.name}: {named}, which no run without a checkpoint has: move it away")
    shutil.rmtree(folder)


def _refuse_end(ended: Ended, training: Training, what: str) -> None:
    if ended.code is None:
        raise TimeOver(training.name, f"the time is over, and {what} was stopped; the same call continues")
    if ended.code != 0:
        raise Failed(training.name, f"{what}: {ended.message}")


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(read_file(path, _MOST_BYTES))
    if not isinstance(content, dict):
        raise ValueError(f"{printable(path)} is not a report")
    return content


def _noted(training: Training) -> dict[str, Any]:
    return _json(training.note)


def _used(note: dict[str, Any]) -> Used:
    return Used(float(note["seconds"]), float(note["processor_seconds"]), int(note["peak_memory"]))


def _record(training: Training, note: dict[str, Any], report: dict[str, Any], checkpoint: str) -> Record:
    metric, used = next(iter(report)), _used(note)
    with (training.folder / METRICS).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(f"val/{metric}")]
    return Record(
        training.cell.recipe,
        training.cell.seed,
        training.cell.arguments,
        None if training.start is None else training.start.name,
        round(used.seconds, 1),
        round(used.processor_seconds, 1),
        used.peak_memory,
        str(note["machine"]),
        training.config["trainer"]["max_steps"],
        report["step"],
        metric,
        [[int(row["step"]), float(row[f"val/{metric}"]), float(row.get("val/ci95") or 0)] for row in rows],
        checkpoint,
        note["commit"],
    )


def _result(cell: Cell, training: Training, config: Container, folder: Path, checkpoint: str) -> Result:
    report = _json(folder / REPORT)
    metric = next(iter(report))
    with (folder / EPISODES).open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = [row["classes"] for row in rows if "classes" in row]
    digest = digest_of_episodes(config["data"], report, classes)
    scores = [float(row[metric]) for row in rows]
    return Result(cell.name, training.name, metric, kept_report(report), digest, scores, checkpoint)


def _as_argument(value: object) -> str:
    return "null" if value is None else json.dumps(value).replace(" ", "")
