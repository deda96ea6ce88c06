"""Published vectors of words, pooled: the mean of a text's vectors, weighted by inverse frequency or by learned attention.

`mean` is the plain mean. `frequency` is that of Arora, Liang, Ma 2017, "A simple but tough-to-beat baseline for sentence
embeddings": the mean of a / (a + p(w)) v_w, where p(w) is how often token w is among the tokens of the training split; the
common component that the paper then removes is left in. `attention` is that of Lin et al. 2017, "A structured self-attentive
sentence embedding", arXiv:1703.03130: each head weighs the vectors by a softmax of u' tanh(W v), and their sums are
concatenated; to u' tanh(W v) the logarithm of a / (a + p(w)) is added here, so that attention starts from the weights of
`frequency`.

The vectors stay as they were published. With `mean` or `frequency` and no projection there is nothing to train.
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


class WordVectors(Backbone):
    """Maps texts [T, N, 2, L] to features [T, N, features].

    Args:
        weights: `wordllama`, or a .safetensors file with vectors [tokens, dimensions].
        tokenizer: The `tokenizer.json` that belongs to that file; None for wordllama.
        length: The most tokens that are read of a text.
        pooling: How the vectors of a text become one.
        smoothing: a, for `frequency` and `attention`.
        heads: The heads of `attention`.
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
        pooling: Literal["mean", "frequency", "attention"],
        smoothing: Positive,
        heads: Annotated[int, AtLeast(1), AtMost(64)],
        features: Units | None,
        normalisation: Protocol,
    ) -> None:
        files = vector_files(weights, tokenizer)
        # Without a projection there is nothing that could be normalised.
        super().__init__(input_shape, normalisation if features is not None else "none")
        described = {"kind": "json", "json": files.tokenizer, "marks": False}
        self.wants: Mapping[str, Any] = {"input_shape": [2, length], "tokenizer": described}
        self.pooling = pooling
        self.smoothing = smoothing
        self.vectors = PublicVectors(input_shape, files)
        size = files.dimensions
        if pooling != "mean":
            self.frequencies = Frequencies(files.rows)
        if pooling == "attention":
            self.scorer = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, heads, bias=False))
            size *= heads
        self.projection = nn.Linear(size, features, bias=False) if features is not None else None
        if features is not None:
            self.normalisation_of_features = Normalisation(features, normalisation)
        self.feature_shape = (features or size,)
        if pooling != "attention" and features is None:
            self.freeze()

    @property
    def is_published(self) -> bool:
        return True

    def bring_back(self) -> None:
        self.vectors.bring_back()

    @property
    def reads_frequencies(self) -> bool:
        return self.pooling != "mean"

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
        if self.pooling == "attention":
            rarity = self.frequencies.rarity(ids, self.smoothing).log()
            scores: Tensor = (self.scorer(vectors) + rarity.unsqueeze(-1)).mT  # [T * N, heads, L]
            lowest = torch.finfo(scores.dtype).min
            return scores.masked_fill(~mask.unsqueeze(1), lowest).softmax(-1) * is_there  # zeros for a text without tokens
        weights = is_there / is_there.sum(-1, keepdim=True).clamp(min=1)
        if self.pooling == "frequency":
            weights = weights * self.frequencies.rarity(ids, self.smoothing).unsqueeze(1)
        return weights
