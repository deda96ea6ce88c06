"""LaplacianShot against the authors' code, one query and one class at a time, and against easyfsl's."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metashot.algorithms.transductive import laplacianshot
from metashot.algorithms.transductive.laplacianshot import LaplacianShot, bound_updates

from .transductive_learners import EQUAL, UNEQUAL, Array, agree, answers, clustered, expected, keeps_its_promises, made

SETTINGS: dict[str, Any] = {"laplacian": 0.75, "neighbours": 3, "rectify": True, "normalise": "l2"}
QUERIES = pytest.mark.parametrize("query", [EQUAL, UNEQUAL])


def unit(x: Array) -> Array:
    return np.array([row / np.linalg.norm(row) for row in x])


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def rectified(prototypes: Array, x: Array) -> Array:
    cosines = unit(x) @ unit(prototypes).T
    weights = np.array([softmax(10 * row) for row in cosines])
    found = prototypes.copy()
    for c in range(len(prototypes)):
        own = [i for i in range(len(x)) if cosines[i].argmax() == c]
        if own:
            found[c] = np.mean([weights[i, c] * x[i] for i in own], axis=0)
    return found


def by_the_authors_code(support: Array, y: NDArray[np.int64], query: Array, rectify: bool = True) -> Array:
    support, query = unit(support), unit(query)
    prototypes = np.array([support[y == c].mean(0) for c in range(y.max() + 1)])
    if rectify:
        query = query + support.mean(0) - query.mean(0)
        prototypes = rectified(prototypes, np.concatenate([support, query]))
    costs = np.array([[((q - m) ** 2).sum() for m in prototypes] for q in query])
    nearest = [np.argsort([((q - other) ** 2).sum() for other in query])[1:3] for q in query]
    assigned, before = np.array([softmax(-row) for row in costs]), np.inf
    for iteration in range(20):
        assigned = np.array([softmax(0.75 * assigned[near].sum(0) - row) for near, row in zip(nearest, costs, strict=True)])
        agreement = np.array([assigned[near].sum(0) for near in nearest])
        energy = (assigned * np.log(assigned) + costs * assigned - 0.75 * agreement * assigned).sum()
        if iteration > 1 and abs(energy - before) <= 1e-6 * abs(before):
            break
        before = energy
    return assigned


@pytest.mark.parametrize("support", [(1, 1, 1), (2, 2, 2), (4, 1, 3)])
@QUERIES
@pytest.mark.parametrize("rectify", [True, False])
def test_assignments_are_those_of_the_authors_code(support: tuple[int, ...], query: tuple[int, ...], rectify: bool) -> None:
    episode = clustered(support, query, tasks=5, signed=True)
    found = answers(made(LaplacianShot, **SETTINGS | {"rectify": rectify}), episode).exp()
    reference = expected(lambda *task: by_the_authors_code(*task, rectify), episode)
    torch.testing.assert_close(found, reference, atol=1e-9, rtol=0)


@QUERIES
def test_labels_are_those_of_easyfsl(query: tuple[int, ...]) -> None:
    """Without its rectification, which has other weights and leaves the queries where they are."""
    methods = pytest.importorskip("easyfsl.methods")

    class Plain(methods.LaplacianShot):  # type: ignore[misc, name-defined]
        def rectify_prototypes(self, query_features: torch.Tensor) -> None:
            pass

    def other(support: Array, y: NDArray[np.int64], asked: Array) -> Array:
        one = Plain(feature_normalization=2.0, lambda_regularization=0.75)
        one.process_support_set(torch.from_numpy(support).float(), torch.from_numpy(y))
        found: Array = one(torch.from_numpy(asked).float()).double().numpy()
        return found

    episode = clustered((2, 2, 2), query, tasks=200, signed=True)
    agree(answers(made(LaplacianShot, **SETTINGS | {"rectify": False}), episode), expected(other, episode), episode.query.y)


@pytest.mark.parametrize("rectify", [True, False])
def test_it_keeps_the_promises_of_all_that_answer_together(rectify: bool) -> None:
    keeps_its_promises(made(LaplacianShot, **SETTINGS | {"rectify": rectify}))


def test_more_neighbours_than_queries_are_all_queries() -> None:
    episode = clustered((2, 2, 2), (2, 1, 1), tasks=4)
    found = answers(made(LaplacianShot, **SETTINGS | {"neighbours": 4}), episode)
    torch.testing.assert_close(answers(made(LaplacianShot, **SETTINGS | {"neighbours": 100}), episode), found)
    assert (answers(made(LaplacianShot, **SETTINGS | {"neighbours": 1}), episode) - found).abs().max() > 1e-3


def test_without_neighbours_a_query_has_the_softmax_of_its_distances() -> None:
    costs = torch.rand(2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(bound_updates(costs, torch.ones(2, 5, 5).double(), 0.0), (-costs).log_softmax(-1))


def test_the_mean_feature_of_training_is_subtracted_if_it_is_asked_for() -> None:
    episode, mean = clustered((2, 2, 2), EQUAL, tasks=3), torch.randn(16, dtype=torch.float64)
    plain, centred = made(LaplacianShot, **SETTINGS), made(LaplacianShot, **SETTINGS | {"normalise": "centre_l2"})
    before = answers(plain, episode)
    assert isinstance(centred, LaplacianShot)
    centred.normalised.mean.copy_(mean)
    for part in (episode.support.x, episode.query.x):
        part += mean
    assert (answers(plain, episode) - before).abs().max() > 1e-3
    torch.testing.assert_close(answers(centred, episode), before)


def test_a_weight_that_is_not_given_is_one_of_the_authors_until_a_validation() -> None:
    algorithm = made(LaplacianShot, **SETTINGS | {"laplacian": None})
    assert isinstance(algorithm, LaplacianShot)
    assert algorithm.laplacian.candidates == laplacianshot._CANDIDATES
    assert algorithm.laplacian.value == pytest.approx(0.8)
    assert algorithm.choices() == [algorithm.laplacian]
