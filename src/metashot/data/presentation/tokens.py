"""Texts: token numbers stay integers, and which places of the longest text one fills is part of its input."""

from typing import ClassVar

import torch
from torch import Tensor

from metashot.data.presentation.presentation import Presentation
from metashot.sources.source import TOKENS

PADDING = -1  # in a bank, behind the last token of a text


class Tokens(Presentation):
    """Items are `int32` [length], padded with -1. An input is [2, length] of `int64`: the tokens, 0 where there is none, and
    the mask, 1 where there is one."""

    kind: ClassVar[str] = TOKENS
    noun: ClassVar[str] = "texts"

    def expect(self, item_shape: tuple[int, ...]) -> None:
        super().expect(item_shape)
        self.input_shape = (2, *item_shape)

    def inputs(self, values: Tensor) -> Tensor:
        """[T, N, 2, length]"""
        tokens = values.long()
        return torch.stack([tokens.clamp(min=0), (tokens != PADDING).long()], dim=2)
