"""Relation networks: Sung, Yang, Zhang, Xiang, Torr, Hospedales 2018, "Learning to compare: relation network for few-shot
learning", arXiv:1711.06025.

A class is represented by the sum of the feature maps of its support images. A second network, the relation module, takes the
concatenated maps of a class and a query and predicts a relation score between 0 and 1. Training regresses the score to 1 for
the class of the query and to 0 for the other classes.

The answers are the relation scores before the sigmoid, which rank the classes in the same way; with `loss: cross_entropy`
training minimises their cross-entropy, which is not in the paper. The convolutions preserve the size of a map, as those of
the relation module in the authors' code for Omniglot do. The relation module has the normalisation protocol of the backbone,
applied to pairs of a query and a class instead of images: with `normalisation: support` the statistics are those of the
pairs of support images and classes.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import memberships
from metashot.arguments import Channels, Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Problem

LEAST = 4  # the smallest height and width of a map, which the relation module halves twice
_AT_ONCE = 4000  # pairs in a batch when no gradients are needed; a task is never split


class Relation(FeatureLearner):
    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        channels: Channels,
        hidden: Units,
        loss: Literal["mse", "cross_entropy"],
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        shape = backbone.feature_shape
        if len(shape) != 3 and len(backbone.input_shape) == 1:  # no backbone would make maps of them
            raise BadInput(
                f"relation networks compare feature maps, and inputs of shape {list(backbone.input_shape)} have none: use "
                "images, or an algorithm that compares vectors, such as algo=protonet"
            )
        if len(shape) != 3 or min(shape[1:]) < LEAST:
            given = f"maps of {shape[1]}x{shape[2]}" if len(shape) == 3 else f"{shape[0]} numbers without height and width"
            what, advice = "images", "choose backbone=conv4_maps, or conv4 with backbone.halvings=2"
            if len(backbone.input_shape) != 3:
                what, advice = "inputs", "choose one with maps, such as backbone=textcnn_maps for texts"
            raise BadInput(
                f"a relation network compares feature maps of at least {LEAST}x{LEAST}, and from these {what} the backbone "
                f"makes {given}: {advice}"
            )
        self.regresses = loss == "mse"
        self.module = RelationModule(shape, channels, hidden, backbone.normalisation)

    def answer(self, support: Examples, query: Tensor) -> Tensor:
        members = memberships(support.y, support.x)  # [T, S, ways]
        with torch.autocast(query.device.type, enabled=False):
            class_sums = members.transpose(1, 2) @ support.x  # [T, ways, features]
        pairs = class_sums.shape[1] * query.shape[1]  # of a task
        tasks = len(query) if torch.is_grad_enabled() else max(_AT_ONCE // pairs, 1)
        parts = zip(*(torch.split(features, tasks) for features in (class_sums, support.x, query)), strict=True)
        return torch.cat([self.module(*part) for part in parts]).to(query.dtype)

    def training_loss(self, episode: Episode) -> TrainingStep:
        if not self.regresses:
            return super().training_loss(episode)
        answers = self.answers_to(episode)  # [T, Q, ways]
        targets = F.one_hot(episode.query.y, answers.shape[-1]).to(answers.dtype)
        return TrainingStep(F.mse_loss(answers.sigmoid(), targets), answers)


class RelationModule(nn.Module):
    """The relation scores of queries and classes, before the sigmoid."""

    def __init__(self, shape: tuple[int, ...], channels: int, hidden: int, protocol: Protocol) -> None:
        super().__init__()
        inputs, height, width = self.shape = shape
        # The normalisation would cancel a bias.
        self.first = nn.Conv2d(2 * inputs, channels, 3, padding=1, bias=False)
        self.first_normalisation = Normalisation(channels, protocol)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_normalisation = Normalisation(channels, protocol)
        self.to_hidden = nn.Linear(channels * (height // 4) * (width // 4), hidden)
        self.to_score = nn.Linear(hidden, 1)

    def forward(self, classes: Tensor, support: Tensor, queries: Tensor) -> Tensor:
        """Compare each query with each class.

        Args:
            classes: The summed maps [T, ways, features] of each class.
            support: The maps [T, S, features] of support images, which only the normalisation statistics depend on.
            queries: The maps [T, Q, features] of queries.

        Returns:
            Scores [T, Q, ways].
        """
        tasks, ways = classes.shape[:2]
        leading = support.shape[1] if self.first_normalisation.by_support else 0
        if leading:
            queries = torch.cat([support, queries], dim=1)
        # The first convolution of a pair is the sum of the convolutions of its halves, so each half is convolved only once.
        class_weight, query_weight = self.first.weight.chunk(2, dim=1)
        class_maps, query_maps = self._convolved(classes, class_weight), self._convolved(queries, query_weight)
        x = (query_maps.unsqueeze(2) + class_maps.unsqueeze(1)).flatten(0, 2)  # [T * Q * ways, channels, height, width]
        for_statistics = leading * ways
        x = F.max_pool2d(F.relu(self.first_normalisation(x, tasks, for_statistics)), 2)
        x = F.max_pool2d(F.relu(self.second_normalisation(self.second(x), tasks, for_statistics)), 2)
        scores: Tensor = self.to_score(F.relu(self.to_hidden(x.flatten(1))))
        return scores.view(tasks, -1, ways)[:, leading:]

    def _convolved(self, features: Tensor, weight: Tensor) -> Tensor:
        """Convolve maps [T, N, features] with one half of the first convolution: [T, N, channels, height, width]."""
        maps = features.reshape(-1, *self.shape)
        return F.conv2d(maps, weight, padding=1).reshape(*features.shape[:2], -1, *self.shape[1:])
