"""What trainings would take, from the speed of a few steps of each: a pilot."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metashot.checkpoints.run_folder import METRICS
from metashot.results.budget import Budget
from metashot.results.commands import Conditions, run_command
from metashot.results.machine import machine
from metashot.results.not_measured import Failed, TimeOver
from metashot.results.reports_of_runs import report_of, rows_of
from metashot.results.storage import Cost, read_cost, write_cost
from metashot.results.trainings import Training

_PILOT_STEPS = 60
_PILOT = (
    *(f"trainer.max_steps={_PILOT_STEPS}", f"trainer.validate_every={_PILOT_STEPS}", "trainer.log_every=20"),
    *("data.val.episodes=2", "data.test.episodes=2", "curve=0", "pictures=none", "logger=csv"),
)
_SPEED = "train/tasks_per_second"
_MOST_PILOT = 600.0  # seconds


@dataclass(frozen=True)
class Costs:
    """The costs of trainings, which are kept once they were measured.

    Attributes:
        results: The folder of the reports.
        conditions: What pilots are run with, as the trainings are.
        say: Called with a line about each cost that was measured.
    """

    results: Path
    conditions: Conditions
    say: Callable[[str], None]

    def of(self, training: Training, budget: Budget, lock: int) -> Cost:
        """What a training takes, which is measured if it is not known, or if the recipe has been given another length since.

        Args:
            training: The training.
            budget: The time.
            lock: The open lock of its claim.

        Raises:
            NotMeasured: it could not be measured.
        """
        tasks = training.config["trainer"]["max_steps"] * training.config["data"]["tasks_per_step"]
        known = read_cost(self.results, training.name)
        if known is not None and known.tasks in (None, tasks):
            return known
        seconds = 0.0
        if tasks > 0:
            with tempfile.TemporaryDirectory(prefix="metashot-results-") as scratch:
                speed = self._speed(training, Path(scratch), budget, lock)
                seconds = 0.0 if speed is None else tasks / speed
        cost = Cost(seconds, machine(self.conditions.threads, self.conditions.device), tasks)
        write_cost(self.results, training.name, cost)
        self.say(f"{training.name}: about {cost.seconds / 60:.1f} minutes of training")
        return cost

    def _speed(self, training: Training, scratch: Path, budget: Budget, lock: int) -> float | None:
        """Tasks per second, by a few steps; None where the learner has nothing to train, and so ends at step 0."""
        folder = self._pilot(training, scratch, budget, lock)
        speeds = [float(row[_SPEED]) for row in rows_of(folder / METRICS) if row.get(_SPEED)]
        if not speeds and report_of(folder)["step"] == 0:
            return None
        if not speeds or not speeds[-1] > 0 or math.isinf(speeds[-1]):
            raise Failed(training.name, f"{training.name}: a few steps were tried, and their speed was not measured")
        return speeds[-1]

    def _pilot(self, training: Training, scratch: Path, budget: Budget, lock: int) -> Path:
        """A run of a few steps; a training that starts from one that is missing starts from a few steps of that."""
        budget.refuse_over(training.name)
        arguments: tuple[str, ...] = (*training.cell.overrides, *self.conditions.arguments_for(training.config), *_PILOT)
        if training.start is not None:
            start = training.start
            found = start.folder if start.is_done else self._pilot(start, scratch, budget, lock)
            arguments += (f"init_from={found}",)
        folder = scratch / training.cell.name.replace("/", "-")
        limit = min(_MOST_PILOT, budget.left)
        ended = run_command(
            "train", (*arguments, f"folder={folder}"), self.conditions.threads, folder.with_suffix(".log"), limit, lock
        )
        if ended.code is None and limit < _MOST_PILOT:
            raise TimeOver(training.name, "the time is over; the same call continues")
        if ended.code != 0:
            message = "it took too long" if ended.code is None else ended.message
            raise Failed(training.name, f"{training.name}, of which a few steps were tried: {message}")
        return folder
