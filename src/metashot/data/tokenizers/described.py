"""Tokenizers from what a backbone wants, or from what a checkpoint says of them."""

from collections.abc import Mapping
from typing import Any

from metashot.data.tokenizers.characters import Characters
from metashot.data.tokenizers.tokenizer import Tokenizer
from metashot.data.tokenizers.vocabulary import BytePairs, Vocabulary
from metashot.data.tokenizers.words import Words


def tokenizer_of(described: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a backbone wants or that a checkpoint describes.

    Args:
        described: its kind and its settings.

    Raises:
        BadInput: if a package that it needs is missing, or the description is broken.
    """
    if described["kind"] == Characters.kind:
        return Characters()
    if described["kind"] == Words.kind:
        return Words(described["buckets"])
    if described["kind"] == BytePairs.kind:
        return BytePairs(described["vocabulary"])
    return Vocabulary.of(described["json"], described["marks"], described.get("rows"))
