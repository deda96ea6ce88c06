"""Where a run can be interrupted: after a step, with a checkpoint, or between two batches of a test."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from metashot.process.interruption import STOP, Stopped


class TrainerWithoutSignals(pl.Trainer):
    """Lightning's Trainer without its SIGTERM handler, which has no option to turn it off.

    Lightning's handler records the signal alongside ours, and the loop then raises `SystemExit` with code 0 at the next
    check: after a validation, between two validation batches, or at the end of training. A signal that arrived after
    `Saving` had checked for it in the same step therefore ended the run without a checkpoint, a test or a message. With
    several processes, the handler also sends a message to the others, and that call blocks forever.
    """

    def __init__(self, callbacks: Sequence[pl.Callback], loggers: Sequence[Logger], **options: Any) -> None:
        super().__init__(callbacks=list(callbacks), logger=list(loggers), **options)
        self._signal_connector = _NoSignals(self)


class _NoSignals(_SignalConnector):
    def register_signal_handlers(self) -> None:
        """Register nothing: metashot.process.interruption handles the signals."""


class StopsTest(pl.Callback):
    """Stops a test between two batches when the user asks for it."""

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any, **named: Any) -> None:
        if stopping(trainer):
            raise Stopped(STOP.message)


def stopping(trainer: pl.Trainer) -> bool:
    """Whether any process of the run has been asked to stop."""
    if trainer.world_size == 1:
        return STOP.requested
    return bool(trainer.strategy.reduce_boolean_decision(STOP.requested, all=False))
