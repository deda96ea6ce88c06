"""Texts: token ids stay integers, and each input has a mask that marks the tokens among the padding."""

from typing import ClassVar

import torch
from torch import Tensor

from metashot.data.presentation.presentation import Presentation
from metashot.sources.source import TOKENS

PADDING = -1  # in a bank, after the last token of a text


class Tokens(Presentation):
    """Presents `int32` items [length], padded with -1, as `int64` inputs [2, length].

    The first row holds the token ids, 0 at the padding; the second row is the mask, 1 at a token and 0 at the padding.
    """

    kind: ClassVar[str] = TOKENS
    noun: ClassVar[str] = "texts"

    def expect(self, item_shape: tuple[int, ...]) -> None:
        super().expect(item_shape)
        self.input_shape = (2, *item_shape)

    def inputs(self, values: Tensor) -> Tensor:
        """[T, N, 2, length]"""
        tokens = values.long()
        return torch.stack([tokens.clamp(min=0), (tokens != PADDING).long()], dim=2)
