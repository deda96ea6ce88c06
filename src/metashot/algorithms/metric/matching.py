"""Matching networks: Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016, "Matching networks for one shot learning",
arXiv:1606.04080.

A query attends to every support example, by the softmax of the cosines of their features, and the probability of a class is
the attention that its examples get. With full context embeddings, features of the support set have read each other by a
bidirectional LSTM, and features of a query have read the support set by an LSTM with attention (appendix A of the paper).

The paper takes the softmax of the cosines as they are. Here they are divided by a temperature, which can be learned: cosines
lie between -1 and 1, so that without one no attention is more than e^2 times another. The support set of the bidirectional
LSTM, for which the paper has no order, is read in the order of its labels and within a class as it was given: the order of
the classes does not matter, but that of a class's examples does, and so does which class has which label.
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
        """Of each query to each support example: [T, Q, S]."""
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
    """The log of the sum of the attention [T, Q, S] to each class: [T, Q, ways]."""
    others = F.one_hot(y).unsqueeze(1) == 0  # [T, 1, S, ways]
    return log_attention.unsqueeze(-1).masked_fill(others, -math.inf).logsumexp(2)


def in_given_order(values: Tensor, y: Tensor) -> Tensor:
    """Values of support examples [T, N, S] that were read in the order of their labels `y` [T, S], as these were given."""
    order = y.argsort(dim=1, stable=True).unsqueeze(1).expand_as(values)
    return torch.empty_like(values).scatter(2, order, values)


class FullContext(nn.Module):
    """Full context embeddings: `g` of the support set and `f` of the queries, with the symbols of the paper's appendix A."""

    def __init__(self, features: int, reading_steps: int) -> None:
        super().__init__()
        self.reading_steps = reading_steps  # K
        self.of_support = nn.LSTM(features, features, batch_first=True, bidirectional=True)
        # The paper's LSTM has the concatenation [h, r] as its state. Its gates are linear in it, so that it is the same to
        # give it r together with its input.
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
