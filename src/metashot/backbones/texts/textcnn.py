"""A convolutional network on texts: Kim 2014, "Convolutional neural networks for sentence classification", arXiv:1408.5882.

Each token has a vector x_i. A filter of width h computes c_i = w . x_{i:i+h-1} at each place of a text, and the feature is the
largest of them. There are `channels` filters of each width.

Where this departs from the paper: vectors start at random, tokens are characters unless `tokens` says otherwise, and features
are normalised in batches before the ReLU, which replaces the filters' bias. With `parts` > 1 a text is divided into as many
parts of equal length, and features are means over a part instead, in a square map for networks that compare maps.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.arguments import AtLeast, AtMost, Below, Buckets, Channels, TokensOfText, Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.backbones.texts.tokens import TokenKind, hashed, ids_and_mask, wanted
from metashot.bad_input import BadInput

_INITIAL = 0.25  # vectors are drawn from [-0.25, 0.25], as those of unknown words in the paper


class TextCNN(Backbone):
    """Maps texts [T, N, 2, L] to features [T, N, widths * channels].

    Args:
        tokens: What a token is.
        buckets: The rows of the table of vectors, into which characters are hashed.
        length: The most tokens that are read of a text.
        dimensions: The length of a token's vector.
        widths: The widths of filters, in tokens.
        channels: The filters of each width.
        dropout: The share of the features that are dropped in training.
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
        widths: list[Annotated[int, AtLeast(1), AtMost(32)]],
        channels: Channels,
        dropout: Annotated[float, AtLeast(0), Below(1)],
        parts: Annotated[int, AtLeast(1), AtMost(64)],
        normalisation: Protocol,
    ) -> None:
        super().__init__(input_shape, normalisation)
        side = math.isqrt(parts)
        if side**2 != parts:
            raise BadInput(f"backbone.parts={parts} cannot be used; allowed: a square number, such as 1 or 16")
        if not widths:
            raise BadInput("backbone.widths=[] has no filter: give at least one width, such as [3,4,5]")
        self.wants = wanted(tokens, buckets, length)
        self.buckets = buckets if tokens == "characters" else None  # of characters, which have more ids
        self.parts = parts
        self.table = nn.Embedding(buckets, dimensions)
        nn.init.uniform_(self.table.weight, -_INITIAL, _INITIAL)
        self.filters = nn.ModuleList(nn.Linear(width * dimensions, channels, bias=False) for width in widths)
        self.widths = widths
        self.normalisation_of_features = Normalisation(channels * len(widths), normalisation)
        self.dropout = dropout
        self.draws = dropout > 0
        maps = channels * len(widths)
        self.feature_shape = (maps,) if parts == 1 else (maps, side, side)

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        ids, mask = ids_and_mask(images)  # [T * N, L]
        rows = ids if self.buckets is None else hashed(ids, self.buckets)
        x = self.table(rows) * mask.unsqueeze(-1)  # [T * N, L, dimensions]
        pooled = torch.cat([self._pooled(x, mask, *pair) for pair in zip(self.filters, self.widths, strict=True)], dim=-1)
        flat = pooled.flatten(0, 1)  # [T * N * parts, maps]
        features = F.relu(self.normalisation_of_features(flat, tasks, support * self.parts))
        features = F.dropout(features, self.dropout, self.training and self.dropout > 0)
        return features.view(tasks, count, self.parts, -1).transpose(2, 3).reshape(tasks, count, self.features)

    def _pooled(self, x: Tensor, mask: Tensor, filters: nn.Module, width: int) -> Tensor:
        """What filters of one width find in each part of a text: [T * N, parts, channels]."""
        windows = F.pad(x, (0, 0, 0, width - 1)).unfold(1, width, 1)  # [T * N, L, dimensions, width]
        found = filters(windows.flatten(2))  # [T * N, L, channels]
        if self.parts == 1:
            lowest = torch.finfo(found.dtype).min
            largest = found.masked_fill(~mask.unsqueeze(-1), lowest).amax(1, keepdim=True)
            return largest * mask.any(1)[:, None, None]
        sizes = mask.sum(1, keepdim=True).clamp(min=1)
        part = torch.arange(mask.shape[1], device=mask.device) * self.parts // sizes  # [T * N, L]
        members = (part.unsqueeze(1) == torch.arange(self.parts, device=mask.device)[:, None]) & mask.unsqueeze(1)
        weights = members.to(found.dtype)  # [T * N, parts, L]
        return (weights @ found) / weights.sum(2, keepdim=True).clamp(min=1)
