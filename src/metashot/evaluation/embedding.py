"""Embedding every item of an evaluation once, where features depend on the item alone: episodes then consist of features.

An episode of 80 images costs as much as embedding 80 images, and in hundreds of episodes each image comes up many times.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytorch_lightning as pl
import torch
from torch import Tensor

from metashot.algorithms.features import FeatureLearner
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.feature_bank import FeatureBank
from metashot.sources.splitting import Split

_AT_ONCE = 256  # items
_MOST_BYTES = 4 * 2**30  # of features in memory: those of whole maps of many images are left to their episodes

# What is done, of how many, in which unit -> a function that is told how many more are done.
Progress = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]


class EmbedOnce(pl.Callback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._embed(trainer, pl_module, "val")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._embed(trainer, pl_module, data.evaluated_split)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._forget(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._forget(trainer)

    def _embed(self, trainer: pl.Trainer, learner: pl.LightningModule, split: Split) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(learner, FeatureLearner) or not isinstance(data, ClassEpisodes):
            return
        if not learner.backbone.embeds_independently:
            return
        places = data.places_of(split, data.evaluation_numbers(split))
        if len(places) * learner.backbone.features * 4 > _MOST_BYTES:
            return
        features: list[Tensor] = []
        with self.progress("embedding", len(places), data.presentation.noun) as advance, torch.no_grad():
            for first in range(0, len(places), _AT_ONCE):
                x = data.inputs_at(split, places[first : first + _AT_ONCE], learner.device)
                x = x.to(learner.dtype) if x.is_floating_point() else x
                with trainer.precision_plugin.val_step_context():
                    features.append(learner.embed(x[None], support=0)[0])
                advance(len(x))
        data.features[split] = FeatureBank(torch.cat(features), places)

    def _forget(self, trainer: pl.Trainer) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, ClassEpisodes):
            data.features.clear()
