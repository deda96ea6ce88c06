"""TIM against the authors' code, which autograd differentiates and torch.optim.Adam minimises, and against easyfsl's."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.transductive.tim import TIM

from .transductive_learners import EQUAL, UNEQUAL, Array, agree, answers, clustered, expected, keeps_its_promises, made

SETTINGS: dict[str, Any] = {
    "temperature": 15.0,
    "steps": 40,
    "lr": 1e-3,
    "cross_entropy": 0.1,
    "marginal_entropy": 1.0,
    "conditional_entropy": 0.1,
}
QUERIES = pytest.mark.parametrize("query", [EQUAL, UNEQUAL])


def by_the_authors_code(support: Array, y: NDArray[np.int64], query: Array, cross: float = 0.1, more: float = 0.1) -> Array:
    x, asked = (F.normalize(torch.from_numpy(part), dim=-1) for part in (support, query))
    weights = torch.stack([x[y == c].mean(0) for c in range(y.max() + 1)]).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=1e-3)

    def probabilities(features: Tensor) -> Tensor:
        distances = (features.unsqueeze(1) - weights).square().sum(-1)
        return (-15 / 2 * distances).softmax(-1)

    for _ in range(40):
        p, mean = probabilities(asked), probabilities(asked).mean(0)
        loss = cross * -torch.stack([each[label].log() for each, label in zip(probabilities(x), y, strict=True)]).mean()
        loss = loss + (mean * mean.log()).sum() - more * (p * p.log()).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return probabilities(asked).detach().numpy()


@pytest.mark.parametrize("support", [(1, 1, 1), (2, 2, 2), (4, 1, 3)])
@QUERIES
def test_assignments_are_those_of_the_authors_code(support: tuple[int, ...], query: tuple[int, ...]) -> None:
    episode = clustered(support, query, tasks=3)
    torch.testing.assert_close(
        answers(made(TIM, **SETTINGS), episode).exp(), expected(by_the_authors_code, episode), atol=1e-8, rtol=0
    )
    other = answers(made(TIM, **SETTINGS | {"cross_entropy": 0.7, "conditional_entropy": 0.4}), episode).exp()
    reference = expected(lambda *task: by_the_authors_code(*task, 0.7, 0.4), episode)
    torch.testing.assert_close(other, reference, atol=1e-8, rtol=0)


@QUERIES
def test_labels_are_those_of_easyfsl(query: tuple[int, ...]) -> None:
    """With the distances of the paper where it takes cosines."""
    methods = pytest.importorskip("easyfsl.methods")

    class Distances(methods.TIM):  # type: ignore[misc, name-defined]
        def cosine_distance_to_prototypes(self, samples: Tensor) -> Tensor:
            return -(samples.unsqueeze(1) - self.prototypes).square().sum(-1) / 2

    def other(support: Array, y: NDArray[np.int64], asked: Array) -> Array:
        one = Distances(
            feature_normalization=2.0, temperature=15.0, fine_tuning_steps=40, fine_tuning_lr=1e-3, cross_entropy_weight=0.1
        )
        one.process_support_set(torch.from_numpy(support), torch.from_numpy(y))
        found: Array = one(torch.from_numpy(asked)).numpy()
        return found

    episode = clustered((2, 2, 2), query, tasks=20)
    agree(answers(made(TIM, **SETTINGS), episode), expected(other, episode), episode.query.y)


def test_it_keeps_the_promises_of_all_that_answer_together() -> None:
    keeps_its_promises(made(TIM, **SETTINGS))


def test_it_says_how_many_steps_it_takes() -> None:
    assert made(TIM, **SETTINGS).task_steps == 40


def test_queries_are_answered_more_evenly_than_by_the_nearest_mean() -> None:
    episode = clustered((1, 1, 1), EQUAL, tasks=20)
    few, many = (answers(made(TIM, **SETTINGS | {"steps": steps}), episode).exp().mean(1) for steps in (1, 40))
    assert many.std() < 0.7 * few.std()
