"""Training and validation metrics, collected for the loggers and the progress bar."""

import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor

from metashot.evaluation.protocol import Scoring


class Measurements(pl.Callback):
    """Logs the loss, score, gradient norm, learning rate and tasks per second of training, and the validation scores.

    Args:
        scoring: holds the results of the latest validation.
        metric: the name of the score.
        tasks_per_step: tasks in one training step, on all devices together.
        every: steps between two measurements.
    """

    def __init__(self, scoring: Scoring, metric: str, tasks_per_step: int, every: int) -> None:
        self.scoring = scoring
        self.metric = metric
        self.tasks_per_step = tasks_per_step
        self.every = every
        self.latest: dict[str, float] = {}
        self._steps = 0
        self._seconds = 0.0
        self._mark = 0.0
        self._norm: Tensor | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        if (trainer.global_step + 1) % self.every == 0:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self._norm = torch.nn.utils.get_total_norm(gradients)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._seconds += now - self._mark
        self._mark = now
        self._steps += 1
        if trainer.global_step % self.every:
            return
        measured = {
            "train/loss": outputs["loss"].detach(),
            f"train/{self.metric}": outputs["score"],
            "train/gradient_norm": self._norm,
            **{f"train/{name}": value for name, value in outputs.items() if name not in ("loss", "score")},
        }
        self.latest = {
            name: float(trainer.strategy.reduce(value, reduce_op="mean"))
            for name, value in measured.items()
            if value is not None
        }
        self.latest["train/lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self.latest["train/tasks_per_second"] = self._steps * self.tasks_per_step / self._seconds
        self._steps, self._seconds = 0, 0.0
        log(trainer.loggers, self.latest, trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.scoring.results is not None
        log(trainer.loggers, self.scoring.results.metrics("val"), trainer.global_step)
        self._mark = time.perf_counter()


def log(loggers: Sequence[Logger], metrics: dict[str, float], steps: int) -> None:
    """Log metrics to every logger, at the given number of training steps."""
    for logger in loggers:
        logger.log_metrics(metrics, step=steps)
