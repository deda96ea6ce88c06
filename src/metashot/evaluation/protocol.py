"""How validation and testing are scored: every episode once, by its number, whatever device answered it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metashot.episodes import Batch, Episode
from metashot.evaluation.statistics import mean_and_interval
from metashot.problems import Predictions, Problem


@dataclass(frozen=True)
class EpisodeResults:
    """What was measured on each episode, in the order of their numbers."""

    problem: Problem
    scores: list[float]
    losses: list[float]
    numbers: list[int] = field(default_factory=list)
    after_steps: dict[int, list[float]] = field(default_factory=dict)  # scores of the watched ones after n inner steps
    non_finite: list[int] = field(default_factory=list)  # queries of each episode whose answers are not finite
    queries: int = 0  # of all episodes

    @property
    def score(self) -> float:
        """NaN where an answer is not finite: whatever class it was counted for, it is no answer."""
        return float("nan") if any(self.non_finite) else mean_and_interval(self.scores)[0]

    @property
    def ci95(self) -> float | None:
        return None if any(self.non_finite) else mean_and_interval(self.scores)[1]

    @property
    def loss(self) -> float:
        return float("nan") if any(self.non_finite) else mean_and_interval(self.losses)[0]

    def first_non_finite(self) -> str | None:
        """How many answers are not finite, in words; nothing where all are."""
        episodes = sum(count > 0 for count in self.non_finite)
        if not episodes:
            return None
        return (
            f"the answers to {sum(self.non_finite)} of {self.queries} queries, in {episodes} of {len(self.scores)} "
            "episodes, are not finite"
        )

    def metrics(self, prefix: str) -> dict[str, float]:
        interval = {} if self.ci95 is None else {f"{prefix}/ci95": self.ci95}
        return {f"{prefix}/{self.problem.metric}": self.score, **interval, f"{prefix}/loss": self.loss}


class Collected(NamedTuple):
    """What was measured on E episodes, in the order of their numbers."""

    numbers: NDArray[np.int64]  # [E]
    losses: NDArray[np.float64]  # [E]
    non_finite: NDArray[np.int64]  # [E]: queries whose answers are not finite
    queries: NDArray[np.int64]  # [E]
    statistics: Tensor  # [E, 1 + times, K], in 64 bits: at the end, and after some inner steps


class EpisodeScores(Metric):
    """Collects what each device measured; torchmetrics brings the devices together. What is kept of an episode is what its
    problem makes a score of, whatever its answers look like."""

    full_state_update = False
    numbers: list[Tensor]
    losses: list[Tensor]
    counts: list[Tensor]
    statistics: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("numbers", "losses", "counts", "statistics"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        numbers: Tensor,
        answers: Tensor,
        losses: Tensor,
        statistics: Tensor,
        after_steps: Tensor | None = None,
    ) -> None:
        """Add T tasks.

        Args:
            numbers: of their episodes [T].
            answers: to their queries [T, Q, ...].
            losses: the mean of each task's queries [T].
            statistics: what the problem makes each task's score of [T, K].
            after_steps: the same after some inner steps [T, times, K].
        """
        non_finite = answers.isfinite().reshape(*answers.shape[:2], -1).all(-1).logical_not().sum(1)  # [T]
        at_end = statistics.unsqueeze(1)
        self.numbers.append(numbers)
        self.losses.append(losses)
        self.counts.append(torch.stack([non_finite, torch.full_like(non_finite, answers.shape[1])], dim=1))
        self.statistics.append(at_end if after_steps is None else torch.cat([at_end, after_steps], dim=1))

    def compute(self) -> Collected:
        numbers = dim_zero_cat(self.numbers).cpu()
        # Devices that would run out of episodes answer the last one again: each number counts once.
        place = {number: position for position, number in enumerate(numbers.tolist())}
        order = torch.tensor([place[number] for number in sorted(place)])
        losses, counts, statistics = (
            dim_zero_cat(state).cpu()[order] for state in (self.losses, self.counts, self.statistics)
        )
        non_finite, queries = counts.numpy().T
        return Collected(numbers[order].numpy(), losses.double().numpy(), non_finite, queries, statistics.double())


class QueryAnswers(Metric):
    """Collects the predicted class of each query: the classes of the split that it has and was given, and the probability of
    the latter."""

    full_state_update = False
    rows: list[Tensor]
    confidences: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("confidences", [], dist_reduce_fx="cat")

    def update(self, episode: Episode, predictions: Predictions) -> None:
        y, count = predictions.labels, predictions.labels.shape[1]
        place = torch.arange(count, device=y.device).expand_as(y)
        classes = [episode.classes.gather(1, labels) for labels in (y, predictions.predicted)]
        rows = torch.stack([episode.number.unsqueeze(1).expand_as(y), place, *classes], dim=-1)
        self.rows.append(rows.flatten(0, 1))
        self.confidences.append(predictions.confidence.flatten())

    def compute(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Number, class and predicted class of each query [3, N], and the confidence [N], in the order of the numbers."""
        rows = dim_zero_cat(self.rows).cpu().numpy()
        confidences = dim_zero_cat(self.confidences).cpu().double().numpy()
        _, first = np.unique(rows[:, :2], axis=0, return_index=True)  # each query once, as above
        return rows[first][:, [0, 2, 3]].T, confidences[first]


class Scoring(pl.Callback):
    """Scores the episodes of validation and testing, and keeps one test episode with its answers for the picture."""

    def __init__(self) -> None:
        self.scores = EpisodeScores()
        self.queries = QueryAnswers()
        self.results: EpisodeResults | None = None
        self.answered: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None  # where queries have predicted classes
        self.first_batch: tuple[Episode, Tensor] | None = None  # of a test, with its answers

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(pl_module)
        self.queries.reset()
        self.queries.to(pl_module.device)
        self.first_batch = None

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
        problem = self._problem(pl_module)
        for episode, found in zip(batch, outputs["episodes"], strict=True):
            predictions = problem.predictions(found["answers"], episode.query.y)
            if predictions is not None:
                self.queries.update(episode, predictions)
        if self.first_batch is None:
            self.first_batch = batch[0], outputs["episodes"][0]["answers"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.results = self._results(pl_module, ())
        # For Lightning's own callbacks and schedulers that monitor a metric.
        pl_module.log_dict(self.results.metrics("val"), logger=False)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps: tuple[int, ...] = pl_module.watched_steps  # type: ignore[assignment]
        self.results = self._results(pl_module, steps)
        self.answered = self.queries.compute() if self.queries.update_called else None

    def _begin(self, pl_module: pl.LightningModule) -> None:
        self.scores.reset()
        self.scores.to(pl_module.device)

    def _add(self, outputs: list[dict[str, Tensor]], batch: Batch) -> None:
        for episode, found in zip(batch, outputs, strict=True):
            self.scores.update(
                episode.number, found["answers"], found["losses"], found["statistics"], found.get("after_steps")
            )

    def _results(self, algorithm: pl.LightningModule, steps: Sequence[int]) -> EpisodeResults:
        problem = self._problem(algorithm)
        found: Collected = self.scores.compute()
        # Numbers ascend, and the first episodes are the ones that were watched.
        first: int = algorithm.watched_episodes  # type: ignore[assignment]
        watched = int((found.numbers < first).sum())
        at_end, *after_steps = problem.score_of(found.statistics).T.tolist()  # each [E]
        return EpisodeResults(
            problem,
            at_end,
            found.losses.tolist(),
            found.numbers.tolist(),
            {at: scores[:watched] for at, scores in zip(steps, after_steps, strict=True)} if watched else {},
            found.non_finite.tolist(),
            int(found.queries.sum()),
        )

    def _problem(self, algorithm: pl.LightningModule) -> Problem:
        assert isinstance(algorithm.problem, Problem)
        return algorithm.problem
