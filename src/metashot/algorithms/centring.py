"""Features that are normalised before they are compared, as in SimpleShot, and the mean that is subtracted from them."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.choosing import in_precision_of
from metashot.algorithms.features import FeatureLearner
from metashot.episodes import Episode, EpisodeSpec, maximum

Normalise = Literal["none", "l2", "centre_l2"]

_MOST_ITEMS = 2000  # training items of which the mean feature is that of all
_AT_ONCE = 256  # items


class FeatureNormalisation(nn.Module):
    """Normalises features.

    Args:
        kind: "none"; "l2" for a length of 1; "centre_l2" to subtract the mean feature of the training classes before that.
        features: The number of features.
    """

    mean: Tensor

    def __init__(self, kind: Normalise, features: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "centre_l2":
            self.register_buffer("mean", torch.zeros(features))  # part of the state of this kind only

    def forward(self, features: Tensor) -> Tensor:
        if self.kind == "none":
            return features
        return F.normalize(features - self.mean if self.kind == "centre_l2" else features, dim=-1)


class CentresFeatures(FeatureLearner):
    """A feature learner with `FeatureNormalisation`s, whose mean feature it computes at the start of each validation.

    The mean is that of the items in the first training episodes, with repetition, without augmentation. It belongs to the
    state, with the weights that it was computed with. Until the first validation it is zero.
    """

    def on_validation_start(self) -> None:
        super().on_validation_start()
        self.centre()

    def centre(self) -> None:
        """Compute the mean feature, where features are centred."""
        centred = [part for part in self.modules() if isinstance(part, FeatureNormalisation) and part.kind == "centre_l2"]
        if centred:
            mean = self._training_mean()
            for part in centred:
                part.mean.copy_(mean)

    @torch.no_grad()
    def _training_mean(self) -> Tensor:
        """The mean feature of training items, of which each device embeds a part: [features]."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        spec: EpisodeSpec = data.specs["train"]
        items = maximum(spec.ways) * (maximum(spec.shots) + maximum(spec.queries))  # of an episode
        numbers = np.arange(max(1, _MOST_ITEMS // items))[self.global_rank :: self.trainer.world_size]
        at_once = max(1, _AT_ONCE // items)
        total = torch.zeros(self.backbone.features + 1, dtype=torch.float64, device=self.device)  # last: number of items
        for part in np.split(numbers, range(at_once, len(numbers), at_once)):
            for episode in data.batch("train", part, self.device) if len(part) else []:
                with self.trainer.precision_plugin.val_step_context():
                    features = self._features(in_precision_of(self, episode)).double()
                total += F.pad(features, (0, 1), value=1.0).sum((0, 1))
        total = self.trainer.strategy.reduce(total, reduce_op="sum")  # type: ignore[assignment]
        return total[:-1] / total[-1]

    def _features(self, episode: Episode) -> Tensor:
        """[T, S + Q, features]"""
        x = torch.cat([episode.support.x, episode.query.x], dim=1)
        return x if episode.embedded else self.embed(x, support=episode.support.x.shape[1])
