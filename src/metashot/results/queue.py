"""Measures the cells that are missing, one after the other within a time budget; what was killed is resumed."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.checkpoints.stored import BEST, CONFIG, configuration_of_folder
from metashot.configuration import differences
from metashot.files.outputs import write_atomically
from metashot.files.paths import printable
from metashot.process.interruption import STOP
from metashot.results.beside_runs import foreign_file, refuse_foreign
from metashot.results.budget import Budget
from metashot.results.claims import claimed
from metashot.results.commands import Conditions, Ended, Used, run_command
from metashot.results.costs import Costs
from metashot.results.machine import commit, machine
from metashot.results.not_measured import Busy, Failed, NotMeasured, TimeOver
from metashot.results.reports_of_runs import FINAL, noted, readable, record_of, result_of, used_until
from metashot.results.storage import Record, digest_of, place_of, read_record, read_result, write_record, write_result
from metashot.results.tables import Cell, Plan
from metashot.results.trainings import Training, configuration_of, training_of

_TESTED = ("ways", "shots", "queries", "episodes")


@dataclass(frozen=True)
class Queue:
    """Measures cells.

    Attributes:
        plan: All cells.
        results: The folder of the reports.
        runs: The folder of the runs.
        conditions: Where every command finds the data, and what it computes with.
        say: Called with a line about each thing that was done.
    """

    plan: Plan
    results: Path
    runs: Path
    conditions: Conditions
    say: Callable[[str], None]

    def measure(self, cells: Sequence[Cell], budget: Budget) -> list[str]:
        """Measure the cells that are missing, in their order.

        Args:
            cells: The cells.
            budget: The time.

        Returns:
            What failed, a line each.

        Raises:
            BadInput: a run was trained, or a cell was tested, in another way than its recipe says now, or a file that this
                command did not write would be written to.
            Stopped: the user asked for it.
        """
        for training in self._begun(cells):
            training.refuse_other()
        for cell in cells:
            self._refuse_other_test(cell)
        self._refuse_foreign_files(cells)
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
                with claimed(training) as lock:
                    self._costs.of(training, budget, lock)
            except TimeOver as reason:
                self.say(str(reason))
                break
            except NotMeasured as reason:
                if isinstance(reason, Failed):
                    failed[training.name] = str(reason)
                self.say(f"{'failed' if isinstance(reason, Failed) else 'left out'}: {reason}")
        return list(failed.values())

    @property
    def _costs(self) -> Costs:
        return Costs(self.results, self.conditions, self.say)

    def _begun(self, cells: Sequence[Cell]) -> Iterator[Training]:
        """The trainings of missing cells that have a run."""
        for cell in cells:
            if (self.runs / cell.name / CONFIG).is_file() and not self._is_measured(cell):
                yield training_of(cell, self.plan.cells, self.runs)

    def _refuse_other_test(self, cell: Cell) -> None:
        """Refuse a report that was tested in another way than the recipe says now."""
        result = read_result(self.results, cell.name)
        if result is None:
            return
        data = configuration_of(cell)["data"]
        for key in _TESTED if cell.shape is not None else ("episodes",):
            said, tested = data["test"].get(key) or data.get(key), result.report[key]
            if said != tested:
                report = printable(place_of(self.results, cell.name))
                now = f"the recipe {cell.recipe} has {key}={said} now"
                raise BadInput(f"{report} was tested with {key}={tested}, and {now}: delete it to test again")

    def _refuse_foreign_files(self, cells: Sequence[Cell]) -> None:
        """Refuse files of others beside the runs of missing cells, and beside those that they start from."""
        # Which training serves a cell is known once its recipe is composed, which takes long for all cells.
        named = [Training(cell, {}, self.runs / cell.name, None) for cell in self.plan.cells]
        if not any(map(foreign_file, named)):
            return
        for cell in cells:
            training = None if self._is_measured(cell) else training_of(cell, self.plan.cells, self.runs)
            while training is not None:
                refuse_foreign(training)
                training = training.start

    def _is_measured(self, cell: Cell) -> bool:
        """Whether a cell was tested, with the checkpoint that its training is known by now."""
        result = read_result(self.results, cell.name)
        if result is None:
            return False
        record = read_record(self.results, result.training)
        return record is None or record.checkpoint == result.checkpoint

    def _measure(self, cell: Cell, training: Training, budget: Budget) -> None:
        if training.start is not None:
            self._train_start(training.start, budget)
        with claimed(training) as lock:
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
        with claimed(training) as lock:
            self._train(training, budget, lock)

    def _train(self, training: Training, budget: Budget, lock: int) -> Record:
        """Train unless that has been done, and keep a record of it."""
        training.refuse_other()
        if not training.is_done:
            if not training.can_be_resumed:
                minutes = self._costs.of(training, budget, lock).seconds / 60
                if 60 * minutes > budget.training:
                    allowed = f"training_minutes={budget.training / 60:g}"
                    reason = f"{training.name} would take about {minutes:.0f} minutes, and {allowed}"
                    raise NotMeasured(training.name, reason)
            self._run(training, budget, lock)
        with readable(training):
            checkpoint = digest_of(training.folder / "checkpoints" / BEST)
            known = read_record(self.results, training.name)
            if known is not None and known.checkpoint == checkpoint:
                return known
            record = record_of(training, checkpoint)
            write_record(self.results, training.name, record)
        return record

    def _run(self, training: Training, budget: Budget, lock: int) -> None:
        before = Used()
        if training.can_be_resumed:
            arguments: tuple[str, ...] = (f"resume={training.folder}",)
            with readable(training):
                before = used_until(noted(training))
        else:
            training.remove_unfinished()
            conditions = self.conditions.arguments_for(training.config)
            arguments = (*training.cell.overrides, *conditions, "logger=csv", f"folder={training.folder}")
            if training.start is not None:
                arguments += (f"init_from={training.start.folder}",)
        known = {"machine": machine(self.conditions.threads, self.conditions.device), "commit": commit()}

        def note(used: Used) -> None:
            content = {**asdict(before + used), **known, FINAL: used.is_final}
            write_atomically(training.note, (json.dumps(content, indent=2) + "\n").encode())

        ended = self._command("train", arguments, training, budget, lock, note)
        _refuse_end(ended, training, f"{training.name} ({printable(training.log)})")
        if not training.is_done:
            raise Failed(training.name, f"{training.name}: train.py left no report in {printable(training.folder)}")
        self.say(f"trained {training.name}, {used_until(noted(training)).seconds / 60:.1f} minutes")

    def _test(self, cell: Cell, training: Training, record: Record, budget: Budget, lock: int) -> None:
        """Test the checkpoint of a training on the episodes of a cell, unless the run itself has done so."""
        config = configuration_of(cell)
        test, folder = config["data"]["test"], training.folder
        trained = configuration_of_folder(training.folder)["data"]["test"]
        changed = [f"{key}={_as_argument(new)}" for key, new, _ in differences(test, trained, "data.test.")]
        if changed:
            folder = training.folder / "evaluations" / cell.name.rpartition("/")[2]
            conditions = self.conditions.arguments_for(config)
            arguments = (f"ckpt={training.folder}", *conditions, *changed, f"episodes={test['episodes']}")
            arguments += (f"curve={config['curve']}", "pictures=none", f"out={folder}")
            ended = self._command("evaluate", arguments, training, budget, lock)
            _refuse_end(ended, training, f"the test of {cell.name} ({printable(training.log)})")
        with readable(training):
            result = result_of(cell, training, config, folder, record.checkpoint)
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
        budget.refuse_over(training.name)
        if training.log.exists() and not training.log.is_file():
            raise Failed(training.name, f"{training.name}: {printable(training.log)} is not a file: move it away")
        refuse_foreign(training)  # once more: it may have come meanwhile
        note(Used())
        return run_command(command, arguments, self.conditions.threads, training.log, budget.left, lock, note)


def _refuse_end(ended: Ended, training: Training, what: str) -> None:
    if ended.code is None:
        raise TimeOver(training.name, f"the time is over, and {what} was stopped; the same call continues")
    if ended.code != 0:
        raise Failed(training.name, f"{what}: {ended.message}")


def _as_argument(value: object) -> str:
    return "null" if value is None else json.dumps(value).replace(" ", "")
