"""What every algorithm is: a Lightning module that learns from support sets and answers queries."""

from abc import abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.episodes import Episode, Examples


class Algorithm(pl.LightningModule):
    """An algorithm writes `forward`, and `training_loss` where its paper trains on something else than the answers."""

    fixed_ways: int | None = None  # the only number of classes it can tell apart, where its head fixes one

    def __init__(self, optimizer: Optimization, transductive: bool) -> None:
        super().__init__()
        self.optimization = optimizer
        self.transductive = transductive  # whether the queries of a task could see each other

    @abstractmethod
    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        """Scores of each query for each class: [T, Q, ways]."""

    def training_loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """The loss to minimise, and the scores [T, Q, ways] it came from."""
        scores = self(episode.support, episode.query.x)
        return F.cross_entropy(scores.flatten(0, 1), episode.query.y.flatten()), scores

    def training_step(self, episode: Episode, batch_idx: int) -> dict[str, Tensor]:
        loss, scores = self.training_loss(episode)
        return {"loss": loss, "accuracy": (scores.detach().argmax(-1) == episode.query.y).float().mean()}

    def validation_step(self, episode: Episode, batch_idx: int) -> dict[str, Tensor]:
        return self._answers(episode)

    def test_step(self, episode: Episode, batch_idx: int) -> dict[str, Tensor]:
        return self._answers(episode)

    def _answers(self, episode: Episode) -> dict[str, Tensor]:
        scores = self(episode.support, episode.query.x).detach()
        y = episode.query.y
        losses = F.cross_entropy(scores.flatten(0, 1), y.flatten(), reduction="none").view_as(y).mean(1)
        right = (scores.argmax(-1) == y).sum(1).to(losses.dtype)
        return {"scores": scores, "losses": losses, "right": right}

    def configure_optimizers(self) -> Any:
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return self.optimization.build(trainable, self.trainer.max_steps)
