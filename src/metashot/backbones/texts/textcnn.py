"""A convolutional network on texts: Kim 2014, "Convolutional neural networks for sentence classification", arXiv:1408.5882.

Each token has a vector x_i. A filter of width h computes c_i = w . x_{i:i+h-1} at each place of a text, and the feature is
the largest of them. There are `channels` filters of each width.

Where this departs from the paper: vectors start at random, tokens are characters unless `tokens` says otherwise, and
features are normalised in batches before the ReLU, which replaces the filters' bias; filters also reach over the end of a
text, where there are zeros; weights are not bounded, and dropout is off by default. With `parts` > 1 a text is divided into
as many parts of equal length, and features are means over a part instead, in a square map for networks that compare maps.
"""

from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.arguments import AtLeast, AtMost, Below, Buckets, Channels, TokensOfText, Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.backbones.texts.pooling import Parts, largest, means, shape_of_parts
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
        parts: Parts,
        normalisation: Protocol,
    ) -> None:
        super().__init__(input_shape, normalisation)
        if not widths:
            raise BadInput("backbone.widths=[] has no filter: give at least one width, such as [3,4,5]")
        self.wants = wanted(tokens, buckets, length)
        self.buckets = buckets if tokens == "characters" else None  # of characters, which have more ids
        self.parts = parts
        self.table = nn.Embedding(buckets, dimensions)
        nn.init.uniform_(self.table.weight, -_INITIAL, _INITIAL)
        self.filters = nn.ModuleList(nn.Conv2d(dimensions, channels, (1, width), bias=False) for width in widths)
        self.normalisations = nn.ModuleList([Normalisation(channels * len(widths), normalisation)])
        self.dropout = dropout
        self.draws = dropout > 0
        self.feature_shape = shape_of_parts(parts, channels * len(widths))

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        ids, mask = ids_and_mask(images)  # [T * N, L]
        rows = ids if self.buckets is None else hashed(ids, self.buckets)
        x = self.table(rows) * mask.unsqueeze(-1)  # [T * N, L, dimensions]
        # In one dimension torch would first copy x into another order, which takes twice the time.
        x = x.transpose(1, 2).unsqueeze(2)  # [T * N, dimensions, 1, L]
        found = [_found(x, filters).squeeze(2).transpose(1, 2) for filters in self.filters]  # [T * N, L, channels] each
        pool = largest if self.parts == 1 else partial(means, parts=self.parts)
        pooled = torch.cat([pool(values, mask) for values in found], dim=2)
        flat = pooled.flatten(0, 1)  # [T * N * parts, maps]
        features = F.relu(self.normalisations[0](flat, tasks, support * self.parts))
        features = F.dropout(features, self.dropout, self.training and self.dropout > 0)
        return features.view(tasks, count, self.parts, -1).transpose(2, 3).reshape(tasks, count, self.features)


def _found(x: Tensor, filters: nn.Module) -> Tensor:
    """What filters find at each place, with nothing behind the last one."""
    assert isinstance(filters, nn.Conv2d)
    found: Tensor = filters(F.pad(x, (0, filters.kernel_size[1] - 1)))
    return found
