"""Siamese networks: Koch, Zemel, Salakhutdinov 2015, "Siamese neural networks for one-shot image recognition", ICML deep
learning workshop.

The same network looks at both images of a pair, and the probability that they are of one class is
p = sigmoid(bias + sum_j alpha_j |h1_j - h2_j|), with learned alpha and bias. Training verifies: it minimises the binary
cross-entropy of p over pairs, half of which are of one class. A query gets the class of the support example with which it is
most probably of one class.

Two other losses of pairs can be chosen. `contrastive` (Hadsell, Chopra, LeCun 2006, "Dimensionality reduction by learning an
invariant mapping") draws images of one class together and pushes others `margin` apart in Euclidean distance; `triplet`
(Schroff, Kalenichenko, Philbin 2015, "FaceNet", arXiv:1503.03832) wants each image nearer to those of its class than to any
other, by `margin` in squared distance between features of length 1. With them, similar is what is near.

Where this departs from the papers:
- Pairs are those of an episode's images, support and query together, instead of any of the data set. All are used, and those
  of one class weigh as much as those of two: the expectation of the loss of pairs that are drawn at random, half of each.
- All triplets of an episode are used, where FaceNet looks for semi-hard negatives.
- The logit of p begins as minus the mean of |h1_j - h2_j|, so that what is near is similar from the start; the paper draws
  alpha and bias at random.
- Several `neighbours` can vote: a class scores the mean similarity of its nearest ones.
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
        """What is compared of each image: [T, N, features], in full precision."""
        if self.hidden is not None:
            with torch.autocast(features.device.type, enabled=False):
                features = self.hidden(features).sigmoid()
        return F.normalize(features, dim=-1) if self.loss == "triplet" else features

    def similarities(self, a: Tensor, b: Tensor) -> Tensor:
        """Of each row of `a` [T, N, features] and of `b` [T, M, features]: the logit of p, or minus the squared distance."""
        if self.loss == "verification":
            return self.bias + weighted_absolute_differences(a, b, self.alpha)
        return -squared_distances(a, b)


def nearest(similarities: Tensor, y: Tensor, neighbours: int) -> Tensor:
    """The mean of the largest similarities [T, Q, S] to each class, of all its examples if there are fewer: [T, Q, ways]."""
    members = F.one_hot(y).transpose(1, 2).bool()  # [T, ways, S]
    of_class = similarities.unsqueeze(2).masked_fill(~members.unsqueeze(1), -math.inf)  # [T, Q, ways, S]
    largest, found = largest_of(of_class, members.sum(-1).unsqueeze(1), min(neighbours, y.shape[1]))
    return largest.masked_fill(~found, 0).sum(-1) / found.sum(-1)


def largest_of(values: Tensor, counts: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The largest values [..., most] of rows with so many that count, the others being -inf; and which of them there are."""
    return values.topk(most).values, torch.arange(most, device=values.device) < counts.unsqueeze(-1)


def of_one_class(y: Tensor) -> Tensor:
    """Whether two different images are of one class: [T, N, N]."""
    itself = torch.eye(y.shape[1], dtype=torch.bool, device=y.device)
    return (y.unsqueeze(2) == y.unsqueeze(1)) & ~itself


def of_two_classes(y: Tensor) -> Tensor:
    """Whether two images are of different classes: [T, N, N]."""
    return y.unsqueeze(2) != y.unsqueeze(1)


def mean_where(wanted: Tensor, values: Tensor) -> Tensor:
    """Of each task's values [T, ...], and zero of none: [T]."""
    total = values.masked_fill(~wanted, 0).flatten(1).sum(1)
    return total / wanted.flatten(1).sum(1).clamp(min=1)


def half_of_each(losses_if_one: Tensor, losses_if_two: Tensor, y: Tensor) -> Tensor:
    """The mean loss of pairs [T, N, N] of one class and that of pairs of two classes, weighed equally.

    A pair stands there twice, as (i, j) and (j, i), with the same losses.
    """
    return (mean_where(of_one_class(y), losses_if_one) / 2 + mean_where(of_two_classes(y), losses_if_two) / 2).mean()


def verification_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy: -log p of pairs of one class and -log(1 - p) of pairs of two."""
    return half_of_each(F.softplus(-logits), F.softplus(logits), y)


def contrastive_loss(squares: Tensor, y: Tensor, margin: float) -> Tensor:
    """The squared distance of pairs of one class, and of pairs of two the square of what is missing to the margin."""
    # The square root has no gradient at zero.
    distances = squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()
    return half_of_each(squares, (margin - distances).relu().square(), y)


def triplet_loss(squares: Tensor, y: Tensor, margin: float) -> Tensor:
    """The mean over all triplets of an anchor, a positive of its class and a negative of another."""
    same = of_one_class(y)
    positives = same.sum(-1)  # [T, N]: of each anchor
    to_same = squares.masked_fill(~same, -math.inf)
    to_positives, found = largest_of(to_same, positives, int(positives.max()))  # [T, N, most]
    missing = (to_positives.unsqueeze(-1) - squares.unsqueeze(2) + margin).relu()  # [T, N, most, N]
    return mean_where(found.unsqueeze(-1) & of_two_classes(y).unsqueeze(2), missing).mean()
