"""Published vectors of words, pooled: the mean of a text's vectors, weighted by inverse frequency or by learned attention.

- `mean`: the plain mean.
- `frequency`: Arora, Liang, Ma 2017, "A simple but tough-to-beat baseline for sentence embeddings": the mean of
  a / (a + p(w)) v_w, where p(w) is the share of token w among the tokens of the training split. The common component that
  the paper then removes is left in.
- `attention`: Lin et al. 2017, "A structured self-attentive sentence embedding", arXiv:1703.03130: each head weighs the
  vectors by a softmax of u' tanh(W v), and the sums of the heads are concatenated. The paper's LSTM below it and its
  penalty on similar heads are left out, and W v has a bias. With few training classes it learns which
  words name them, and is worse than the mean on others.
- `statistics`: the same attention, which reads three numbers of a token instead of its vector, so that it transfers to
  other classes: a / (a + p(w)), the logarithm of its vector's length, and its place. This is in the spirit of distributional
  signatures (`signatures.py`), without labels and without an LSTM.

Attention starts near the mean, and a projection as the first numbers of what is pooled. The vectors stay as they were
published. With `mean` or `frequency` and no projection there is nothing to train.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from metashot.arguments import AtLeast, AtMost, Positive, TokensOfText, Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.backbones.texts.public_vectors import PublicVectors, vector_files
from metashot.backbones.texts.tokens import Frequencies, ids_and_mask

_STATISTICS, _UNITS = 3, 16  # numbers that attention reads of a token with `statistics`, and its hidden units
_INITIAL = 0.01  # the standard deviation of u
_LEAST_LENGTH, _USUAL_LENGTH = 1e-3, 2.5  # of a vector; the logarithm of that of wordllama's
_PLACES = 10.0  # tokens, over which attention may change


class WordVectors(Backbone):
    """Maps texts [T, N, 2, L] to features [T, N, features].

    Args:
        weights: `wordllama`, or a .safetensors file with vectors [tokens, dimensions].
        tokenizer: The `tokenizer.json` that belongs to that file; None for wordllama.
        length: The most tokens that are read of a text.
        pooling: How the vectors of a text become one.
        smoothing: a, for `frequency` and `statistics`.
        heads: The heads of `attention` and `statistics`.
        features: The size of a learned linear projection of what is pooled; None for none.

    Raises:
        BadInput: A package or a file is missing or broken, or the tokenizer does not fit the vectors.
    """

    starts_trained = True
    of_texts = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        weights: str,
        tokenizer: str | None,
        length: TokensOfText,
        pooling: Literal["mean", "frequency", "attention", "statistics"],
        smoothing: Positive,
        heads: Annotated[int, AtLeast(1), AtMost(64)],
        features: Units | None,
        normalisation: Protocol,
    ) -> None:
        files = vector_files(weights, tokenizer)
        # Without a projection there is nothing that could be normalised.
        super().__init__(input_shape, normalisation if features is not None else "none")
        described = {"kind": "json", "json": files.tokenizer, "marks": False, "rows": files.rows}
        self.wants: Mapping[str, Any] = {"input_shape": [2, length], "tokenizer": described}
        self.pooling = pooling
        self.smoothing = smoothing
        self.vectors = PublicVectors(input_shape, files)
        size = files.dimensions
        if self.reads_frequencies:
            self.frequencies = Frequencies(files.rows)
        self.scorer: nn.Module | None = None
        if pooling in ("attention", "statistics"):
            inputs, hidden = (size, size) if pooling == "attention" else (_STATISTICS, _UNITS)
            u = nn.Linear(hidden, heads, bias=False)
            nn.init.normal_(u.weight, std=_INITIAL)
            self.scorer = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), u)
            size *= heads
        self.projection: nn.Linear | None = None
        if features is not None:
            self.projection = nn.Linear(size, features, bias=False)
            nn.init.eye_(self.projection.weight)
            self.normalisation_of_features = Normalisation(features, normalisation)
        self.feature_shape = (features or size,)
        if self.scorer is None and features is None:
            self.freeze()

    @property
    def is_published(self) -> bool:
        return True

    def bring_back(self) -> None:
        self.vectors.bring_back()

    @property
    def reads_frequencies(self) -> bool:
        return self.pooling in ("frequency", "statistics")

    def learn_frequencies(self, counts: Tensor) -> None:
        self.frequencies.learn(counts)

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        ids, mask = ids_and_mask(images)  # [T * N, L]
        vectors = self.vectors(ids)  # [T * N, L, dimensions]
        pooled: Tensor = (self._weights(ids, mask, vectors) @ vectors).flatten(1)  # [T * N, heads * dimensions]
        if self.projection is not None:
            pooled = self.normalisation_of_features(self.projection(pooled), tasks, support)
        return pooled.view(tasks, count, self.features)

    def _weights(self, ids: Tensor, mask: Tensor, vectors: Tensor) -> Tensor:
        """The weight of each token for each head: [T * N, heads, L]."""
        is_there = mask.unsqueeze(1).to(vectors.dtype)
        if self.scorer is not None:
            read = self._statistics(ids, vectors) if self.pooling == "statistics" else vectors
            scores: Tensor = self.scorer(read).mT  # [T * N, heads, L]
            lowest = torch.finfo(scores.dtype).min
            return scores.masked_fill(~mask.unsqueeze(1), lowest).softmax(-1) * is_there  # zeros for a text without tokens
        weights = is_there / is_there.sum(-1, keepdim=True).clamp(min=1)
        if self.pooling == "frequency":
            weights = weights * self.frequencies.rarity(ids, self.smoothing).unsqueeze(1)
        return weights

    def _statistics(self, ids: Tensor, vectors: Tensor) -> Tensor:
        """Three numbers of each token, of a size around 1: [T * N, L, 3]."""
        rarity = self.frequencies.rarity(ids, self.smoothing)
        length = vectors.norm(dim=-1).clamp(min=_LEAST_LENGTH).log()
        place = torch.arange(ids.shape[1], dtype=vectors.dtype, device=ids.device) / _PLACES
        return torch.stack([rarity, length - _USUAL_LENGTH, place.expand_as(length)], dim=-1)
