"""Prototypes in the inner loop: a headless algorithm, as small as one can be. A task moves the backbone so that its support
features come nearer to their own class's mean than to those of other classes; queries belong to the nearest mean."""

import torch
from torch import Tensor

from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.headless import HeadlessLearner
from metashot.algorithms.similarities import class_means, squared_distances
from metashot.engines.inner import Parameters
from metashot.episodes import Examples


class AdaptedPrototypes(HeadlessLearner):
    def support_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """-log of the softmax over classes of the negative squared distances, each class counted once whatever its shots."""
        alike = (y.unsqueeze(-1) == y.unsqueeze(-2)).to(features.dtype)  # [1, S, S]
        shots = alike.sum(-1)  # [1, S]: of each example's class
        prototypes = alike @ features / shots.unsqueeze(-1)  # [1, S, features]: one for each example
        logits = -squared_distances(features, prototypes)  # [1, S, S]
        own = logits.diagonal(dim1=-2, dim2=-1)
        return (torch.logsumexp(logits - shots.log().unsqueeze(-2), dim=-1) - own).mean()

    def compare(self, support: Examples, query: Tensor) -> Tensor:
        return -squared_distances(query, class_means(support.x, support.y))

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        return descended(theta, self.alpha, directions)
