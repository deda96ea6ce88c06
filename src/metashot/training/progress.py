"""Progress of a run: a bar on a terminal, occasional lines elsewhere, and one line per validation everywhere."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from metashot.data.module import EpisodicDataModule
from metashot.episodes import Batch
from metashot.evaluation.protocol import Scoring
from metashot.evaluation.report import score_with_interval
from metashot.training.measurements import Measurements
from metashot.training.saving import Saving


class ProgressBar(pl.Callback):
    """Shows completed and remaining steps, with the loss, the score and the tasks per second.

    Args:
        scoring: holds the results of the latest validation.
        console: where progress is printed.
        measurements: the latest training metrics, if the run trains.
        saving: the best step so far, if the run saves checkpoints.
        heartbeat: seconds between two lines where there is no bar.
    """

    def __init__(
        self,
        scoring: Scoring,
        console: Console,
        measurements: Measurements | None = None,
        saving: Saving | None = None,
        heartbeat: float = math.inf,
    ) -> None:
        self.scoring = scoring
        self.console = console
        self.measurements = measurements
        self.saving = saving
        self.heartbeat = heartbeat
        self.last_line = time.monotonic()
        self.training_since = (0, 0.0)  # the first step of this process, and its time
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[measured]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
        )
        self.training: TaskID | None = None
        self.in_worlds = False  # whether tasks are worlds
        self.evaluating: TaskID | None = None
        # What was done after the first batch, and the time then: the first one may wait for what all batches need.
        self.evaluating_since: tuple[float, float] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.is_global_zero and self.console.is_terminal:
            self.bar.start()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = trainer.global_step
        self.training_since = done, time.monotonic()
        self.in_worlds = not pl_module.answers_queries
        self.training = self.bar.add_task("training", total=trainer.max_steps, completed=done, measured="")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.training is not None:
            self.bar.update(self.training, completed=trainer.global_step, measured=self._measured())
        if self._is_due():
            began, since = self.training_since
            left = (time.monotonic() - since) / (trainer.global_step - began) * (trainer.max_steps - trainer.global_step)
            parts = [f"step {trainer.global_step}/{trainer.max_steps}", self._measured(), f"{in_words(left)} left"]
            self._line("  ".join(filter(None, parts)))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin("validating", _data_of(trainer).episodes["val"] or 0, _tasks_of(pl_module), 0)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = _data_of(trainer)
        self._begin("testing", data.episodes[data.evaluated_split] or 0, _tasks_of(pl_module), 0)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, *where: int
    ) -> None:
        self._advance(_episodes(trainer, batch))

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, *where: int
    ) -> None:
        self._advance(_episodes(trainer, batch))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()
        results = self.scoring.results
        if not trainer.is_global_zero or results is None:
            return
        best = ""
        # Lightning calls callbacks that save last, so the best step of `saving` may still be an earlier one.
        if self.saving is not None and (
            self.saving.best_step == trainer.global_step or results.problem.better(results.score, self.saving.best_score)
        ):
            best = "  best so far"
        metric = results.problem.metric
        trouble = results.first_non_finite()
        score = score_with_interval(metric, results.score, results.ci95) if trouble is None else f"not counted: {trouble}"
        step = f"step {trainer.global_step}/{trainer.max_steps}"
        self._line(f"{step}  val {metric} {score}{best}  {self._measured()}")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()

    @contextlib.contextmanager
    def part(self, what: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
        """Show the progress of one part of an evaluation.

        Args:
            what: the name of the part.
            total: the number of units in it.
            unit: what is counted.
            done: the number of units that an earlier process completed.

        Yields:
            A function to call with the number of units completed since its last call.
        """
        self._begin(what, total, unit, done)
        try:
            yield self._advance
        finally:
            self._end()

    def _measured(self) -> str:
        if self.measurements is None or not self.measurements.latest:
            return ""
        latest, metric = self.measurements.latest, self.measurements.metric
        if self.in_worlds:  # the loss is minus the return
            before = latest.get(f"train/{metric}_before")
            after = f"train {metric} " + ("" if before is None else f"{before:.3f} -> ") + f"{latest[f'train/{metric}']:.3f}"
            return f"{after}  {latest['train/tasks_per_second']:.3g} worlds/s"
        return (
            f"loss {latest['train/loss']:.3f}  {metric} {latest[f'train/{metric}']:.3f}  "
            f"{latest['train/tasks_per_second']:.1f} tasks/s"
        )

    def _begin(self, what: str, total: int, unit: str, done: int) -> None:
        self.evaluating = self.bar.add_task(what, total=total, completed=done, measured=unit)
        self.evaluating_since = None

    def _advance(self, more: int) -> None:
        if self.evaluating is not None:
            task = next(task for task in self.bar.tasks if task.id == self.evaluating)
            done = min(task.completed + more, task.total or 0)  # devices may repeat episodes in the last batch
            self.bar.update(self.evaluating, completed=done)
            began, since = self.evaluating_since or (None, 0.0)
            self.evaluating_since = self.evaluating_since or (done, time.monotonic())
            if self._is_due():
                total = task.total or 0
                counted = f"{task.description} {done:.0f}/{total:.0f} {task.fields['measured']}"
                if began is None and done < total:
                    self._line(counted)
                else:
                    left = (time.monotonic() - since) / max(done - (began or 0), 1) * (total - done)
                    self._line(f"{counted}  {in_words(left)} left")

    def _is_due(self) -> bool:
        return not self.console.is_terminal and time.monotonic() - self.last_line >= self.heartbeat

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        self.console.print(text, highlight=False, markup=False)

    def _stop(self) -> None:
        if self.bar.live.is_started:  # stopping a bar that never started prints an empty line
            self.bar.stop()

    def _end(self) -> None:
        if self.evaluating is not None:
            self.bar.remove_task(self.evaluating)
            self.evaluating = None


def _data_of(trainer: pl.Trainer) -> EpisodicDataModule:
    data: EpisodicDataModule = trainer.datamodule  # type: ignore[attr-defined]
    return data


def _tasks_of(algorithm: pl.LightningModule) -> str:
    return "episodes" if algorithm.answers_queries else "worlds"


def _episodes(trainer: pl.Trainer, batch: Batch) -> int:
    """The number of episodes that all devices together scored in one batch."""
    return sum(map(len, batch)) * trainer.world_size


def in_words(seconds: float) -> str:
    """Format an estimated duration."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
