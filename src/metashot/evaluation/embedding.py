"""Embed every item of an evaluation once, where features depend only on the item: episodes then consist of features.

An episode of 80 images costs 80 embeddings, and over hundreds of episodes each image occurs many times.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.features import FeatureLearner
from metashot.data.bank import Bank
from metashot.data.class_episodes import ClassEpisodes
from metashot.data.feature_bank import FeatureBank
from metashot.data.kept_features import kept_features
from metashot.process.interruption import STOP
from metashot.sources.splitting import Split
from metashot.version import __version__

_AT_ONCE = 256  # items in a batch
_MOST_NUMBERS = 2**20  # numbers in a batch of larger items: activations of more are slower, since they leave the caches
_MOST_BYTES = 4 * 2**30  # features in memory; larger ones, such as feature maps of many images, are computed per episode

# (activity, total, unit, done before) -> a function that advances the progress by a count.
Progress = Callable[[str, int, str, int], AbstractContextManager[Callable[[int], None]]]


class EmbedOnce(pl.Callback):
    """Embeds items once before they are used in episodes.

    A frozen backbone embeds all items of a split, also for training without augmentation, and the features are stored
    beside the banks for the next run. Any other backbone embeds the items of an evaluation, and its features are dropped
    afterwards, since its weights may change.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, ClassEpisodes):
            return
        # Before the first step, so that an interrupt in this long computation costs no steps.
        self._keep(trainer, pl_module, data, "val")
        self._forget(trainer, "val")
        if not data.presentation.augments:
            self._keep(trainer, pl_module, data, "train")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._forget(trainer, "train")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._embed(trainer, pl_module, "val")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._embed(trainer, pl_module, data.evaluated_split)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._forget(trainer, "val")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._forget(trainer, trainer.datamodule.evaluated_split)  # type: ignore[attr-defined]

    def _embed(self, trainer: pl.Trainer, learner: pl.LightningModule, split: Split) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(learner, FeatureLearner) or not isinstance(data, ClassEpisodes):
            return
        if not learner.embeds_independently:
            return
        if self._keep(trainer, learner, data, split):
            return
        places = data.places_of(split, data.evaluation_numbers(split))
        if len(places) * learner.backbone.features * 4 > _MOST_BYTES:
            return
        features = torch.cat(list(self._features(trainer, learner, data, split, places, 0)))
        data.features[split] = FeatureBank(features, places)

    def _keep(self, trainer: pl.Trainer, learner: pl.LightningModule, data: ClassEpisodes, split: Split) -> bool:
        """Use stored features of the whole split where the backbone is frozen; returns whether this was possible."""
        if not isinstance(learner, FeatureLearner) or not learner.backbone.frozen or not learner.embeds_independently:
            return False
        items, features = len(data.banks[split].items), learner.backbone.features
        if learner.dtype != torch.float32 or items * features * 4 > _MOST_BYTES:
            return False
        identity = {
            "backbone": learner.backbone.digest(),
            "items": data.fingerprint,
            "split": split,
            "presentation": [data.presentation.kind, list(data.input_shape), data.presentation.identity()],
            "computed": [learner.device.type, trainer.precision, __version__],
        }

        def computed(first: int) -> Iterator[NDArray[np.float32]]:
            for part in self._features(trainer, learner, data, split, np.arange(items), first):
                yield part.float().cpu().numpy()
                STOP.check()  # what is computed is kept

        try:
            kept = kept_features(data.banks_root, identity, (items, features), _at_once(data), computed)
        except OSError:
            return False  # the folder of the banks may be read-only: then nothing is stored
        data.features[split] = Bank(kept, [], np.array([items])).placed_on(learner.device)
        return True

    def _features(
        self,
        trainer: pl.Trainer,
        learner: FeatureLearner,
        data: ClassEpisodes,
        split: Split,
        places: NDArray[np.int64],
        done: int,
    ) -> Iterator[Tensor]:
        """The features of the items at these places of a split, batch by batch, without those that are done."""
        size, noun = _at_once(data), data.presentation.noun
        with self.progress("embedding", len(places), noun, done) as advance, torch.no_grad():
            for first in range(done, len(places), size):
                x = data.inputs_at(split, places[first : first + size], learner.device)
                x = x.to(learner.dtype) if x.is_floating_point() else x
                with trainer.precision_plugin.val_step_context():
                    found = learner.embed(x[None], support=0)[0]
                yield found
                advance(len(x))

    def _forget(self, trainer: pl.Trainer, split: Split) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, ClassEpisodes):
            data.features.pop(split, None)


def _at_once(data: ClassEpisodes) -> int:
    """The number of items in a batch."""
    return max(1, min(_AT_ONCE, _MOST_NUMBERS // math.prod(data.input_shape)))
