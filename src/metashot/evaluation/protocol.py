"""How validation and testing are scored: every episode once, by its number, whatever device answered it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metashot.episodes import Batch, Episode
from metashot.evaluation.statistics import mean_and_interval
from metashot.problems import Classification, Problem


@dataclass(frozen=True)
class EpisodeResults:
    """What was measured on each episode, in the order of their numbers."""

    problem: Problem
    scores: list[float]
    losses: list[float]
    numbers: list[int] = field(default_factory=list)
    on_the_way: dict[int, list[float]] = field(default_factory=dict)  # scores after so many inner steps
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

    def what_is_not_finite(self) -> str | None:
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


class EpisodeScores(Metric):
    """Collects what each device measured; torchmetrics brings the devices together."""

    full_state_update = False
    numbers: list[Tensor]
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("numbers", [], dist_reduce_fx="cat")
        self.add_state("values", [], dist_reduce_fx="cat")

    def update(
        self,
        numbers: Tensor,
        scores: Tensor,
        answered: int,
        losses: Tensor,
        non_finite: Tensor,
        on_the_way: Tensor | None = None,
    ) -> None:
        """Of T tasks the sums of their queries' scores, also after some inner steps [T, times], their mean losses, and how
        many of their queries have answers that are not finite."""
        self.numbers.append(numbers)
        queries = scores.new_full([len(scores), 1], answered)
        columns = [losses.unsqueeze(1), non_finite.to(scores).unsqueeze(1), queries, scores.unsqueeze(1)]
        self.values.append(torch.cat([*columns, *([] if on_the_way is None else [on_the_way])], dim=1))

    def compute(self) -> Tensor:
        """Number, score and loss of each episode, how many of its queries have no finite answer and how many it has, and its
        scores after inner steps, in the order of the numbers: [episodes, 5 + times]."""
        numbers = dim_zero_cat(self.numbers).cpu()
        # Devices that would run out of episodes answer the last one again: each number counts once.
        place = {number: position for position, number in enumerate(numbers.tolist())}
        order = torch.tensor([place[number] for number in sorted(place)])
        values = dim_zero_cat(self.values).cpu().double()[order]
        losses, non_finite, answered, sums = values.tensor_split([1, 2, 3], dim=1)
        scores = sums / answered
        of_episodes = [numbers[order].double().unsqueeze(1), scores[:, :1], losses, non_finite, answered]
        return torch.cat([*of_episodes, scores[:, 1:]], dim=1)


class QueryAnswers(Metric):
    """Collects what was answered to each query of classification: the classes of the split that it has and was given, and
    the probability of the latter."""

    full_state_update = False
    rows: list[Tensor]
    confidences: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.add_state("confidences", [], dist_reduce_fx="cat")

    def update(self, episode: Episode, answers: Tensor) -> None:
        confidence, predicted = answers.float().softmax(-1).max(-1)  # [T, Q]
        y, count = episode.query.y, episode.query.y.shape[1]
        place = torch.arange(count, device=y.device).expand_as(y)
        classes = [episode.classes.gather(1, labels) for labels in (y, predicted)]
        rows = torch.stack([episode.number.unsqueeze(1).expand_as(y), place, *classes], dim=-1)
        self.rows.append(rows.flatten(0, 1))
        self.confidences.append(confidence.flatten())

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
        self.answered: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None  # to the queries of classification
        self.shown: tuple[Episode, Tensor] | None = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(pl_module)
        self.queries.reset()
        self.queries.to(pl_module.device)
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
        if isinstance(self._problem(pl_module), Classification):
            for episode, of_episode in zip(batch, outputs["episodes"], strict=True):
                self.queries.update(episode, of_episode["answers"])
        if self.shown is None:
            self.shown = batch[0], outputs["episodes"][0]["answers"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.results = self._results(pl_module, ())
        # For Lightning's own callbacks and schedulers that monitor a metric.
        pl_module.log_dict(self.results.metrics("val"), logger=False)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps: tuple[int, ...] = pl_module.watched_steps  # type: ignore[assignment]
        self.results = self._results(pl_module, steps)
        self.answered = self.queries.compute() if isinstance(self.results.problem, Classification) else None

    def _begin(self, pl_module: pl.LightningModule) -> None:
        self.scores.reset()
        self.scores.to(pl_module.device)

    def _add(self, outputs: list[dict[str, Tensor]], batch: Batch) -> None:
        for episode, found in zip(batch, outputs, strict=True):
            answered = episode.query.y.shape[1]
            non_finite = found["answers"].isfinite().all(-1).logical_not().sum(1)  # [T]
            self.scores.update(
                episode.number, found["scores"], answered, found["losses"], non_finite, found.get("on_the_way")
            )

    def _results(self, algorithm: pl.LightningModule, steps: Sequence[int]) -> EpisodeResults:
        numbers, scores, losses, non_finite, queries, *on_the_way = self.scores.compute().T.tolist()
        # Numbers ascend, and the first episodes are the ones that were watched.
        watched = sum(number < algorithm.watched_episodes for number in numbers)  # type: ignore[operator]
        of_steps = {at: scores[:watched] for at, scores in zip(steps, on_the_way, strict=True)} if watched else {}
        whole = [list(map(int, counts)) for counts in (numbers, non_finite)]
        return EpisodeResults(self._problem(algorithm), scores, losses, whole[0], of_steps, whole[1], int(sum(queries)))

    def _problem(self, algorithm: pl.LightningModule) -> Problem:
        assert isinstance(algorithm.problem, Problem)
        return algorithm.problem
