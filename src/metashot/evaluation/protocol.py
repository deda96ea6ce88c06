"""How validation and testing are scored: every episode once, by its number, whatever device answered it."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metashot.episodes import Batch, Episode
from metashot.evaluation.statistics import mean_and_interval
from metashot.problems import Problem


@dataclass(frozen=True)
class EpisodeResults:
    """What was measured on each episode, in the order of their numbers."""

    problem: Problem
    scores: list[float]
    losses: list[float]

    @property
    def score(self) -> float:
        return mean_and_interval(self.scores)[0]

    @property
    def ci95(self) -> float | None:
        return mean_and_interval(self.scores)[1]

    @property
    def loss(self) -> float:
        return mean_and_interval(self.losses)[0]

    def metrics(self, prefix: str) -> dict[str, float]:
        interval = {} if self.ci95 is None else {f"{prefix}/ci95": self.ci95}
        return {f"{prefix}/{self.problem.metric}": self.score, **interval, f"{prefix}/loss": self.loss}


class EpisodeScores(Metric):
    """Collects what each device measured; torchmetrics brings the devices together."""

    full_state_update = False
    numbers: list[Tensor]
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("numbers", [], dist_reduce_fx="cat")
        self.add_state("values", [], dist_reduce_fx="cat")

    def update(self, numbers: Tensor, scores: Tensor, answered: int, losses: Tensor) -> None:
        self.numbers.append(numbers)
        self.values.append(torch.stack([scores, scores.new_full(scores.shape, answered), losses], dim=1))

    def compute(self) -> Tensor:
        """Score and loss of each episode, in the order of their numbers: [episodes, 2]."""
        numbers = dim_zero_cat(self.numbers).cpu()
        scores, answered, losses = dim_zero_cat(self.values).cpu().double().unbind(1)
        values = torch.stack([scores / answered, losses], dim=1)
        # Devices that would run out of episodes answer the last one again: each number counts once.
        place = {number: position for position, number in enumerate(numbers.tolist())}
        return values[[place[number] for number in sorted(place)]]


class Scoring(pl.Callback):
    """Scores the episodes of validation and testing, and keeps one test episode with its answers for the picture."""

    def __init__(self) -> None:
        self.scores = EpisodeScores()
        self.results: EpisodeResults | None = None
        self.shown: tuple[Episode, Tensor] | None = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(pl_module)
        self.shown = None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._add(outputs["episodes"], batch)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._add(outputs["episodes"], batch)
        if self.shown is None:
            self.shown = batch[0], outputs["episodes"][0]["answers"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.results = self._results(pl_module)
        # For Lightning's own callbacks and schedulers that monitor a metric.
        pl_module.log_dict(self.results.metrics("val"), logger=False)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.results = self._results(pl_module)

    def _begin(self, pl_module: pl.LightningModule) -> None:
        self.scores.reset()
        self.scores.to(pl_module.device)

    def _add(self, outputs: list[dict[str, Tensor]], batch: Batch) -> None:
        for episode, of_episode in zip(batch, outputs, strict=True):
            self.scores.update(episode.number, of_episode["scores"], episode.query.y.shape[1], of_episode["losses"])

    def _results(self, algorithm: Any) -> EpisodeResults:
        scores, losses = self.scores.compute().T.tolist()
        return EpisodeResults(algorithm.problem, scores, losses)
