"""What every algorithm is: a Lightning module that learns from support sets and answers queries."""

from abc import abstractmethod
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.bad_input import BadInput
from metashot.episodes import Batch, Episode, Examples
from metashot.problems import Classification, Problem


class Algorithm(pl.LightningModule):
    """An algorithm writes `forward`, and `training_loss` where its paper trains on something else than the answers."""

    solves: ClassVar[tuple[type[Problem], ...]] = (Classification,)
    fixed_ways: int | None = None  # the only number of classes it can tell apart, where its head fixes one

    def __init__(self, optimizer: Optimization, transductive: bool, problem: Problem) -> None:
        super().__init__()
        if not isinstance(problem, self.solves):
            raise BadInput(
                f"{type(self).__name__} cannot learn a {type(problem).__name__.lower()} problem: "
                "choose other data with data=, or an algorithm such as algo=maml"
            )
        self.optimization = optimizer
        self.transductive = transductive  # whether the queries of a task could see each other
        self.problem = problem

    @abstractmethod
    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        """The answer to each query: [T, Q, outputs], scores of the classes [T, Q, ways] in classification."""

    def training_loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """The loss to minimise, and the answers [T, Q, outputs] it came from."""
        answers = self(episode.support, episode.query.x)
        return self.problem.loss(answers, episode.query.y), answers

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Every task counts the same, whatever the shape of its episode."""
        tasks = sum(map(len, batch))
        losses, scores = [], []
        for episode in batch:
            loss, answers = self.training_loss(episode)
            share = len(episode) / tasks
            losses.append(loss * share)
            scores.append(self.problem.scores(answers.detach(), episode.query.y).mean() * share)
        return {"loss": torch.stack(losses).sum(), "score": torch.stack(scores).sum()}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        return {"episodes": [self._answers(episode) for episode in batch]}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        return {"episodes": [self._answers(episode) for episode in batch]}

    def _answers(self, episode: Episode) -> dict[str, Tensor]:
        answers = self(episode.support, episode.query.x).detach()
        y = episode.query.y
        return {
            "answers": answers,
            "scores": self.problem.scores(answers, y).sum(1),
            "losses": self.problem.losses(answers, y).mean(1),
        }

    def configure_optimizers(self) -> Any:
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return self.optimization.build(trainable, self.trainer.max_steps)
