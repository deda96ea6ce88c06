"""What a source of texts makes of its files, and what it says when it cannot use them."""

from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.sources.texts.code_points import texts_of
from metashot.sources.texts.text_source import Texts


def texts_by_class(source: Texts, root: Path, scratch: Path) -> dict[str, dict[str, list[str]]]:
    """The texts of each class of each split, as a source draws them."""
    scratch.mkdir(exist_ok=True)
    source.prepare(root, scratch)
    found: dict[str, dict[str, list[str]]] = {}
    for split, names in source.splits().items():
        counts = source.counts(split)
        items = [source.draw(split, label, 0, counts[label]).items for label in range(len(names))]
        assert all(item.shape[1:] == source.item_shape for item in items)
        found[split] = dict(zip(names, map(texts_of, items), strict=True))
    return found


def all_classes(source: Texts, root: Path, scratch: Path) -> dict[str, list[str]]:
    """The texts of each class of all splits."""
    return {name: texts for classes in texts_by_class(source, root, scratch).values() for name, texts in classes.items()}


def complaint(source: Texts, root: Path, scratch: Path) -> str:
    """The one line with which it refuses the files."""
    with pytest.raises(BadInput) as refused:
        texts_by_class(source, root, scratch)
    text = str(refused.value)
    assert "\n" not in text
    return text
