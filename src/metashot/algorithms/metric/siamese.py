"""Siamese networks: Koch, Zemel, Salakhutdinov 2015, "Siamese neural networks for one-shot image recognition", ICML deep
learning workshop.

The same network embeds both images of a pair, and the probability that they have the same class is
p = sigmoid(bias + sum_j alpha_j |h1_j - h2_j|), with learned alpha and bias. Training is verification: it minimises the
binary cross-entropy of p over pairs, half of which have the same class. A query gets the class of the support example for
which p is largest.

Two other pair losses can be chosen. `contrastive` (Hadsell, Chopra, LeCun 2006, "Dimensionality reduction by learning an
invariant mapping") pulls images of the same class together and pushes images of different classes `margin` apart in
Euclidean distance; `triplet` (Schroff, Kalenichenko, Philbin 2015, "FaceNet", arXiv:1503.03832) requires each image to be
closer to those of its class than to all others, by `margin` in squared distance between features of length 1. With both
losses, similarity is the negative squared distance.

Where this departs from the papers:
- Pairs are formed within an episode, of support and query images together, instead of across the data set. All pairs are
  used, and pairs of the same class have the same total weight as pairs of different classes, which is the expected loss of
  pairs drawn at random, half of each kind.
- All triplets of an episode are used, while FaceNet mines semi-hard negatives.
- The logit of p is initialised to minus the mean of |h1_j - h2_j|, so that similarity decreases with distance from the
  start; the paper initialises alpha and bias at random.
- Several `neighbours` can vote: the logit of a class is the mean similarity to its nearest support examples.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import squared_distances, weighted_absolute_differences
from metashot.arguments import Count, Positive, Units
from metashot.backbones.base import Backbone
from metashot.episodes import Episode, Examples
from metashot.problems import Problem


class Siamese(FeatureLearner):
    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        loss: Literal["verification", "contrastive", "triplet"],
        margin: Positive,
        hidden: Units | None,
        neighbours: Count,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.loss = loss
        self.margin = margin
        self.neighbours = neighbours
        self.hidden = nn.Linear(backbone.features, hidden) if hidden is not None else None
        if loss == "verification":
            features = hidden or backbone.features
            self.alpha = nn.Parameter(torch.full([features], -1 / features))
            self.bias = nn.Parameter(torch.zeros([]))

    def answer(self, support: Examples, query: Tensor) -> Tensor:
        return nearest(self.similarities(self.h(query), self.h(support.x)), support.y, self.neighbours)

    def training_loss(self, episode: Episode) -> TrainingStep:
        support, query = episode.support, episode.query
        count = support.x.shape[1]
        images = torch.cat([support.x, query.x], dim=1)
        h = self.h(images if episode.embedded else self.embed(images, support=count))
        similarities = self.similarities(h, h)  # [T, N, N]
        y = torch.cat([support.y, query.y], dim=1)
        if self.loss == "verification":
            loss = verification_loss(similarities, y)
        elif self.loss == "contrastive":
            loss = contrastive_loss(-similarities, y, self.margin)
        else:
            loss = triplet_loss(-similarities, y, self.margin)
        return TrainingStep(loss, nearest(similarities[:, count:, :count].detach(), support.y, self.neighbours))

    def h(self, features: Tensor) -> Tensor:
        """The embeddings to compare, [T, N, features] in full precision."""
        if self.hidden is not None:
            with torch.autocast(features.device.type, enabled=False):
                features = self.hidden(features).sigmoid()
        return F.normalize(features, dim=-1) if self.loss == "triplet" else features

    def similarities(self, a: Tensor, b: Tensor) -> Tensor:
        """Logits of p or negative squared distances between rows of `a` [T, N, features] and of `b` [T, M, features]."""
        if self.loss == "verification":
            return self.bias + weighted_absolute_differences(a, b, self.alpha)
        return -squared_distances(a, b)


def nearest(similarities: Tensor, y: Tensor, neighbours: int) -> Tensor:
    """The mean similarity to the nearest support examples of each class.

    Args:
        similarities: [T, Q, S].
        y: The labels [T, S] of the support examples.
        neighbours: The number of nearest examples; all examples of classes that have fewer.

    Returns:
        [T, Q, ways].
    """
    members = F.one_hot(y).transpose(1, 2).bool()  # [T, ways, S]
    by_class = similarities.unsqueeze(2).masked_fill(~members.unsqueeze(1), -math.inf)  # [T, Q, ways, S]
    largest, valid = largest_values(by_class, members.sum(-1).unsqueeze(1), min(neighbours, y.shape[1]))
    return largest.masked_fill(~valid, 0).sum(-1) / valid.sum(-1)


def largest_values(values: Tensor, counts: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest values of each row, some of which are invalid.

    Args:
        values: Rows [..., N], with -inf for invalid values.
        counts: The number [...] of valid values in each row.
        k: The number of values to return.

    Returns:
        The values [..., k] in descending order, and whether each of them is valid.
    """
    return values.topk(k).values, torch.arange(k, device=values.device) < counts.unsqueeze(-1)


def same_class(y: Tensor) -> Tensor:
    """Whether two different images have the same class: [T, N, N]."""
    itself = torch.eye(y.shape[1], dtype=torch.bool, device=y.device)
    return (y.unsqueeze(2) == y.unsqueeze(1)) & ~itself


def different_classes(y: Tensor) -> Tensor:
    """Whether two images have different classes: [T, N, N]."""
    return y.unsqueeze(2) != y.unsqueeze(1)


def masked_mean(mask: Tensor, values: Tensor) -> Tensor:
    """The mean of each task's values [T, ...] where the mask is true, zero where it never is: [T]."""
    total = values.masked_fill(~mask, 0).flatten(1).sum(1)
    return total / mask.flatten(1).sum(1).clamp(min=1)


def balanced_mean(losses_if_same: Tensor, losses_if_different: Tensor, y: Tensor) -> Tensor:
    """The mean loss of pairs [T, N, N], with the same total weight for pairs of the same and of different classes.

    Each pair occurs twice, as (i, j) and (j, i), with the same loss.
    """
    same, different = masked_mean(same_class(y), losses_if_same), masked_mean(different_classes(y), losses_if_different)
    return (same / 2 + different / 2).mean()


def verification_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy: -log p for pairs of the same class, -log(1 - p) for pairs of different classes."""
    return balanced_mean(F.softplus(-logits), F.softplus(logits), y)


def contrastive_loss(squares: Tensor, y: Tensor, margin: float) -> Tensor:
    """The squared distance for pairs of the same class, max(0, margin - distance)^2 for pairs of different classes."""
    # The square root has no derivative at zero.
    distances = squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()
    return balanced_mean(squares, (margin - distances).relu().square(), y)


def triplet_loss(squares: Tensor, y: Tensor, margin: float) -> Tensor:
    """The mean over all triplets of an anchor, a positive of its class and a negative of another."""
    same = same_class(y)
    positives = same.sum(-1)  # [T, N], the number for each anchor
    to_same = squares.masked_fill(~same, -math.inf)
    to_positives, valid = largest_values(to_same, positives, int(positives.max()))  # [T, N, k]
    losses = (to_positives.unsqueeze(-1) - squares.unsqueeze(2) + margin).relu()  # [T, N, k, N]
    return masked_mean(valid.unsqueeze(-1) & different_classes(y).unsqueeze(2), losses).mean()
