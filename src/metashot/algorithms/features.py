"""What algorithms share that compare features: one pass of the backbone over a task's images, then answers from features."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.episodes import Episode, Examples
from metashot.problems import Problem


class FeatureLearner(Algorithm):
    """An algorithm writes `answer`, and `summary` where it needs less of a support set, or more, than its examples. Where an
    image's features depend on nothing else, evaluation embeds each image once."""

    def __init__(self, backbone: Backbone, problem: Problem, optimizer: Optimization) -> None:
        super().__init__(optimizer, backbone.transductive, problem)
        self.backbone = backbone

    def summary(self, support: Examples) -> Any:
        """What is kept of support sets whose examples are features [T, S, features]: what `answer` gets."""
        return support

    @abstractmethod
    def answer(self, support: Any, query: Tensor) -> Tensor:
        """The answers to queries [T, Q, features], such as logits [T, Q, ways], from the summary of the support sets."""

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        count = support.x.shape[1]
        features = self.embed(torch.cat([support.x, query_x], dim=1), support=count)
        return self.answer(self.summary(Examples(features[:, :count], support.y)), features[:, count:])

    def answers_to(self, episode: Episode) -> Tensor:
        if episode.embedded:
            return self.answer(self.summary(episode.support), episode.query.x)
        return super().answers_to(episode)

    def query_features(self, episode: Episode) -> Tensor:
        """Features of the queries of an episode without a support set: [T, Q, features]."""
        x = episode.query.x
        return x if episode.embedded else self.embed(x, support=x.shape[1])

    def adapt(self, support: Examples) -> Any:
        if not self._embeds_independently:
            return support
        return self.summary(Examples(self.embed(support.x, support=support.x.shape[1]), support.y))

    def answer_queries(self, learned: Any, query_x: Tensor) -> Tensor:
        return self.answer(learned, self.embed(query_x, support=0)) if self._embeds_independently else self(learned, query_x)

    @property
    def _embeds_independently(self) -> bool:
        return self.backbone.embeds_independently and not self.training

    def features_before_and_after(self, episode: Episode) -> tuple[Tensor, Tensor | None]:
        count = episode.support.x.shape[1]
        before = self.embed(torch.cat([episode.support.x, episode.query.x], dim=1), support=count)
        return before, self.adapted_features(Examples(before[:, :count], episode.support.y), before[:, count:])

    def adapted_features(self, support: Examples, query: Tensor) -> Tensor | None:
        """What a task makes of the features of its images [T, S + Q, features], where it changes them."""
        return None

    def attention(self, episode: Episode) -> Tensor | None:
        count = episode.support.x.shape[1]
        features = self.embed(torch.cat([episode.support.x, episode.query.x], dim=1), support=count)
        return self.support_attention(Examples(features[:, :count], episode.support.y), features[:, count:])

    def support_attention(self, support: Examples, query: Tensor) -> Tensor | None:
        """The attention weights of each query on each support example [T, Q, S]; nothing where an algorithm has none."""
        return None

    def embed(self, images: Tensor, support: int) -> Tensor:
        """Images [T, N, ...] to features [T, N, features], in as many bits as the weights have: what is made of them is
        cheap and can need them."""
        features: Tensor = self.backbone(images, support=support)
        return features.to(self.dtype)
