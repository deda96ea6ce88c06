"""Encoders of transformers and of sentence-transformers with their published weights, frozen; Reimers, Gurevych 2019,
"Sentence-BERT: Sentence embeddings using Siamese BERT-networks", arXiv:1908.10084.

A text's feature is the mean of its tokens' last hidden states, or that of its first token, divided by its length where the
encoder says so.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.arguments import Matching, TokensOfText
from metashot.backbones.normalisation import Protocol
from metashot.backbones.published import HUB
from metashot.backbones.published_network import PublishedNetwork
from metashot.backbones.texts.encoder_folder import built, encoder_folder, loaded
from metashot.backbones.texts.tokens import ids_and_mask
from metashot.bad_input import BadInput

# Names on the hub: a repository, usually with its owner.
NameOnHub = Annotated[
    str, Matching(r"[A-Za-z0-9_.-]{1,96}(/[A-Za-z0-9_.-]{1,96})?", "the name of an encoder on the Hugging Face hub")
]


class Sentence(PublishedNetwork):
    """Maps texts [T, N, 2, L] to features [T, N, hidden size].

    Args:
        name: The name on the Hugging Face hub.
        weights: `hub`, or a folder with the encoder; its name then only says where it is from.
        pooling: `mean`, `cls` (the first token), or `auto`, as the encoder says.
        length: The most tokens that are read of a text, with those that mark its beginning and end.
        normalisation: Not used: the network has its own.

    Raises:
        BadInput: A package is missing, there is no such encoder, or it cannot be used.
    """

    of_texts = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        name: NameOnHub,
        weights: str,
        pooling: Literal["auto", "mean", "cls"],
        length: TokensOfText,
        normalisation: Protocol,
    ) -> None:
        found = encoder_folder(name, weights, pooling)
        if found.longest is not None and length > found.longest:
            raise BadInput(
                f"backbone.length={length} is more than the positions of {found.what}: give at most {found.longest}; longer "
                "texts are cut"
            )
        super().__init__((2, length), "none")
        described = {"kind": "json", "json": found.tokenizer, "marks": True, "rows": found.rows}
        self.wants: Mapping[str, Any] = {"input_shape": [2, length], "tokenizer": described}
        self.network = built(found)
        self.pooling = found.pooling
        self.normalise = found.normalise
        self.padding = found.padding
        self.feature_shape = (int(found.config.hidden_size),)
        self.external_data = f"the texts that {name if weights == HUB else weights} was trained on"
        self._found = found
        self.freeze()

    def load_published(self) -> None:
        self.network.load_state_dict(loaded(self._found))

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        ids, mask = ids_and_mask(images)  # [T * N, L]
        if torch._C._functorch.maybe_current_level() is None:
            found = self.embedded(ids, mask)
        else:
            found = _OutsideTransforms.apply(self, ids, mask)  # type: ignore[no-untyped-call]
        return found.reshape(tasks, count, self.features)

    def embedded(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features [M, features] of token ids [M, L]."""
        said = self.network(input_ids=ids.masked_fill(~mask, self.padding), attention_mask=mask.long())
        hidden: Tensor = said.last_hidden_state  # [T * N, L, features]
        if self.pooling == "cls":
            found = hidden[:, 0]
        else:
            weights = mask.to(hidden.dtype).unsqueeze(1)
            found = (weights @ hidden).squeeze(1) / weights.sum(-1).clamp(min=1)
        return F.normalize(found, dim=-1) if self.normalise else found


class _OutsideTransforms(torch.autograd.Function):
    """Features of a frozen encoder inside `torch.func.vmap` and `grad`, where transformers would look at values of masks."""

    @staticmethod
    def forward(sentence: Sentence, ids: Tensor, mask: Tensor) -> Tensor:
        return sentence.embedded(ids, mask)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Nothing is kept: no gradient flows into a frozen encoder."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        return None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, sentence: Sentence, ids: Tensor, mask: Tensor) -> tuple[Tensor, int]:
        batched = [
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip((ids, mask), in_dims[1:], strict=True)
        ]
        found: Tensor = _OutsideTransforms.apply(sentence, *(x.flatten(0, 1) for x in batched))  # type: ignore[no-untyped-call]
        return found.view(info.batch_size, -1, found.shape[-1]), 0
