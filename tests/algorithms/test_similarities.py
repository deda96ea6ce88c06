"""How alike features are, against loops over numbers, for all tasks at once and in mixed precision."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.similarities import class_means, cosines, memberships, squared_distances

Array = NDArray[np.float64]
TASKS, WAYS, FEATURES = 3, 3, 4
LABELS = torch.tensor([[0, 1, 1, 2, 1, 0], [2, 2, 0, 1, 0, 1], [1, 0, 2, 2, 2, 2]])  # in no order, of unequal numbers


def features(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(TASKS, count, FEATURES, generator=generator, dtype=torch.float64)


def pythagoras(a: Array, b: Array) -> float:
    return float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def cosine(a: Array, b: Array) -> float:
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return float(product / np.sqrt(sum(x * x for x in a)) / np.sqrt(sum(y * y for y in b)))


PAIRS = {"squared distances": (squared_distances, pythagoras), "cosines": (cosines, cosine)}


def test_memberships_are_one_for_the_class_of_an_example() -> None:
    members = memberships(torch.tensor([[0, 2, 1], [1, 1, 0]]), torch.zeros(1, dtype=torch.float64))
    assert members.dtype == torch.float64
    assert members.tolist() == [
        [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[0, 1, 0], [0, 1, 0], [1, 0, 0]],
    ]


def test_class_means_count_only_the_members_of_a_class() -> None:
    given = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [10.0, 10.0]]])
    assert class_means(given, torch.tensor([[0, 0, 1]])).tolist() == [[[2.0, 2.0], [10.0, 10.0]]]


def test_class_means_are_those_of_a_loop_over_examples() -> None:
    given = features(LABELS.shape[1])
    means = class_means(given, LABELS)
    assert means.shape == (TASKS, WAYS, FEATURES)
    for task in range(TASKS):
        for label in range(WAYS):
            members = [given[task, place].numpy() for place in range(len(LABELS[task])) if LABELS[task, place] == label]
            np.testing.assert_allclose(means[task, label], sum(members) / len(members), atol=1e-12)


def test_squared_distances_are_those_of_pythagoras() -> None:
    a, b = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]), torch.tensor([[[3.0, 4.0], [1.0, 1.0], [1.0, 2.0]]])
    assert squared_distances(a, b).tolist() == [[[25.0, 2.0, 5.0], [13.0, 0.0, 1.0]]]


def test_cosines_are_those_of_known_angles() -> None:
    a = torch.tensor([[[2.0, 0.0], [1.0, 1.0]]])
    b = torch.tensor([[[5.0, 0.0], [0.0, 0.1], [-3.0, 0.0], [-7.0, -7.0]]])
    half = 0.5**0.5
    expected = torch.tensor([[[1, 0, -1, -half], [half, half, -half, -1]]])
    torch.testing.assert_close(cosines(a, b), expected)


@pytest.mark.parametrize("pair", PAIRS)
def test_each_row_is_compared_with_each(pair: str) -> None:
    compare, by_hand = PAIRS[pair]
    a, b = features(5, seed=1), features(2, seed=2)
    found = compare(a, b)
    expected = [[[by_hand(x, y) for y in of_b] for x in of_a] for of_a, of_b in zip(a.numpy(), b.numpy(), strict=True)]
    assert found.shape == (TASKS, 5, 2)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_feature_of_zeros_has_no_direction_and_a_gradient() -> None:
    a = torch.zeros(1, 1, 3, dtype=torch.float64, requires_grad=True)
    found = cosines(a, torch.ones(1, 2, 3, dtype=torch.float64))
    assert found.tolist() == [[[0.0, 0.0]]]
    (gradient,) = torch.autograd.grad(found.sum(), a)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("compare", [squared_distances, cosines])
def test_gradients_are_those_of_finite_differences(compare: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = features(2, seed=1).requires_grad_(), features(LABELS.shape[1], seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: compare(a, class_means(b, LABELS)), (a, b))


@pytest.mark.parametrize("compare", [squared_distances, cosines])
def test_mixed_precision_changes_nothing(compare: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (1 + 0.003 * features(count, seed=count).float() for count in (2, LABELS.shape[1]))
    assert (1 + torch.zeros(1) + 0.003).to(torch.bfloat16) == 1  # bfloat16 would not tell these apart
    expected = compare(a, class_means(b, LABELS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compare(a, class_means(b, LABELS))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
