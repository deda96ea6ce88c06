"""Advantages against the sums of the papers and scikit-learn's ridge regression, where trajectories end early too."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from metashot.algorithms.reinforcement.advantages import (
    discounted_sums,
    generalised_advantages,
    linear_baseline,
    normalised,
)
from metashot.worlds import Trajectories

from .tiny import Actions, flat, learner, trajectories

GAMMA, LAMBDA = 0.9, 0.7


def test_discounted_sums_are_those_of_a_double_loop() -> None:
    rewards = torch.randn(2, 3, 6, dtype=torch.double)
    found = discounted_sums(rewards, GAMMA)
    for t, n, h in itertools.product(range(2), range(3), range(6)):
        expected = sum(GAMMA ** (later - h) * float(rewards[t, n, later]) for later in range(h, 6))
        assert float(found[t, n, h]) == pytest.approx(expected)


@pytest.mark.parametrize("trace", [0.0, LAMBDA, 1.0])
def test_generalised_advantages_are_the_weighted_sums_of_all_estimates(trace: float) -> None:
    """(1 - lambda) sum of lambda^(k - 1) times the advantage that looks k steps ahead, equation 16 of the paper."""
    draws = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(6, generator=draws, dtype=torch.double) for _ in range(2))
    found = generalised_advantages(rewards, values, GAMMA, trace)
    for h in range(6):
        total, left = 0.0, 6 - h

        def ahead(k: int, h: int = h) -> float:
            seen = sum(GAMMA**j * float(rewards[h + j]) for j in range(k))
            after = GAMMA**k * float(values[h + k]) if h + k < 6 else 0.0
            return seen + after - float(values[h])

        for k in range(1, left):
            total += (1 - trace) * trace ** (k - 1) * ahead(k)
        total += trace ** (left - 1) * ahead(left)  # all further estimates are this one
        assert float(found[h]) == pytest.approx(total)


def with_values_after_ends(given: Trajectories, value: float) -> Trajectories:
    def filled(part: Tensor) -> Tensor:
        taken = given.taken.view(*given.taken.shape, *(1,) * (part.ndim - 3))
        return torch.where(taken, part, torch.tensor(value).to(part))

    return Trajectories(filled(given.observations), filled(given.actions), given.rewards, given.taken)


def test_baseline_is_the_ridge_regression_of_each_world() -> None:
    given = trajectories("continuous", seed=1)
    given.observations.mul_(5)  # some lie beyond 10, where they are cut off
    found = linear_baseline(given, GAMMA)
    for task in range(3):
        features, returns, places = [], [], []
        for n in range(4):
            length = int(given.taken[task, n].sum())
            rewards = given.rewards[task, n, :length].numpy()
            for h in range(length):
                seen = np.clip(given.observations[task, n, h].numpy(), -10, 10)
                features.append([*seen, *seen**2, h / 100, (h / 100) ** 2, (h / 100) ** 3, 1])
                returns.append(sum(GAMMA ** (later - h) * rewards[later] for later in range(h, length)))
                places.append((task, n, h))
        ridge = Ridge(alpha=1e-5, fit_intercept=False, solver="svd").fit(np.array(features), np.array(returns))
        for place, expected in zip(places, ridge.predict(np.array(features)), strict=True):
            assert float(found[place]) == pytest.approx(expected, abs=1e-6)
    assert not found[~given.taken].any()


def test_baseline_takes_inputs_that_say_the_same_twice() -> None:
    """Of a state as one of n, its square and a constant, many sums are the same; a description is constant in a world."""
    states = torch.nn.functional.one_hot(torch.arange(40).view(2, 2, 10) % 5, 5).double()
    told = torch.full((2, 2, 10, 30), 3.0, dtype=torch.double)
    taken = torch.ones(2, 2, 10, dtype=torch.bool)
    rewards = torch.randn(2, 2, 10, dtype=torch.double)
    both = linear_baseline(Trajectories(torch.cat([states, told], -1), rewards, rewards, taken), GAMMA)
    alone = linear_baseline(Trajectories(states, rewards, rewards, taken), GAMMA)
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_nothing_after_the_end_of_a_trajectory_changes_a_number(actions: Actions) -> None:
    made = learner(actions)
    given = trajectories(actions, seed=3)
    assert not given.taken.all()
    theta = made.initial(3)
    plain, filled = (made.as_tried(one, theta) for one in (given, with_values_after_ends(given, 1.0)))
    found = [
        (*made.objective([one], one), made.clipped_gain([one], one), made.penalty([one], one)) for one in (plain, filled)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-14)
    parameters = list(made.network.parameters())
    gradients = [flat(torch.autograd.grad(part[0], parameters)) for part in found]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-11, atol=1e-13)


def test_advantages_are_normalised_over_the_steps_of_each_world() -> None:
    given = trajectories("discrete", seed=2)
    advantages = torch.randn(given.taken.shape, dtype=torch.double) * 3 + 5
    found = normalised(advantages, given.taken)
    for task in range(3):
        taken = given.taken[task].numpy()
        values = advantages[task].numpy()[taken]
        np.testing.assert_allclose(found[task].numpy()[taken], (values - values.mean()) / values.std(), rtol=1e-6)
    assert not found[~given.taken].any()
    torch.testing.assert_close(normalised(advantages[:1], given.taken[:1]), found[:1])


def test_advantages_that_are_all_alike_are_nothing() -> None:
    assert not normalised(torch.zeros(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.bool)).any()
    assert normalised(torch.randn(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)).isfinite().all()
