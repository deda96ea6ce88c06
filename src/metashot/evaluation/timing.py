"""The time of a task: adapting to its support set, and answering its queries, one task at a time, and in the test."""

import statistics
import time
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch

from metashot.algorithms.base import Algorithm
from metashot.data.module import EpisodicDataModule, in_double
from metashot.episodes import Batch, Episode

_TIMED = 8  # number of timed tasks; the median is reported
_WARM_UP = 2  # untimed tasks before them


class SecondsOfATask(NamedTuple):
    """The median times of a task in seconds."""

    adapting: float
    answering: float
    in_the_test: float  # of both, for tasks in batches, whose items are embedded before where the backbone allows it


class Timing(pl.Callback):
    """Measures the time of a task after testing, on the test's device and in its precision.

    Has to come after `EmbedOnce` in the list of callbacks, so that tasks consist of images again, and before those that
    collect what was answered, which is not timed.
    """

    def __init__(self) -> None:
        self.seconds: SecondsOfATask | None = None
        self._batches: list[float] = []  # seconds of a task in each
        self._start = 0.0

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._batches = []

    def on_test_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *others: Any) -> None:
        self._start = _now(pl_module.device)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, *others: Any
    ) -> None:
        self._batches.append((_now(pl_module.device) - self._start) / sum(map(len, batch)))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: EpisodicDataModule = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, Algorithm)
        self.seconds = None
        if not pl_module.answers_queries:
            return
        numbers, device = data.evaluation_numbers(data.evaluated_split), pl_module.device
        seconds = []
        with trainer.precision_plugin.test_step_context(), torch.no_grad():
            for turn in range(_WARM_UP + _TIMED):
                place = turn % len(numbers)
                (episode,) = data.batch(data.evaluated_split, numbers[place : place + 1], device)
                seconds.append(_of_one(pl_module, in_double(episode) if trainer.precision == "64-true" else episode))
        adapting, answering = zip(*seconds[_WARM_UP:], strict=True)
        self.seconds = SecondsOfATask(*map(statistics.median, (adapting, answering, self._batches)))


def _of_one(algorithm: Algorithm, episode: Episode) -> tuple[float, float]:
    start = _now(algorithm.device)
    learned = algorithm.adapt(episode.support)
    learned_at = _now(algorithm.device)
    algorithm.answer_queries(learned, episode.query.x)
    return learned_at - start, _now(algorithm.device) - learned_at


def _now(device: torch.device) -> float:
    """The current time, after the device has finished its pending work."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return time.perf_counter()
