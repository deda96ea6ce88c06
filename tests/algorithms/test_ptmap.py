"""PT-MAP against the paper's formulas, one query and one class at a time, and against easyfsl's."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metashot.algorithms.transductive.ptmap import PTMAP, transport_plan

from .transductive_learners import EQUAL, UNEQUAL, Array, agree, answers, clustered, expected, keeps_its_promises, made

SETTINGS: dict[str, Any] = {"power": 0.5, "transport": 10.0, "rate": 0.2, "epochs": 20}
SHOTS = pytest.mark.parametrize("support", [(1, 1, 1), (2, 2, 2), (4, 1, 3)])


def normalised(x: Array) -> Array:
    powers = np.array([[np.sign(value) * (abs(value) + 1e-6) ** 0.5 if value else 1e-3 for value in row] for row in x])
    unit = np.array([row / np.linalg.norm(row) for row in powers])
    centred = unit - unit.mean(0)
    return np.array([row / np.linalg.norm(row) for row in centred])


def assigned(query: Array, centres: Array) -> Array:
    plan = np.array([[np.exp(-10 * ((q - c) ** 2).sum()) for c in centres] for q in query])
    before, sums = np.zeros(len(query)), plan.sum(1)
    while abs(sums - before).max() > 1e-6:
        plan /= sums[:, None]
        plan *= len(query) / len(centres) / plan.sum(0)
        before, sums = sums, plan.sum(1)
    return plan


def by_the_paper(support: Array, y: NDArray[np.int64], query: Array) -> Array:
    support, query = normalised(support), normalised(query)
    classes = range(y.max() + 1)
    centres = np.array([support[y == c].mean(0) for c in classes])
    for _ in range(20):
        plan = assigned(query, centres)
        for c in classes:
            total = support[y == c].sum(0) + sum(p * q for p, q in zip(plan[:, c], query, strict=True))
            centres[c] += 0.2 * (total / ((y == c).sum() + plan[:, c].sum()) - centres[c])
    plan = assigned(query, centres)
    return np.asarray(plan / plan.sum(1, keepdims=True))


@SHOTS
@pytest.mark.parametrize("query", [EQUAL, UNEQUAL])
@pytest.mark.parametrize("signed", [False, True])
def test_assignments_are_those_of_the_paper(support: tuple[int, ...], query: tuple[int, ...], signed: bool) -> None:
    episode = clustered(support, query, tasks=3, signed=signed)
    found = answers(made(PTMAP, **SETTINGS), episode).exp()
    torch.testing.assert_close(found, expected(by_the_paper, episode), atol=1e-8, rtol=0)


@pytest.mark.parametrize("query", [EQUAL, UNEQUAL])
def test_labels_are_those_of_easyfsl(query: tuple[int, ...]) -> None:
    """It takes features as they are where the authors' code normalises them, and moves centres ten times."""
    methods = pytest.importorskip("easyfsl.methods")

    class Normalised(methods.PTMAP):  # type: ignore[misc, name-defined]
        def compute_features(self, images: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(normalised(images.numpy()))

    def other(support: Array, y: NDArray[np.int64], asked: Array) -> Array:
        one = Normalised(fine_tuning_steps=20)
        one.process_support_set(torch.from_numpy(support), torch.from_numpy(y))
        found: Array = one(torch.from_numpy(asked)).numpy()
        return found

    episode = clustered((2, 2, 2), query, tasks=20)
    agree(answers(made(PTMAP, **SETTINGS), episode), expected(other, episode), episode.query.y)


def test_it_keeps_the_promises_of_all_that_answer_together() -> None:
    keeps_its_promises(made(PTMAP, **SETTINGS))


def test_a_plan_gives_each_class_equally_many_queries() -> None:
    costs = torch.rand(3, 10, 4, dtype=torch.float64) + torch.tensor([0.0, 1.0, 2.0, 3.0])
    plan = transport_plan(costs, 10.0)
    torch.testing.assert_close(plan.sum(1), torch.full((3, 4), 2.5, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(2), torch.ones(3, 10, dtype=torch.float64), atol=1e-4, rtol=0)


def test_a_single_query_has_the_same_probability_for_all_classes() -> None:
    episode = clustered((2, 2, 2), (1, 0, 0), tasks=4)
    found = answers(made(PTMAP, **SETTINGS), episode).exp()
    torch.testing.assert_close(found, torch.full((4, 1, 3), 1 / 3, dtype=torch.float64))


def test_centres_move_by_their_rate_as_often_as_there_are_epochs() -> None:
    episode = clustered((2, 2, 2), UNEQUAL, tasks=4)
    usual = answers(made(PTMAP, **SETTINGS), episode)
    for other in ({"epochs": 19}, {"rate": 0.21}, {"transport": 9.9}, {"power": 0.51}):
        assert (answers(made(PTMAP, **SETTINGS | other), episode) - usual).abs().max() > 1e-7
