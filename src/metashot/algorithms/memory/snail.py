"""SNAIL: Mishra, Rohaninejad, Chen, Abbeel 2018, "A simple neural attentive meta-learner", arXiv:1707.03141.

A task is a sequence: the support examples with their labels, followed by an unlabelled query. Blocks of causal temporal
convolutions, which aggregate recent positions, alternate with causal attention, which retrieves from any earlier position;
each block concatenates its output to its input. The logits are computed at the last position.

All queries of a task share their support examples, and no position depends on later ones: the support set is processed once
and every query attends to it, which is equivalent to a sequence for each query. The paper shuffles the support examples;
here they are ordered by label, so that the order of the given examples' classes does not change the answers. The paper's
listing of the temporal convolutions starts with dilation 2, so that none sees the position just before; here they start
with 1.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.arguments import AtLeast, AtMost, Channels, Units
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.problems import Problem


class Snail(FeatureLearner):
    """Attention blocks with temporal convolutions between them.

    Args:
        backbone: Embeds the images.
        problem: The classification problem, which fixes the number of classes.
        embedding: The size to which features are projected.
        keys: The key size of each attention block.
        values: The value size of each attention block.
        filters: The number of filters in each temporal convolution.
        reach: The number of positions that the temporal convolutions between two attention blocks cover, a power of two.
        optimizer: The outer optimiser and its schedule.

    Raises:
        BadInput: `reach` is not a power of two, or `keys` and `values` differ in length.
    """

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        embedding: Units,
        keys: list[Units],
        values: list[Units],
        filters: Channels,
        reach: Annotated[int, AtLeast(2), AtMost(2**16)],
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        if reach < 2 or reach.bit_count() != 1:
            raise BadInput(f"algo.reach={reach} cannot be used; allowed: a power of two from 2 on, such as 8 or 32")
        if len(keys) != len(values) or not keys:
            raise BadInput(
                f"algo.keys={keys} and algo.values={values} cannot be used together; allowed: two lists with one number for "
                "each attention block"
            )
        self.fixed_ways = problem.outputs
        self.embedding = nn.Linear(backbone.features, embedding)
        self.blocks = nn.ModuleList()
        channels = embedding + problem.outputs
        for block, (key_size, value_size) in enumerate(zip(keys, values, strict=True)):
            for power in range(reach.bit_length() - 1 if block > 0 else 0):
                self.blocks.append(DenseBlock(channels, 2**power, filters))
                channels += filters
            self.blocks.append(AttentionBlock(channels, key_size, value_size))
            channels += value_size
        self.scores = nn.Linear(channels, problem.outputs)

    def answer(self, support: Examples, query: Tensor) -> Tensor:
        x, _ = self.sequence(support, query)
        count = support.x.shape[1]
        for block in self.blocks:
            x = block(x, count)
        with torch.autocast(x.device.type, enabled=False):  # lower precision would make close logits equal
            logits: Tensor = self.scores(x[:, count:])
        return logits

    def support_attention(self, support: Examples, query: Tensor) -> Tensor:
        """The attention weights [T, Q, S], averaged over the attention blocks."""
        x, order = self.sequence(support, query)
        count = support.x.shape[1]
        weights = []
        for block in self.blocks:
            if isinstance(block, AttentionBlock):
                weights.append(block.weights(x, count)[:, count:, :count])
            x = block(x, count)
        mean = torch.stack(weights).mean(0)
        return torch.empty_like(mean).scatter(2, order.unsqueeze(1).expand_as(mean), mean)

    def sequence(self, support: Examples, query: Tensor) -> tuple[Tensor, Tensor]:
        """The input sequence.

        Returns:
            The embedded support examples, ordered by label, and queries, each with its one-hot label or zeros
            [T, S + Q, channels]; the order [T, S] of the support examples.
        """
        y, order = support.y.sort(dim=1, stable=True)
        support_x = support.x.gather(1, order.unsqueeze(-1).expand_as(support.x))  # [T, S, features]
        labels = F.one_hot(y, self.problem.outputs).to(query.dtype)  # [T, S, ways]
        labels = F.pad(labels, (0, 0, 0, query.shape[1]))  # [T, S + Q, ways]: zeros for queries
        return torch.cat([self.embedding(torch.cat([support_x, query], dim=1)), labels], dim=-1), order


# Blocks take [T, S + Q, channels]: a sequence of S support examples, and Q queries each of which directly follows the last.


class DenseBlock(nn.Module):
    """Two causal convolutions of kernel size 2, tanh(a) * sigmoid(b), concatenated to their input."""

    def __init__(self, channels: int, dilation: int, filters: int) -> None:
        super().__init__()
        self.dilation = dilation
        # Inputs: the position `dilation` earlier, then the position itself. Outputs: the filters of tanh, then of sigmoid.
        self.convolutions = nn.Linear(2 * channels, 2 * filters)

    def forward(self, x: Tensor, support: int) -> Tensor:
        earlier, current = self.convolutions.weight.chunk(2, dim=1)  # [2 filters, channels]
        zeros = min(self.dilation, support + 1)
        lagged = F.pad(x[:, : support + 1 - zeros], (0, 0, zeros, 0))  # [T, S + 1, channels]: queries share the last one
        from_earlier = F.linear(lagged, earlier)
        from_earlier = torch.cat(
            [from_earlier[:, :support], from_earlier[:, support:].expand(-1, x.shape[1] - support, -1)], dim=1
        )  # [T, S + Q, 2 filters]
        a, b = (F.linear(x, current, self.convolutions.bias) + from_earlier).chunk(2, dim=-1)
        return torch.cat([x, a.tanh() * b.sigmoid()], dim=-1)


class AttentionBlock(nn.Module):
    """Each position attends to the support examples before it and to itself; the result is concatenated to its input."""

    def __init__(self, channels: int, key_size: int, value_size: int) -> None:
        super().__init__()
        self.queries = nn.Linear(channels, key_size)
        self.keys = nn.Linear(channels, key_size, bias=False)  # softmax would cancel a bias
        self.values = nn.Linear(channels, value_size)

    def forward(self, x: Tensor, support: int) -> Tensor:
        weights, values = self.weights(x, support), self.values(x)
        read = weights[..., :support] @ values[:, :support] + weights[..., support:] * values
        return torch.cat([x, read], dim=-1)

    def weights(self, x: Tensor, support: int) -> Tensor:
        """The attention weights [T, S + Q, S + 1] of each position on the support examples and, last, on itself."""
        queries, keys = self.queries(x), self.keys(x)  # [T, S + Q, key size]
        earlier = torch.ones(x.shape[1], support, dtype=torch.bool, device=x.device).tril(-1)  # [S + Q, S]
        to_earlier = (queries @ keys[:, :support].transpose(1, 2)).masked_fill(~earlier, -torch.inf)  # [T, S + Q, S]
        to_itself = (queries * keys).sum(-1, keepdim=True)  # [T, S + Q, 1]
        weights: Tensor = (torch.cat([to_earlier, to_itself], dim=-1) / keys.shape[-1] ** 0.5).softmax(-1)
        return weights
