"""What algorithms share that compare features: one pass of the backbone over a task's images, then answers from features."""

from abc import abstractmethod

import torch
from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.episodes import Episode, Examples
from metashot.problems import Problem


class FeatureLearner(Algorithm):
    """An algorithm writes `answer`. Where an image's features depend on nothing else, evaluation embeds each image once."""

    def __init__(self, backbone: Backbone, problem: Problem, optimizer: Optimization) -> None:
        super().__init__(optimizer, backbone.transductive, problem)
        self.backbone = backbone

    @abstractmethod
    def answer(self, support: Examples, query: Tensor) -> Tensor:
        """The scores of the classes [T, Q, ways], when support examples and queries are features [T, N, features]."""

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        count = support.x.shape[1]
        features = self.embed(torch.cat([support.x, query_x], dim=1), support=count)
        return self.answer(Examples(features[:, :count], support.y), features[:, count:])

    def answers_to(self, episode: Episode) -> Tensor:
        if episode.embedded:
            return self.answer(episode.support, episode.query.x)
        return super().answers_to(episode)

    def embed(self, images: Tensor, support: int) -> Tensor:
        """Images [T, N, ...] to features [T, N, features], in as many bits as the weights have: what is made of them is
        cheap and can need them."""
        features: Tensor = self.backbone(images, support=support)
        return features.to(next(self.parameters()).dtype)
