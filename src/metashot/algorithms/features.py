"""The base class of algorithms whose answers follow from features: the backbone embeds the images of a task in one pass."""

import math
from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metashot.algorithms.base import Algorithm, Familiar
from metashot.algorithms.familiarity import Familiarity
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Problem

_CLASSES, _MOST_ITEMS, _FEWEST_ITEMS = 64, 40, 4  # of a split, from which it learns what looks familiar
_MOST_NUMBERS, _MOST_OF_FROZEN = 2**22, 2**26  # numbers in all these items, unless there are the fewest
_NUMBERS_AT_ONCE = 2**20


class FeatureLearner(Algorithm):
    """An algorithm whose answers are a function of features.

    A subclass implements `answer`, and overrides `summary` to compute something once per support set, such as prototypes.
    If the features of an image depend on nothing else, evaluation embeds each image only once.
    """

    reads_names: ClassVar[bool] = False  # whether its answers depend on what classes are called
    made: int = 0  # examples of each class that it makes of a support set
    answers_in_a_graph: ClassVar[bool] = True  # whether an ONNX graph can answer any number of queries

    def __init__(self, backbone: Backbone, problem: Problem, optimizer: Optimization) -> None:
        super().__init__(optimizer, backbone.transductive, problem)
        self.backbone = backbone
        self.familiarity = Familiarity(backbone.features)

    @property
    def embeds_independently(self) -> bool:
        """Whether, after training, the features of an image depend on no other image."""
        return self.backbone.embeds_independently

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
        return self.answer(self.summary(replace(support, x=features[:, :count])), features[:, count:])

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
        return self.summary(replace(support, x=self.embed(support.x, support=support.x.shape[1])))

    def answer_queries(self, adapted: Any, query_x: Tensor) -> Tensor:
        return self.answer(adapted, self.embed(query_x, support=0)) if self._embeds_independently else self(adapted, query_x)

    @property
    def _embeds_independently(self) -> bool:
        return self.embeds_independently and not self.training

    def on_validation_start(self) -> None:
        """Learn what looks familiar from the training and validation classes, as the backbone is now."""
        super().on_validation_start()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        is_known = self.familiarity.has_learned and self.backbone.frozen
        if is_known or not self.embeds_independently or not hasattr(data, "spread_places"):
            return
        self.familiarity.learn(*(self._spread_features(data, split) for split in ("train", "val")))

    @torch.no_grad()
    def _spread_features(self, data: Any, split: str) -> Tensor:
        """Features [classes, items, features] of classes and items that are spread over a split."""
        numbers, kept = math.prod(data.input_shape), data.features.get(split)
        most = _MOST_NUMBERS
        if self.backbone.frozen:  # which embeds them only once
            most = _MOST_OF_FROZEN if split == "train" else _CLASSES * _MOST_ITEMS * numbers
        items = min(_MOST_ITEMS, max(_FEWEST_ITEMS, most // (_CLASSES * numbers)))
        places = data.spread_places(split, _CLASSES, items)
        if kept is not None and kept.is_whole:
            found: Tensor = kept.gather(places, self.device).to(self.dtype)
            return found
        parts = [
            self.embed(self._in_own_precision(data.inputs_at(split, part, self.device))[None], support=0)[0]
            for part in np.array_split(places.reshape(-1), math.ceil(places.size * numbers / _NUMBERS_AT_ONCE))
        ]
        return torch.cat(parts).view(*places.shape, -1)

    def _in_own_precision(self, x: Tensor) -> Tensor:
        """Inputs in the precision of the weights; integers, which are places in a table, stay as they are."""
        return x.to(self.dtype) if x.is_floating_point() else x

    def refuse_strangers(self) -> None:
        if not self.familiarity.has_learned:
            raise BadInput(
                "this learner cannot tell what is unknown: its checkpoint does not say what looks familiar, since an older "
                "version of metashot wrote it, or its features depend on the other queries; train it again, with "
                "backbone.normalisation=running"
            )

    def judge(self, support: Examples, query: Tensor, rate: float, together: bool) -> tuple[Tensor, Tensor]:
        """How familiar queries look, and the familiarity below which they are unknown.

        Args:
            support: Support features [T, S, features] with their labels.
            query: Query features [T, Q, features].
            rate: The share of the queries of known classes that may be called unknown.
            together: Whether queries are judged together.

        Returns:
            [T, Q] and [T].
        """
        return self.familiarity(support, query, together), self.familiarity.threshold(support, rate, together)

    def familiarity_in(self, episode: Episode, rate: float) -> tuple[Familiar, Familiar]:
        assert episode.strangers is not None
        support, query, strangers = episode.support.x, episode.query.x, episode.strangers
        if not episode.embedded:
            features = self.embed(torch.cat([support, query, strangers], dim=1), support=support.shape[1])
            sizes = [part.shape[1] for part in (support, query, strangers)]
            support, query, strangers = torch.split(features, sizes, dim=1)
        shown, asked = Examples(support, episode.support.y), torch.cat([query, strangers], dim=1)
        count = query.shape[1]
        found = []
        for together in (False, True):
            familiar, threshold = self.judge(shown, asked, rate, together)
            found.append(Familiar(familiar[:, :count], familiar[:, count:], threshold))
        return found[0], found[1]

    def features_before_and_after(self, episode: Episode) -> tuple[Tensor, Tensor | None]:
        count = episode.support.x.shape[1]
        before = self.embed(torch.cat([episode.support.x, episode.query.x], dim=1), support=count)
        return before, self.adapted_features(replace(episode.support, x=before[:, :count]), before[:, count:])

    def adapted_features(self, support: Examples, query: Tensor) -> Tensor | None:
        """The features [T, S + Q, features] after adapting; None if adapting does not change them."""
        return None

    def attention(self, episode: Episode) -> Tensor | None:
        count = episode.support.x.shape[1]
        features = self.embed(torch.cat([episode.support.x, episode.query.x], dim=1), support=count)
        return self.support_attention(replace(episode.support, x=features[:, :count]), features[:, count:])

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
