"""Hashed character n-grams and a linear map: the baseline on texts that needs neither training nor anything to download.

N-grams of characters are those of fastText: Bojanowski, Grave, Joulin, Mikolov 2017, "Enriching word vectors with subword
information", arXiv:1607.04606. They are hashed into buckets: Weinberger, Dasgupta, Langford, Smola, Attenberg 2009, "Feature
hashing for large scale multitask learning", arXiv:0902.2206. A text has a space before and behind it, as its words have, so
that n-grams tell beginnings and ends of words. The vector x of a text has log(1 + count) for each bucket, and length 1.

The features are W x. W is drawn from N(0, 1/features), always with the same seed, which preserves cosines: Johnson,
Lindenstrauss 1984. So nearest class means work without training, and algorithms may train or adapt W like any weights.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.arguments import AtLeast, AtMost, Buckets, TokensOfText, Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.backbones.texts.letters import lower_case
from metashot.backbones.texts.tokens import hashed, ids_and_mask, wanted
from metashot.bad_input import BadInput

_SPACE = ord(" ")
_MULTIPLIER, _BITS = 0x01000193, 0xFFFFFFFF  # of the FNV hash, over characters instead of bytes
_SEED = 0  # of the map
_LEAST = 0.5  # length of the vector of any n-gram, which is at least log 2; that of an empty text is 0
_NUMBERS_AT_ONCE = 2**24  # counts of buckets in memory, where no gradients need them later


class Ngrams(Backbone):
    """Maps texts [T, N, 2, L], whose tokens are characters, to features [T, N, features].

    Args:
        sizes: The lengths of n-grams, in characters.
        buckets: The number of buckets that n-grams are hashed into.
        length: The most characters that are read of a text.
        lower: Whether letters are brought to lower case.
        features: The number of features; None for the buckets themselves, without a map.
    """

    of_texts = True
    bits: Tensor
    lowered: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        sizes: list[Annotated[int, AtLeast(1), AtMost(16)]],
        buckets: Buckets,
        length: TokensOfText,
        lower: bool,
        features: Units | None,
        normalisation: Protocol,
    ) -> None:
        super().__init__(input_shape, normalisation)
        if not sizes:
            raise BadInput("backbone.sizes=[] has no n-gram: give at least one size, such as [1,2,3,4]")
        self.wants = wanted("characters", buckets, length)
        self.sizes = sorted(set(sizes))
        self.buckets = buckets
        self.lower = lower
        self.register_buffer("bits", torch.zeros(()))  # has the precision that weights have
        self.register_buffer("lowered", lower_case() if lower else torch.zeros(0, dtype=torch.int64), persistent=False)
        self.map = None if features is None else nn.Linear(buckets, features, bias=False)
        if self.map is not None and features is not None:
            drawn = torch.randn(features, buckets, generator=torch.Generator().manual_seed(_SEED))
            self.map.weight = nn.Parameter((drawn * features**-0.5).to(self.map.weight.dtype))
        self.normalisation_of_features = None if features is None else Normalisation(features, normalisation)
        self.feature_shape = (buckets if features is None else features,)

    @property
    def embeds_independently(self) -> bool:
        return self.map is None or super().embeds_independently

    @property
    def transductive(self) -> bool:
        return self.map is not None and super().transductive

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        ids, mask = ids_and_mask(images)  # [T * N, L]
        # With gradients all counts are kept for the backward pass, and pieces would save nothing.
        rows = len(ids) if torch.is_grad_enabled() else max(_NUMBERS_AT_ONCE // self.buckets, 1)
        pieces: list[Tensor] = [
            self._mapped(*piece) for piece in zip(torch.split(ids, rows), torch.split(mask, rows), strict=True)
        ]
        x: Tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        if self.normalisation_of_features is not None:
            x = self.normalisation_of_features(x, tasks, support)
        return x.view(tasks, count, self.features)

    def _mapped(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self._counts(ids, mask).log1p()  # [N, buckets]
        length = x.norm(dim=1, keepdim=True).clamp(min=_LEAST)
        mapped: Tensor = x if self.map is None else self.map(x)
        found: Tensor = mapped / length
        return found

    def _counts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """How often the n-grams of each bucket occur in each text: [N, buckets]."""
        if self.lower:
            ids = torch.where(ids < len(self.lowered), self.lowered[ids.clamp(max=len(self.lowered) - 1)], ids)
        characters = F.pad(torch.where(mask, ids, _SPACE), (1, 1), value=_SPACE)  # [N, L + 2]
        length = mask.sum(1, keepdim=True)
        ends = torch.where(length > 0, length + 2, 0)
        number = torch.arange(characters.shape[1], device=ids.device)
        value = torch.zeros_like(characters)
        buckets, counted = [], []
        for size in range(1, min(self.sizes[-1], characters.shape[1]) + 1):
            places = characters.shape[1] - size + 1
            value = (value[:, :places] * _MULTIPLIER + characters[:, size - 1 :]) & _BITS
            if size in self.sizes:
                buckets.append(hashed(value ^ size << 24, self.buckets))
                counted.append(number[:places] + size <= ends)
        weights = torch.cat(counted, 1).to(self.bits.dtype) if counted else self.bits.new_zeros(len(ids), 1)
        places_of = torch.cat(buckets, 1) if buckets else torch.zeros_like(ids[:, :1])
        return weights.new_zeros(len(ids), self.buckets).scatter_add(1, places_of, weights)
