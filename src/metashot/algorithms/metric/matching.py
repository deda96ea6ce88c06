"""Matching networks: Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016, "Matching networks for one shot learning",
arXiv:1606.04080.

A query attends to every support example with weights that are the softmax of the cosines of their features, and the
probability of a class is the total attention on its examples. With full context embeddings, a bidirectional LSTM conditions
the features of support examples on each other, and an LSTM with attention conditions the features of a query on the support
set (appendix A of the paper).

The paper applies the softmax to the cosines directly. Here they are divided by a temperature, which can be learned: cosines
lie between -1 and 1, so without a temperature no weight is more than e^2 times another. The bidirectional LSTM, for which
the paper specifies no order, reads the support set in the order of the labels and within a class in the given order: the
answers depend on the order of the examples within a class and on which class has which label, but not on the order of the
classes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import cosines
from metashot.arguments import Positive, Steps
from metashot.backbones.base import Backbone
from metashot.episodes import Examples
from metashot.problems import Problem


class Matching(FeatureLearner):
    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        temperature: Positive,
        learned_temperature: bool,
        full_context: bool,
        reading_steps: Steps,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.full_context = FullContext(backbone.features, reading_steps) if full_context else None
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learned_temperature)

    def answer(self, support: Examples, query: Tensor) -> Tensor:
        if self.full_context is not None:
            support, query = self.full_context(support, query)
        return class_log_probabilities(self.log_attention(support.x, query), support.y)

    def log_attention(self, support: Tensor, query: Tensor) -> Tensor:
        """The log attention weights [T, Q, S] of each query on each support example."""
        return (cosines(query, support) / self.log_temperature.exp()).log_softmax(-1)

    def support_attention(self, support: Examples, query: Tensor) -> Tensor:
        if self.full_context is None:
            return self.log_attention(support.x, query).exp()
        read, query = self.full_context(support, query)
        return in_given_order(self.log_attention(read.x, query).exp(), support.y)

    def adapted_features(self, support: Examples, query: Tensor) -> Tensor | None:
        if self.full_context is None:
            return None
        read, query = self.full_context(support, query)
        in_order = in_given_order(read.x.transpose(1, 2), support.y).transpose(1, 2)
        return torch.cat([in_order, query], dim=1)


def class_log_probabilities(log_attention: Tensor, y: Tensor) -> Tensor:
    """The log of the total attention on each class [T, Q, ways], from log attention weights [T, Q, S]."""
    other_class = F.one_hot(y).unsqueeze(1) == 0  # [T, 1, S, ways]
    return log_attention.unsqueeze(-1).masked_fill(other_class, -math.inf).logsumexp(2)


def in_given_order(values: Tensor, y: Tensor) -> Tensor:
    """Undo the sorting by label: reorder the values [T, N, S] of support examples as their labels `y` [T, S] were given."""
    order = y.argsort(dim=1, stable=True).unsqueeze(1).expand_as(values)
    return torch.empty_like(values).scatter(2, order, values)


class FullContext(nn.Module):
    """Full context embeddings `g` of the support set and `f` of the queries, in the notation of the paper's appendix A."""

    def __init__(self, features: int, reading_steps: int) -> None:
        super().__init__()
        self.reading_steps = reading_steps  # K
        self.of_support = nn.LSTM(features, features, batch_first=True, bidirectional=True)
        # The paper's LSTM has the concatenation [h, r] as its state. Its gates are linear in the state, so passing r with
        # the input is equivalent.
        self.of_queries = nn.LSTMCell(2 * features, features)

    def forward(self, support: Examples, query: Tensor) -> tuple[Examples, Tensor]:
        with torch.autocast(query.device.type, enabled=False):
            support = self.g(support)
            return support, self.f(query, support.x)

    def g(self, support: Examples) -> Examples:
        order = support.y.argsort(dim=1, stable=True)
        x = support.x.take_along_dim(order.unsqueeze(-1), dim=1)
        forwards, backwards = self.of_support(x)[0].chunk(2, dim=-1)  # each [T, S, features]
        return Examples(forwards + backwards + x, support.y.take_along_dim(order, dim=1))

    def f(self, query: Tensor, g: Tensor) -> Tensor:
        x = query.flatten(0, 1)  # [T * Q, features]
        h = c = torch.zeros_like(x)
        for _ in range(self.reading_steps):
            a = (h.view_as(query) @ g.transpose(1, 2)).softmax(-1)  # [T, Q, S]
            r = (a @ g).flatten(0, 1)
            h_hat, c = self.of_queries(torch.cat([x, r], dim=-1), (h, c))
            h = h_hat + x
        return h.view_as(query)
