"""How items of each kind become inputs, and what is kept of that for other items later."""

from typing import Any

import numpy as np
import pytest
import torch

from metashot.bad_input import BadInput
from metashot.data.bank import Bank
from metashot.data.module import in_double
from metashot.data.presentation.features import Features
from metashot.data.presentation.tokens import Tokens
from metashot.episodes import Episode, Examples
from metashot.sources.texts.code_points import PADDING


def bank_of(items: Any) -> Bank:
    return Bank(np.asarray(items), ["a"], np.array([len(items)]))


def origin_of(features: Features, **changed: Any) -> dict[str, Any]:
    shape = list(features.input_shape)
    return {"name": "other", "input_shape": shape} | features.origin() | changed


def test_tokens_stay_integers_and_say_where_a_text_ends() -> None:
    tokens = Tokens()
    tokens.expect((4,))
    items = torch.tensor([[[7, 3, PADDING, PADDING], [0, 1, 2, 3]]], dtype=torch.int32)
    inputs = tokens.inputs(tokens.values(items))
    assert inputs.dtype == torch.int64
    assert tuple(inputs.shape[2:]) == tokens.input_shape == (2, 4)
    assert inputs[0, 0].tolist() == [[7, 3, 0, 0], [1, 1, 0, 0]]
    assert inputs[0, 1].tolist() == [[0, 1, 2, 3], [1, 1, 1, 1]]
    assert tokens.for_display(inputs) is None


def test_double_precision_leaves_tokens_and_labels_integers() -> None:
    examples = Examples(torch.ones(1, 2, 2, 4, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64))
    doubled = in_double(Episode(examples, examples, torch.zeros(1), torch.zeros(1, 2)))
    assert doubled.support.x.dtype == doubled.query.y.dtype == torch.int64


def test_features_are_as_they_are_unless_they_are_standardised() -> None:
    features = Features(standardise=False)
    features.expect((3,))
    features.fit(bank_of(np.eye(3, dtype=np.float32)))
    x = torch.randn(2, 5, 3)
    assert torch.equal(features.inputs(features.values(x)), x)
    assert features.origin() == {"presentation": "features", "mean": None, "std": None}


def test_features_are_standardised_by_the_training_split_and_constants_become_zero() -> None:
    random = np.random.default_rng(0)
    items = (random.normal(size=(25_000, 3)) * [1, 5, 0] + [0, 100, 0.1]).astype(np.float32)
    features = Features(standardise=True)
    features.expect((3,))
    features.fit(bank_of(items))
    inputs = features.inputs(torch.from_numpy(items)[None])[0]
    torch.testing.assert_close(inputs.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(inputs.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)


def test_a_learner_keeps_the_constants_it_was_trained_with_on_other_data() -> None:
    trained, other = Features(standardise=True), Features(standardise=True)
    for features, factor in ((trained, 1.0), (other, 10.0)):
        features.expect((2,))
        features.fit(bank_of(np.arange(20, dtype=np.float32).reshape(10, 2) * factor))
    assert other.look_like(origin_of(trained), "it") is None
    other.fit(bank_of(np.ones((5, 2), dtype=np.float32)))
    x = torch.randn(1, 4, 2)
    assert torch.equal(other.inputs(x), trained.inputs(x))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"input_shape": [3]}, r"shape \[2\].*\[3\]"),
        ({"presentation": "pixels"}, "pixels"),
        ({"presentation": "tokens"}, "tokens"),
    ],
)
def test_features_of_another_shape_and_other_items_are_refused(changed: dict[str, Any], words: str) -> None:
    features = Features(standardise=False)
    features.expect((2,))
    with pytest.raises(BadInput, match=rf"data=it has features.*{words}.*choose other data"):
        features.look_like(origin_of(features, **changed), "it")
