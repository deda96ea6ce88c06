"""FEAT: Ye, Hu, Zhan, Sha 2020, "Few-shot learning via embedding adaptation with set-to-set functions", arXiv:1812.03664.

The class means of a support set are adapted to each other by a Transformer, as in the authors' code (Sha-Lab/FEAT,
`model/models/feat.py`): one layer of self-attention with one head, a linear layer, dropout, the sum with what it was given,
and layer normalisation. The logits of a query are its negative squared distances to them, divided by a temperature.

In training a contrastive loss is added, weighted by `balance`: the same Transformer adapts the examples of each class, of
support set and queries, to each other, and each example is classified by its squared distances to the means of these.

The paper starts from a backbone that was trained to classify all training classes, which is `algo=baseline`, given with
`init_from`. Where this departs from the authors' code: the Transformer has the learning rate of the backbone instead of ten
times as much. The defaults are for short runs: a larger learning rate, which decays along a cosine, half as many tasks, and
three training queries a class instead of fifteen.
"""

from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import class_means, squared_distances
from metashot.arguments import AtLeast, Below, NotNegative, Positive
from metashot.backbones.base import Backbone
from metashot.episodes import Episode, Examples
from metashot.problems import Problem


class Parts(NamedTuple):
    """The features of an episode."""

    support: Examples
    query: Tensor  # [T, Q, features]


class FEAT(FeatureLearner):
    """FEAT.

    Args:
        temperature: What the squared distances to adapted class means are divided by.
        contrastive_temperature: The same for the contrastive loss.
        balance: The weight of the contrastive loss.
        attention_dropout: The share of attention weights that training leaves out.
        dropout: The share of what is added to features that training leaves out.
    """

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        temperature: Positive,
        contrastive_temperature: Positive,
        balance: NotNegative,
        attention_dropout: Annotated[float, AtLeast(0), Below(1)],
        dropout: Annotated[float, AtLeast(0), Below(1)],
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.temperature = temperature
        self.contrastive_temperature = contrastive_temperature
        self.balance = balance
        self.transformer = SetTransformer(backbone.features, attention_dropout, dropout)

    def summary(self, support: Examples) -> Tensor:
        means: Tensor = self.transformer(class_means(support.x, support.y))
        return means  # [T, ways, features]

    def answer(self, means: Tensor, query: Tensor) -> Tensor:
        return -squared_distances(query, means) / self.temperature

    def training_loss(self, episode: Episode) -> TrainingStep:
        support, query = self._features(episode)
        answers = self.answer(self.summary(support), query)
        loss = self.problem.loss(answers, episode.query.y)
        if self.balance:
            x, y = torch.cat([support.x, query], dim=1), torch.cat([support.y, episode.query.y], dim=1)
            loss = loss + self.balance * self.problem.loss(self.contrast(x, y), y)
        return TrainingStep(loss, answers)

    def contrast(self, x: Tensor, y: Tensor) -> Tensor:
        """The logits [T, N, ways] of features x [T, N, features] against the means of their adapted selves."""
        adapted = self.transformer(x, y.unsqueeze(2) == y.unsqueeze(1))
        return -squared_distances(x, class_means(adapted, y)) / self.contrastive_temperature

    def _features(self, episode: Episode) -> Parts:
        support, query = episode.support, episode.query
        if episode.embedded:
            return Parts(support, query.x)
        count = support.x.shape[1]
        features = self.embed(torch.cat([support.x, query.x], dim=1), support=count)
        return Parts(Examples(features[:, :count], support.y), features[:, count:])


class SetTransformer(nn.Module):
    """Adapts the members of a set to each other, by a layer of self-attention, whatever their order."""

    def __init__(self, features: int, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.queries, self.keys, self.values = (nn.Linear(features, features, bias=False) for _ in range(3))
        for layer in (self.queries, self.keys, self.values):
            nn.init.normal_(layer.weight, std=features**-0.5)
        self.output = nn.Linear(features, features)
        nn.init.xavier_normal_(self.output.weight)
        self.normalisation = nn.LayerNorm(features)
        self.attention_dropout = nn.Dropout(attention_dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, together: Tensor | None = None) -> Tensor:
        """Adapt sets.

        Args:
            x: [T, N, features].
            together: Which members of a set attend to which, [T, N, N]; None for all to all.

        Returns:
            The adapted members [T, N, features].
        """
        scores = self.queries(x) @ self.keys(x).mT / x.shape[2] ** 0.5  # [T, N, N]
        if together is not None:
            scores = scores.masked_fill(~together, -torch.inf)
        weights = self.attention_dropout(scores.softmax(-1))
        adapted: Tensor = self.normalisation(x + self.dropout(self.output(weights @ self.values(x))))
        return adapted
