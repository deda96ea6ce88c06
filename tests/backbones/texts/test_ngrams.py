"""Hashed n-grams against a count in Python, and the map that preserves cosines."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from metashot.backbones.texts import ngrams as module
from metashot.backbones.texts.letters import lower_case
from metashot.bad_input import BadInput

from .networks import inputs, ngrams

TEXTS = ["hello world", "Hello World", "a", "abc abc", "ΣΊΣΥΦΟΣ", "你好，世界", "\U0010ffff\U0010fffe", ""]


def bucket(ngram: str, buckets: int) -> int:
    value = 0
    for letter in ngram:
        value = (value * 0x01000193 + ord(letter)) % 2**32
    mixed = (value ^ len(ngram) << 24) * 0x9E3779B1 % 2**32
    return (mixed ^ mixed >> 15) % buckets


@pytest.mark.parametrize("sizes", [[1], [3, 1], [2, 3, 5]])
@pytest.mark.parametrize("lower", [True, False])
def test_a_text_has_the_logarithms_of_its_counts_and_length_one(lower: bool, sizes: list[int]) -> None:
    network = ngrams(features=None, lower=lower, sizes=sizes, buckets=97).double()
    found = network(inputs(TEXTS), support=0)[0]
    for text, own in zip(TEXTS, found, strict=True):
        letters = f" {''.join(map(str.lower, text)) if lower else text} " if text else ""
        counts = Counter(
            bucket(letters[first : first + size], 97) for size in sizes for first in range(len(letters) - size + 1)
        )
        expected = torch.zeros(97, dtype=torch.float64)
        for place, count in counts.items():
            expected[place] = math.log(1 + count)
        torch.testing.assert_close(own, F.normalize(expected, dim=0), rtol=1e-12, atol=1e-12)
        assert own.norm().item() == pytest.approx(1 if text else 0)


def test_lower_case_letters_are_those_of_python() -> None:
    table = lower_case()
    for point in (*range(0x590), 0x10A0, 0x1E900, 0x1E921):
        lower = chr(point).lower()
        assert table[point] == (ord(lower) if len(lower) == 1 else point)
    assert all(chr(point).lower() == chr(point) for point in range(len(table), 0x110000))


def test_words_are_told_from_parts_of_words() -> None:
    network = ngrams(features=None, sizes=[4], buckets=4096)
    x = network(inputs(["in", "inn", "an in"]), support=0)[0]
    assert x[0] @ x[2] > 0
    assert x[0] @ x[1] == 0


def test_the_map_preserves_cosines_and_is_the_same_for_every_seed() -> None:
    torch.manual_seed(1)
    network = ngrams(features=2048, buckets=512).eval()
    torch.manual_seed(2)
    assert network.map is not None
    torch.testing.assert_close(ngrams(features=2048, buckets=512).map.weight, network.map.weight)  # type: ignore[union-attr]
    texts = inputs([text for text in TEXTS if text])
    mapped, exact = network(texts, support=0)[0], ngrams(features=None, buckets=512)(texts, support=0)[0]
    mapped = F.normalize(mapped, dim=1)
    torch.testing.assert_close(mapped @ mapped.T, exact @ exact.T, rtol=0, atol=0.08)
    network.requires_grad_(True)(texts, support=0).sum().backward()
    assert network.map.weight.grad is not None
    assert network.map.weight.grad.abs().max() > 0


def test_many_texts_are_mapped_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = ngrams().double().eval()
    x = inputs(["one", "two", "three", "four", "five"])
    whole = network(x, support=0)
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 128)
    sizes = []
    counts = network._counts
    monkeypatch.setattr(network, "_counts", lambda ids, mask: sizes.append(len(ids)) or counts(ids, mask))
    with torch.no_grad():
        torch.testing.assert_close(network(x, support=0), whole, rtol=1e-12, atol=1e-12)
    assert sizes == [2, 2, 1]


def test_buckets_alone_have_nothing_to_train_and_nothing_to_normalise() -> None:
    network = ngrams("transductive", features=None)
    assert list(network.parameters()) == []
    assert network.feature_shape == (64,)
    assert network.embeds_independently
    assert not network.transductive
    assert network.double()(inputs(["a"]), support=1).dtype == torch.float64


def test_no_size_is_refused() -> None:
    with pytest.raises(BadInput, match=r"backbone\.sizes=\[\]"):
        ngrams(sizes=[])


def test_a_network_that_was_built_without_values_first_has_its_letters() -> None:
    """As checkpoints are tried on the meta device before they are loaded; the table of letters is kept."""
    lower_case.cache_clear()
    with torch.device("meta"):
        ngrams()
    assert not ngrams().lowered.is_meta
