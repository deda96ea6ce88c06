"""Non-finite losses and gradients: such a step is reported and skipped, and too many in a row end the run."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import distributed

from metashot.algorithms.base import Algorithm, TaskLosses
from metashot.bad_input import GaveUp
from metashot.checkpoints.run_folder import RunFolder
from metashot.checkpoints.stored import newest_intact


class Finiteness(pl.Callback):
    """Checks the loss and the gradient of every step before the outer optimiser uses them.

    Args:
        console: where skipped steps are reported.
        folder: the folder of the run, whose last intact checkpoint is named when training stops.
        most_in_a_row: the number of consecutive skipped steps at which training stops.
    """

    def __init__(self, console: Console, folder: RunFolder, most_in_a_row: int) -> None:
        self.console = console
        self.folder = folder
        self.most_in_a_row = most_in_a_row
        self.steps_in_a_row: dict[int, int] = {}  # skipped, of each optimiser
        self.skipped, self.last = 0, -1  # steps

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        assert isinstance(pl_module, Algorithm)
        parameters = [parameter for parameter in pl_module.parameters() if parameter.grad is not None]
        trouble = first_non_finite(pl_module.task_losses)
        # The gradient scaler of 16-mixed detects overflowing gradients itself, and lowers its scale.
        if trouble is None and trainer.precision != "16-mixed":
            norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
            trouble = None if math.isfinite(norm) else "the outer gradient"
        troubles = _of_all_devices(trouble, trainer)
        which = next((place for place, own in enumerate(trainer.optimizers) if own is optimizer), 0)
        in_a_row = self.steps_in_a_row[which] = self.steps_in_a_row.get(which, 0) + 1 if troubles else 0
        if not troubles:
            return
        for parameter in parameters:
            parameter.grad = None  # torch's optimisers skip parameters without a gradient
        step = trainer.global_step + 1
        self.skipped, self.last = self.skipped + (step != self.last), step
        found = f"{'; '.join(troubles)} is not finite in step {step}"
        self.console.print(f"{found}, which is skipped ({in_a_row} in a row)", highlight=False, markup=False)
        if in_a_row >= self.most_in_a_row:
            whole = newest_intact(self.folder.checkpoints)
            kept = f"the last intact checkpoint is {whole}" if whole else "there is no checkpoint yet"
            raise GaveUp(
                f"training stopped, because {in_a_row} steps in a row could not be used: {found}; {kept}; try a lower "
                "algo.inner_lr or algo.optimizer.lr, trainer.gradient_clip, or trainer.precision=32-true"
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.skipped:
            steps = "1 training step was" if self.skipped == 1 else f"{self.skipped:,} training steps were"
            self.console.print(f"note: {steps} skipped, since a loss or a gradient was not finite", highlight=False)


def first_non_finite(task_losses: list[TaskLosses]) -> str | None:
    """Describe the first non-finite loss and its task; None if all losses are finite."""
    for numbers, losses, inner_losses in task_losses:
        if inner_losses is not None and not inner_losses.isfinite().all():
            task, step = inner_losses.isfinite().logical_not().nonzero()[0].tolist()
            return f"the support loss of task {int(numbers[task])} before inner step {step + 1}"
        if not losses.isfinite().all():
            task = int(losses.isfinite().logical_not().nonzero()[0])
            return f"the query loss of task {int(numbers[task])}"
    return None


def _of_all_devices(trouble: str | None, trainer: pl.Trainer) -> list[str]:
    """Gather the problems found on all devices, because all devices have to skip the same steps."""
    if trainer.world_size == 1:
        return [] if trouble is None else [trouble]
    if not trainer.strategy.reduce_boolean_decision(trouble is not None, all=False):
        return []
    found: list[str | None] = [None] * trainer.world_size
    distributed.all_gather_object(found, trouble)
    return [each for each in found if each is not None]
