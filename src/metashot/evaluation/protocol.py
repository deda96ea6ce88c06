"""Scoring in validation and testing: every episode counts once, by its number, on any number of devices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metashot.algorithms.base import Familiar
from metashot.episodes import Batch, Episode
from metashot.evaluation.measured_episodes import EnvironmentSteps, MeasuredEpisodes
from metashot.evaluation.statistics import mean_and_interval
from metashot.evaluation.strangers import measured_familiarity
from metashot.problems import Predictions, Problem
from metashot.worlds import Worlds

REGRET = "regret"  # the measure: how much less the actions of a trajectory are expected to pay than the best ones


@dataclass(frozen=True)
class EpisodeResults:
    """The score and the loss of each episode, sorted by the episodes' numbers."""

    problem: Problem
    scores: list[float]
    losses: list[float]
    numbers: list[int] = field(default_factory=list)
    after_steps: dict[int, list[float]] = field(default_factory=dict)  # n inner steps: watched episodes' scores
    non_finite: list[int] = field(default_factory=list)  # number of queries with non-finite answers in each episode
    queries: int = 0  # total over all episodes
    measures: dict[str, list[float]] = field(default_factory=dict)  # what else the problem measures in each episode

    @property
    def score(self) -> float:
        """The mean score; NaN where any answer is not finite, since such an answer has no valid prediction."""
        return float("nan") if any(self.non_finite) else mean_and_interval(self.scores)[0]

    @property
    def ci95(self) -> float | None:
        return None if any(self.non_finite) else mean_and_interval(self.scores)[1]

    @property
    def loss(self) -> float:
        return float("nan") if any(self.non_finite) else mean_and_interval(self.losses)[0]

    def first_non_finite(self) -> str | None:
        """A message about non-finite answers or a missing score; None where there are none."""
        episodes = sum(count > 0 for count in self.non_finite)
        if not episodes:
            return self._first_without_score()
        return (
            f"the answers to {sum(self.non_finite)} of {self.queries} queries, in {episodes} of {len(self.scores)} "
            "episodes, are not finite"
        )

    def _first_without_score(self) -> str | None:
        """A message about the first episode without a score, such as one whose queries have no labels."""
        for number, score in zip(self.numbers, self.scores, strict=False):
            if math.isnan(score):
                return f"episode {number} has no {self.problem.metric}, because none of its queries has a label"
        return None

    def metrics(self, prefix: str) -> dict[str, float]:
        interval = {} if self.ci95 is None else {f"{prefix}/ci95": self.ci95}
        measures = {f"{prefix}/{name}": mean_and_interval(values)[0] for name, values in self.measures.items()}
        return {f"{prefix}/{self.problem.metric}": self.score, **interval, f"{prefix}/loss": self.loss, **measures}


class Collected(NamedTuple):
    """The measurements of E episodes, sorted by the episodes' numbers."""

    numbers: NDArray[np.int64]  # [E]
    losses: NDArray[np.float64]  # [E]
    non_finite: NDArray[np.int64]  # [E]: number of queries with non-finite answers
    queries: NDArray[np.int64]  # [E]
    statistics: Tensor  # [E, 1 + times, K], in 64 bits: at the end, then after each watched inner step


class EpisodeScores(Metric):
    """Collects the measurements of each device; torchmetrics gathers them across devices.

    An episode is stored as its problem's statistics, so that answers may have any shape.
    """

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
            numbers: The tasks' episode numbers [T].
            answers: The answers to their queries [T, Q, ...].
            losses: The mean loss over each task's queries [T].
            statistics: The problem's statistics of each task [T, K].
            after_steps: The statistics after each watched inner step [T, times, K].
        """
        non_finite = answers.isfinite().reshape(*answers.shape[:2], -1).all(-1).logical_not().sum(1)  # [T]
        at_end = statistics.unsqueeze(1)
        self.numbers.append(numbers)
        self.losses.append(losses)
        self.counts.append(torch.stack([non_finite, torch.full_like(non_finite, answers.shape[1])], dim=1))
        self.statistics.append(at_end if after_steps is None else torch.cat([at_end, after_steps], dim=1))

    def compute(self) -> Collected:
        numbers = dim_zero_cat(self.numbers).cpu()
        # Devices that run out of episodes repeat the last one, so each number is counted once.
        place = {number: position for position, number in enumerate(numbers.tolist())}
        order = torch.tensor([place[number] for number in sorted(place)])
        losses, counts, statistics = (
            dim_zero_cat(state).cpu()[order] for state in (self.losses, self.counts, self.statistics)
        )
        non_finite, queries = counts.numpy().T
        return Collected(numbers[order].numpy(), losses.double().numpy(), non_finite, queries, statistics.double())


class QueryAnswers(Metric):
    """Collects each query's true and predicted class, numbered within the split, and the predicted class's probability."""

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
        """The episode number, class and predicted class of each query [3, N], and the confidence [N], sorted by number."""
        rows = dim_zero_cat(self.rows).cpu().numpy()
        confidences = dim_zero_cat(self.confidences).cpu().double().numpy()
        _, first = np.unique(rows[:, :2], axis=0, return_index=True)  # each query once, as in EpisodeScores
        return rows[first][:, [0, 2, 3]].T, confidences[first]


class Scoring(pl.Callback):
    """Scores the episodes of validation and testing, and keeps the first test batch with its answers for the picture."""

    def __init__(self) -> None:
        self.scores = EpisodeScores()
        self.queries = QueryAnswers()
        self.familiarities = MeasuredEpisodes()
        self.with_strangers: NDArray[np.float64] | None = None  # the measures of each episode, if it had strangers
        self.made = MeasuredEpisodes()
        self.with_made: NDArray[np.float64] | None = None  # the measures of each episode, if the learner makes examples
        self.results: EpisodeResults | None = None
        self.answered: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None  # for problems with classes
        self.steps = EnvironmentSteps()
        self.environment_steps: int | None = None  # of a policy in all worlds
        self.regrets = MeasuredEpisodes()
        self.with_regrets: NDArray[np.float64] | None = None  # [E, H] after each step, where the worlds know them
        self.first_batch: tuple[Episode | Worlds, Tensor] | None = None  # the first test batch, with its answers

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(pl_module)
        for metric in (self.queries, self.familiarities, self.made, self.steps, self.regrets):
            metric.reset()
            metric.to(pl_module.device)
        self.with_strangers = self.with_made = self.with_regrets = self.environment_steps = None
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
        problem, answers_queries = self._problem(pl_module), pl_module.answers_queries
        for episode, found in zip(batch, outputs["episodes"], strict=True):
            if "environment_steps" in found:
                self.steps.update(episode.number, found["environment_steps"])
            if "regrets" in found:
                self.regrets.update(episode.number, found["regrets"])
            if "made" in found:
                self.made.update(episode.number, found["made"])
            if not answers_queries:
                continue
            predictions = problem.predictions(pl_module.calibration(found["answers"]), episode.query.y)  # type: ignore[operator]
            if predictions is not None:
                self.queries.update(episode, predictions)
                if "alone_known" in found:
                    right = predictions.labels == predictions.predicted
                    judged = (
                        Familiar(*(found[f"{how}_{part}"] for part in Familiar._fields)) for how in ("alone", "together")
                    )
                    self.familiarities.update(episode.number, measured_familiarity(right, *judged))
        if self.first_batch is None:
            self.first_batch = batch[0], pl_module.calibration(outputs["episodes"][0]["answers"])  # type: ignore[operator]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.results = self._results(pl_module, ())
        # Logged for Lightning's callbacks and schedulers that monitor a metric.
        pl_module.log_dict(self.results.metrics("val"), logger=False)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps: tuple[int, ...] = pl_module.watched_steps  # type: ignore[assignment]
        self.results = self._results(pl_module, steps)
        self.answered = self.queries.compute() if self.queries.update_called else None
        self.with_strangers = self.familiarities.compute() if self.familiarities.update_called else None
        self.with_made = self.made.compute() if self.made.update_called else None
        self.environment_steps = self.steps.compute() if self.steps.update_called else None
        if self.regrets.update_called:
            self.with_regrets = self.regrets.compute()
            at_end = {REGRET: self.with_regrets[:, -1].tolist()}
            self.results = replace(self.results, measures=self.results.measures | at_end)

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
        # Numbers are sorted, and the watched episodes come first.
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
            {name: values.tolist() for name, values in problem.measures_of(found.statistics[:, 0]).items()},
        )

    def _problem(self, algorithm: pl.LightningModule) -> Problem:
        assert isinstance(algorithm.problem, Problem)
        return algorithm.problem
