"""ANIL adapts the head alone and BOIL the body alone: against learn2learn's MAML around that part, and finite
differences."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.backbones.conv4 import Conv4
from tests.algorithms.gradient_learners import (
    ENGINES,
    assert_same,
    learner,
    library,
    outer_gradient,
    plain_network,
    random_episode,
    slopes,
)

STEPS = 3


def made_as(algorithm: str, engine: str = "learn2learn", first_order: bool = False) -> GradientLearner:
    torch.manual_seed(0)
    backbone = Conv4((1, 16, 16), 3, "pool", "transductive")
    return learner(algorithm, backbone, engine=ENGINES[engine], steps=STEPS, first_order=first_order).train()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("algorithm", ["anil", "boil"])
def test_outer_gradient_is_that_of_learn2learns_maml_around_what_adapts(
    algorithm: str, first_order: bool, engine: str
) -> None:
    made, episode = made_as(algorithm, engine, first_order), random_episode(tasks=3)
    *layers, head = plain_network(made.network)
    body = nn.Sequential(*layers)
    adapts = library().MAML(head if algorithm == "anil" else body, lr=0.3, first_order=first_order)
    losses = []
    for task in range(len(episode)):
        clone = adapts.clone()

        def loss(x: torch.Tensor, y: torch.Tensor, clone: nn.Module = clone) -> torch.Tensor:
            return F.cross_entropy(clone(body(x)) if algorithm == "anil" else head(clone(x)), y)

        for _ in range(STEPS):
            clone.adapt(loss(episode.support.x[task], episode.support.y[task]))
        losses.append(loss(episode.query.x[task], episode.query.y[task]))
    parameters = dict(made.named_parameters())
    expected = torch.autograd.grad(torch.stack(losses).mean(), list(parameters.values()))
    assert_same(outer_gradient(made, episode), dict(zip(parameters, expected, strict=True)))


@pytest.mark.parametrize("algorithm", ["anil", "boil"])
def test_outer_gradient_is_that_of_finite_differences_in_every_part(algorithm: str) -> None:
    for name, measured, claimed in slopes(made_as(algorithm), random_episode()):
        assert claimed == pytest.approx(measured, rel=1e-4, abs=1e-7), name
        assert abs(claimed) > 1e-7, name  # what does not adapt learns too


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("algorithm", "part"), [("anil", "head."), ("boil", "backbone.")])
def test_only_that_part_changes_within_a_task(algorithm: str, part: str, engine: str) -> None:
    made, episode = made_as(algorithm, engine), random_episode()
    adapted = made.run_inner_loop(episode.support, episode.query.x).parameters
    own = dict(made.network.named_parameters())
    assert set(adapted) == {name for name in own if name.startswith(part)}
    for name, value in adapted.items():
        assert (value - own[name]).abs().max() > 1e-6, name
