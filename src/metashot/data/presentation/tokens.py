"""Texts: token ids stay integers, and each input has a mask that marks the tokens among the padding."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.data.presentation.presentation import Banks, Presentation
from metashot.data.token_bank import token_bank, train_vocabulary
from metashot.data.tokenizers.characters import Characters
from metashot.data.tokenizers.described import tokenizer_of
from metashot.data.tokenizers.tokenizer import Tokenizer
from metashot.data.tokenizers.vocabulary import BytePairs, Vocabulary
from metashot.episodes import Episode
from metashot.sources.source import PIXELS, TOKENS
from metashot.sources.texts.code_points import PADDING


class Tokens(Presentation):
    """Presents `int32` items [length], padded with -1, as `int64` inputs [2, length].

    The first row holds the token ids, 0 at the padding; the second row is the mask, 1 at a token and 0 at the padding.

    The items of a source are characters, which are the tokens unless a backbone wants others. Those are computed once.

    Attributes:
        tokenizer: what turns texts into tokens.
    """

    kind: ClassVar[str] = TOKENS
    noun: ClassVar[str] = "texts"
    tokenizer: Tokenizer

    def __init__(self) -> None:
        self.tokenizer = Characters()
        self._length: int | None = None  # the most tokens of a text; None for the length of items

    def expect(self, item_shape: tuple[int, ...]) -> None:
        super().expect(item_shape)
        self.input_shape = (2, self._length or item_shape[0])

    def prepare(self, banks: Banks, fingerprint: str, folder: Path) -> tuple[Banks, str | None]:
        if self._length is None:
            return banks, None
        if isinstance(self.tokenizer, BytePairs) and not self.tokenizer.is_fitted:
            train_vocabulary(self.tokenizer, banks["train"], {"items": fingerprint}, folder)
        found = {
            split: token_bank(bank, self.tokenizer, self._length, {"items": fingerprint, "split": split}, folder)
            for split, bank in banks.items()
        }
        cut, texts = sum(one.cut for one in found.values()), sum(len(bank.items) for bank in banks.values())
        line = f"{cut:,} of {texts:,} texts are longer than {self._length:,} tokens, and are cut" if cut else None
        return {split: one.bank for split, one in found.items()}, line

    def inputs(self, values: Tensor) -> Tensor:
        """[T, N, 2, length]"""
        tokens = values.long()
        return torch.stack([tokens.clamp(min=0), (tokens != PADDING).long()], dim=2)

    def compact(self, episode: Episode) -> Episode:
        """Leave out the columns in which all texts of some episodes have padding."""
        support, query = episode.support, episode.query
        if query.x.device.type != "cpu":  # looking at the values would wait for the device
            return episode
        used = max(int((x != PADDING).flatten(0, 1).any(0).sum()) for x in (support.x, query.x) if x.numel())
        length = max(used, 1)
        return replace(
            episode,
            support=replace(support, x=support.x[..., :length]),
            query=replace(query, x=query.x[..., :length]),
        )

    def origin(self) -> dict[str, Any]:
        return super().origin() | {"tokenizer": self.tokenizer.origin()}

    def identity(self) -> dict[str, Any]:
        return super().origin() | {"tokenizer": self.tokenizer.identity()}

    def look_like(self, origin: Mapping[str, Any], name: str) -> str | None:
        if origin.get("presentation", PIXELS) != TOKENS:
            return super().look_like(origin, name)
        if "tokenizer" not in origin:
            raise BadInput(f"{origin['name']} does not say how texts become tokens")
        self.tokenizer = tokenizer_of(origin["tokenizer"])
        self._length = int(origin["input_shape"][1])
        self.input_shape = (2, self._length)
        return None

    def refuse_other(self, wanted: Mapping[str, Any]) -> None:
        """Refuse a tokenizer from a checkpoint whose ids are not those that a backbone has vectors for.

        Args:
            wanted: the inputs that the backbone wants.

        Raises:
            BadInput: if it is another one.
        """
        own, described = self.tokenizer, dict(wanted["tokenizer"])
        fits: bool
        if described["kind"] == BytePairs.kind:
            fits = isinstance(own, Vocabulary) and not own.marks and own.largest < described["vocabulary"]
        else:
            fits = own.identity() == tokenizer_of(described).identity()
        if not fits or list(self.input_shape) != list(wanted["input_shape"]):
            raise BadInput(
                "how its origin.tokenizer and its origin.input_shape make tokens of texts does not fit the network that "
                "backbone.* describes"
            )
        if isinstance(own, Vocabulary):
            own.rows = described.get("rows", described.get("vocabulary"))
