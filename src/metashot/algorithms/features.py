"""The base class of algorithms whose answers follow from features: the backbone embeds the images of a task in one pass."""

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
    """An algorithm whose answers are a function of features.

    A subclass implements `answer`, and overrides `summary` to compute something once per support set, such as prototypes.
    If the features of an image depend on nothing else, evaluation embeds each image only once.
    """

    def __init__(self, backbone: Backbone, problem: Problem, optimizer: Optimization) -> None:
        super().__init__(optimizer, backbone.transductive, problem)
        self.backbone = backbone

    def summary(self, support: Examples) -> Any:
        """Summarise support sets of features [T, S, features] for `answer`; by default nothing is summarised."""
        return support

    @abstractmethod
    def answer(self, support: Any, query: Tensor) -> Tensor:
        """Answer queries.

        Args:
            support: The result of `summary`.
            query: Query features [T, Q, features].

        Returns:
            Answers, such as logits [T, Q, ways].
        """

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

    def answer_queries(self, adapted: Any, query_x: Tensor) -> Tensor:
        return self.answer(adapted, self.embed(query_x, support=0)) if self._embeds_independently else self(adapted, query_x)

    @property
    def _embeds_independently(self) -> bool:
        return self.backbone.embeds_independently and not self.training

    def features_before_and_after(self, episode: Episode) -> tuple[Tensor, Tensor | None]:
        count = episode.support.x.shape[1]
        before = self.embed(torch.cat([episode.support.x, episode.query.x], dim=1), support=count)
        return before, self.adapted_features(Examples(before[:, :count], episode.support.y), before[:, count:])

    def adapted_features(self, support: Examples, query: Tensor) -> Tensor | None:
        """The features [T, S + Q, features] after adapting; None if adapting does not change them."""
        return None

    def attention(self, episode: Episode) -> Tensor | None:
        count = episode.support.x.shape[1]
        features = self.embed(torch.cat([episode.support.x, episode.query.x], dim=1), support=count)
        return self.support_attention(Examples(features[:, :count], episode.support.y), features[:, count:])

    def support_attention(self, support: Examples, query: Tensor) -> Tensor | None:
        """The attention weights [T, Q, S] of each query on each support example; None if the algorithm has no attention."""
        return None

    def embed(self, images: Tensor, support: int) -> Tensor:
        """Embed images.

        Args:
            images: [T, N, ...].
            support: The number of leading images in each task that belong to its support set.

        Returns:
            Features [T, N, features] in the precision of the weights: the operations that follow are cheap and may need it.
        """
        features: Tensor = self.backbone(images, support=support)
        return features.to(self.dtype)
