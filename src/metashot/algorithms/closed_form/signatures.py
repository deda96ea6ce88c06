"""The learner of Bao, Wu, Chang, Barzilay 2020, "Few-shot text classification with distributional signatures",
arXiv:1908.06039: features that depend on the labels of the support set, and a ridge regression on them.

The backbone first looks at the labelled support set and then embeds support examples and queries for this task
(`backbone=signatures`). The head is the one of R2-D2 as the paper has it: W minimises |X W - Y|^2 + lambda |W|^2 over the
support set, and logits are a X W + b with learned a and lambda, as natural logarithms (of base 10 in the authors' code);
b stays 1, since a constant added to all logits changes no probability.

On a backbone that reads no labels this is the head alone. The linear system is solved in double precision as in `algo=r2d2`.
"""

import math
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from metashot.algorithms.closed_form.r2d2 import ridge_regression
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import memberships
from metashot.arguments import AtLeast, AtMost, Positive
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Problem


class Adapted(NamedTuple):
    """What is known of T tasks."""

    labels: Tensor | None  # what the backbone took from the labels
    weights: Tensor  # W [T, features, ways]


class DistributionalSignatures(FeatureLearner):
    """Ridge regression on features that read labels; `regularisation` and `scale` are the initial lambda and a."""

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        regularisation: Annotated[float, AtLeast(1e-8), AtMost(1e8)],
        scale: Positive,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.log_lambda = nn.Parameter(torch.tensor(math.log(regularisation)))
        self.log_a = nn.Parameter(torch.tensor(math.log(scale)))
        self.b = nn.Parameter(torch.ones([]), requires_grad=False)

    @property
    def embeds_independently(self) -> bool:
        return super().embeds_independently and not self.backbone.reads_labels

    def summary(self, support: Examples) -> Tensor:
        y = memberships(support.y, support.x)
        # `ridge_regression` minimises the mean over the examples, and the paper the sum.
        return ridge_regression(support.x, y, self.log_lambda.exp() / support.x.shape[1])

    def answer(self, weights: Tensor, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            return self.log_a.exp() * (query @ weights) + self.b

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        if not self.backbone.reads_labels:
            return super().forward(support, query_x)
        return self.answer_queries(self.adapt(support), query_x)

    def adapt(self, support: Examples) -> Any:
        if not self.backbone.reads_labels:
            return super().adapt(support)
        labels = self.backbone.learn_labels(support.x, memberships(support.y, self.log_a))
        features = self._embed_for(labels, support.x)
        return Adapted(labels, self.summary(Examples(features, support.y)))

    def answer_queries(self, adapted: Any, query_x: Tensor) -> Tensor:
        if not isinstance(adapted, Adapted):
            return super().answer_queries(adapted, query_x)
        return self.answer(adapted.weights, self._embed_for(adapted.labels, query_x))

    def features_before_and_after(self, episode: Episode) -> tuple[Tensor, Tensor | None]:
        before, after = super().features_before_and_after(episode)
        if self.backbone.reads_labels:
            labels = self.backbone.learn_labels(episode.support.x, memberships(episode.support.y, self.log_a))
            after = self._embed_for(labels, torch.cat([episode.support.x, episode.query.x], dim=1))
        return before, after

    def refuse_strangers(self) -> None:
        if self.backbone.reads_labels:
            raise BadInput(
                "this learner cannot tell what is unknown, since its features depend on the classes of the task: leave "
                "strangers and unknown out, or use algo=protonet"
            )
        super().refuse_strangers()

    def _embed_for(self, labels: Any, x: Tensor) -> Tensor:
        """Features [T, N, features] for tasks whose labels the backbone has read."""
        features: Tensor = self.backbone(x, support=0, labels=labels)
        return features.to(self.dtype)
