"""Where a run may end when the user wants it to: after a step with its checkpoint, or among the episodes of a test."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from metashot.process.interruption import STOP, Stopped


class TrainerWithoutSignals(pl.Trainer):
    """Lightning's, but for its handler of SIGTERM, for which it has no switch.

    While a loop runs, that handler notes the signal beside ours, and the loop then leaves with a `SystemExit` of code 0 at
    the first place where it looks: after a validation, between two batches of one, or at the end of training. A signal that
    came after the moment in which `Saving` looked for it, in the same step, so ended a run without its checkpoint, its test
    and a word. With several processes it also sends a message to the others from inside the handler, which waits for ever.
    """

    def __init__(self, callbacks: Sequence[pl.Callback], loggers: Sequence[Logger], **options: Any) -> None:
        super().__init__(callbacks=list(callbacks), logger=list(loggers), **options)
        self._signal_connector = _NoSignals(self)


class _NoSignals(_SignalConnector):
    def register_signal_handlers(self) -> None:
        """Leave the signals to metashot.process.interruption."""


class StopsTest(pl.Callback):
    """Ends a test between two of its batches."""

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any, **named: Any) -> None:
        if stopping(trainer):
            raise Stopped(STOP.message)


def stopping(trainer: pl.Trainer) -> bool:
    """Whether the user wants the run to end, as far as any of its processes knows."""
    if trainer.world_size == 1:
        return STOP.requested
    return bool(trainer.strategy.reduce_boolean_decision(STOP.requested, all=False))
