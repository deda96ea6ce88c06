"""A small transformer encoder on texts: Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762.

A block adds to the vectors of tokens what attention finds among all tokens of the text, and then what a two-layer network
makes of each of them. Features are the mean over the tokens, which is useful from the first step on, where a [CLS] token
would have to learn first what to look at.

Where this departs from the paper: layers are normalised before each half of a block and not after it (Xiong et al. 2020,
arXiv:2002.04745), which trains without warm-up; positions turn queries and keys (RoFormer: Su et al. 2021,
arXiv:2104.09864), so that no place of a text has weights of its own, which short texts would never train; the activation is
GELU. The features are normalised in batches, since layers normalise each token alone.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.arguments import AtLeast, AtMost, Below, Buckets, TokensOfText, Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.backbones.texts.pooling import Parts, means, shape_of_parts
from metashot.backbones.texts.tokens import TokenKind, hashed, ids_and_mask, wanted
from metashot.bad_input import BadInput

_LONGEST_TURN = 10_000.0  # tokens, as in both papers
_EPSILON = 1e-5  # added to variances
_INITIAL = 0.02  # standard deviation of the vectors of tokens
Share = Annotated[float, AtLeast(0), Below(1)]


class Transformer(Backbone):
    """Maps texts [T, N, 2, L] to features [T, N, dimensions].

    Args:
        tokens: What a token is.
        buckets: The rows of the table of vectors, into which characters are hashed.
        length: The most tokens that are read of a text.
        dimensions: The length of a token's vector.
        heads: The heads of each block's attention.
        layers: The blocks.
        hidden: The units of a block's two-layer network.
        dropout: The share of what each half of a block adds that is dropped in training.
        parts: The parts of a text that have features of their own: 1, or a square number for a map.
    """

    of_texts = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        tokens: TokenKind,
        buckets: Buckets,
        length: TokensOfText,
        dimensions: Units,
        heads: Annotated[int, AtLeast(1), AtMost(128)],
        layers: Annotated[int, AtLeast(1), AtMost(48)],
        hidden: Units,
        dropout: Share,
        parts: Parts,
        normalisation: Protocol,
    ) -> None:
        super().__init__(input_shape, normalisation)
        if dimensions % (2 * heads):
            raise BadInput(
                f"backbone.dimensions={dimensions} cannot be divided into backbone.heads={heads} of an even number: give a "
                f"multiple of {2 * heads}"
            )
        self.wants = wanted(tokens, buckets, length)
        self.buckets = buckets if tokens == "characters" else None  # of characters, which have more ids
        self.parts = parts
        self.table = nn.Embedding(buckets, dimensions)
        nn.init.normal_(self.table.weight, std=_INITIAL)
        self.blocks = nn.ModuleList(Block(dimensions, heads, hidden, layers, dropout) for _ in range(layers))
        self.last = LayerNormalisation(dimensions)
        self.normalisation_of_features = Normalisation(dimensions, normalisation)
        self.draws = dropout > 0
        self.feature_shape = shape_of_parts(parts, dimensions)

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        ids, mask = ids_and_mask(images)  # [T * N, L]
        rows = ids if self.buckets is None else hashed(ids, self.buckets)
        x = self.table(rows)  # [T * N, L, dimensions]
        for block in self.blocks:
            x = block(x, mask)
        pooled = means(self.last(x), mask, self.parts).flatten(0, 1)  # [T * N * parts, dimensions]
        features: Tensor = self.normalisation_of_features(pooled, tasks, support * self.parts)
        return features.view(tasks, count, self.parts, -1).transpose(2, 3).reshape(tasks, count, self.features)


class Block(nn.Module):
    """Attention over the tokens of each text, and a two-layer network on each token."""

    def __init__(self, dimensions: int, heads: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before_attention, self.before_network = LayerNormalisation(dimensions), LayerNormalisation(dimensions)
        self.to_all = nn.Linear(dimensions, 3 * dimensions)
        self.from_heads = nn.Linear(dimensions, dimensions)
        self.to_hidden, self.from_hidden = nn.Linear(dimensions, hidden), nn.Linear(hidden, dimensions)
        for linear in (self.to_all, self.from_heads, self.to_hidden, self.from_hidden):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        with torch.no_grad():  # so that the sum over all blocks is no larger with more of them (GPT-2)
            for linear in (self.from_heads, self.from_hidden):
                linear.weight.div_(math.sqrt(2 * layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens [N, L, dimensions] to tokens [N, L, dimensions]; only those in the mask [N, L] are looked at."""
        x = x + self._dropped(self.from_heads(self._attended(self.before_attention(x), mask)))
        return x + self._dropped(self.from_hidden(F.gelu(self.to_hidden(self.before_network(x)))))

    def _attended(self, x: Tensor, mask: Tensor) -> Tensor:
        count, length, dimensions = x.shape
        parts = self.to_all(x).view(count, length, 3, self.heads, dimensions // self.heads)
        query, key, value = (part.transpose(1, 2) for part in parts.unbind(2))  # [N, heads, L, dimensions / heads]
        query, key = turned(query), turned(key)
        # torch's own attention has no second derivative on a CPU, which gradient-based learners need.
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])  # [N, heads, L, L]
        # A finite number: in a text without tokens all are masked, and their softmax is not to be 0 / 0.
        scores = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min)
        found: Tensor = scores.softmax(3) @ value
        return found.transpose(1, 2).reshape(count, length, dimensions)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training and self.dropout > 0)


class LayerNormalisation(nn.Module):
    """What `nn.LayerNorm` computes, by formulas that `torch.func` differentiates twice: with vmap its own are wrong."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dimensions))
        self.bias = nn.Parameter(torch.zeros(dimensions))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            variance, mean = torch.var_mean(x.to(self.weight.dtype), dim=-1, correction=0, keepdim=True)
            return (x - mean) * (torch.rsqrt(variance + _EPSILON) * self.weight) + self.bias


def turned(x: Tensor) -> Tensor:
    """Turn pairs of numbers by angles that grow with the position, so that products depend on distances alone.

    Args:
        x: [N, heads, L, numbers]
    """
    length, numbers = x.shape[2:]
    precision = torch.promote_types(x.dtype, torch.float32)
    speeds = _LONGEST_TURN ** (-torch.arange(0, numbers, 2, device=x.device, dtype=precision) / numbers)
    angles = torch.arange(length, device=x.device).unsqueeze(1) * speeds  # [L, numbers / 2]
    cosines, sines = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=3)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=3)
