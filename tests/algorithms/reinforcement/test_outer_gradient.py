"""The outer gradient through inner steps against finite differences of a computation of its own, and the engines."""

from typing import Any

import pytest
import torch
from torch import Tensor

from metashot.algorithms.reinforcement.maml_rl import MAMLRL

from .tiny import (
    ENGINES,
    IN_CHUNKS,
    Actions,
    adapted,
    flat,
    gain_and_divergence,
    learner,
    moved,
    objective,
    tried,
    values_of,
)

STEP = 1e-5


def gradient_of_gain(made: MAMLRL, steps: int, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The gain and its outer gradient, on trajectories of the initial parameters, at parameters that may lie elsewhere."""
    found, judged = tried(made, steps)
    if offset is not None:
        with torch.no_grad():
            for parameter, value in zip(made.network.parameters(), moved(values_of(made), offset).values(), strict=True):
                parameter.copy_(value)
    gain = made.objective(found, judged).gain
    return gain, flat(torch.autograd.grad(gain, list(made.network.parameters())))


def differences(function: Any, size: int) -> Tensor:
    """Central finite differences of a function of a vector, at zero."""
    units = STEP * torch.eye(size, dtype=torch.double)
    return torch.stack([(function(unit) - function(-unit)) / (2 * STEP) for unit in units])


@pytest.mark.parametrize("elsewhere", [False, True], ids=["where the policies played", "elsewhere"])
@pytest.mark.parametrize("outer", ["trpo", "ppo"])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_outer_gradient_is_that_of_finite_differences(actions: Actions, steps: int, outer: str, elsewhere: bool) -> None:
    """Later steps of `outer=ppo` and line searches evaluate policies away from those that played."""
    made = learner(actions, outer=outer)
    theta = values_of(made)
    size = len(flat(theta.values()))
    offset = 0.1 * torch.randn(size, dtype=torch.double, generator=torch.Generator().manual_seed(7)) * elsewhere
    found, judged = tried(made, steps)
    gain, gradient = gradient_of_gain(made, steps, offset)
    start = moved(theta, offset)
    expected = differences(lambda by: objective(made, moved(start, by), found, judged)[0].detach(), size)
    torch.testing.assert_close(gain, objective(made, start, found, judged)[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    assert expected.abs().max() > 0.01


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_first_order_takes_the_gradient_at_the_adapted_policies(actions: Actions) -> None:
    made = learner(actions, first_order=True)
    _, gradient = gradient_of_gain(made, 2)
    _, whole = gradient_of_gain(learner(actions), 2)
    found, judged = tried(made, 2)
    after = [adapted(made, values_of(made), found, task) for task in range(len(judged.outputs))]
    size = len(gradient)
    expected = differences(
        lambda by: gain_and_divergence(made, [moved(theta, by) for theta in after], judged)[0].detach(), size
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    assert (gradient - whole).norm() > 0.05 * whole.norm()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("outer", ["trpo", "ppo"])
@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_engines_agree(actions: Actions, outer: str, first_order: bool) -> None:
    results = []
    for engine in (*ENGINES.values(), IN_CHUNKS):
        made = learner(actions, engine, outer=outer, first_order=first_order)
        found, judged = tried(made, 2)
        parts = [*made.objective(found, judged), made.clipped_gain(found, judged), made.penalty(found, judged)]
        parameters = list(made.network.parameters())
        gradients = [torch.autograd.grad(part, parameters, retain_graph=True, allow_unused=True) for part in parts]
        assert all(gradient is not None for part in gradients for gradient in part)
        results.append((parts, [flat(part) for part in gradients], judged.outputs))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-9, atol=1e-12)
    assert results[0][1][0].norm() > 0.01


def test_a_policy_without_updates_is_the_network_itself() -> None:
    made = learner(inner_steps=0)
    found, judged = tried(made, 0)
    gain, gradient = gradient_of_gain(made, 0)
    theta = values_of(made)
    expected = differences(lambda by: objective(made, moved(theta, by), found, judged)[0].detach(), len(gradient))
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    assert gain.detach().abs() < 1e-12  # normalised advantages have mean zero where policies played
