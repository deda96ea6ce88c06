"""ProMP's corrected estimator, on decision processes whose trajectories can all be listed, and the clipped steps."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from metashot.algorithms.reinforcement.proximal import ProximalPolicy

from .fits import batches, fit
from .tiny import Steps, adapted, learner, policy, tried, values_of

STATES, CHOICES = 2, 3
DRAWS = torch.Generator().manual_seed(0)
REWARDS = torch.randn(STATES, CHOICES, generator=DRAWS, dtype=torch.double)
TRANSITIONS = torch.rand(STATES, CHOICES, STATES, generator=DRAWS, dtype=torch.double).softmax(-1)
LOGITS = torch.randn(STATES * CHOICES, generator=DRAWS, dtype=torch.double)

Listed = list[tuple[list[int], list[int], float]]


def listed(horizon: int) -> Listed:
    """The states and actions of all trajectories, with the probability of their transitions; they start in state 0."""
    found = []
    for later in itertools.product(range(STATES), repeat=horizon - 1):
        for actions in itertools.product(range(CHOICES), repeat=horizon):
            states = [0, *later]
            chance = 1.0
            for step in range(horizon - 1):
                chance *= float(TRANSITIONS[states[step], actions[step], states[step + 1]])
            found.append((states, list(actions), chance))
    return found


def log_probabilities(logits: Tensor, states: list[int], actions: list[int]) -> Tensor:
    return logits.view(STATES, CHOICES).log_softmax(-1)[states, actions]


def to_go(states: list[int], actions: list[int]) -> Tensor:
    return REWARDS[states, actions].flip(0).cumsum(0).flip(0)


def expected_return(horizon: int) -> Any:
    def total(logits: Tensor) -> Tensor:
        parts = [
            chance * log_probabilities(logits, states, actions).sum().exp() * REWARDS[states, actions].sum()
            for states, actions, chance in listed(horizon)
        ]
        return torch.stack(parts).sum()

    return total


def expected_estimate(outer: str, horizon: int) -> Any:
    """Minus the inner loss of a learner, averaged over the trajectories of the policy with LOGITS."""
    made = learner("discrete", outputs=CHOICES, outer=outer)

    def estimate(logits: Tensor) -> Tensor:
        parts = []
        for states, actions, chance in listed(horizon):
            old = log_probabilities(LOGITS, states, actions)
            numbers = torch.tensor(actions, dtype=torch.double), to_go(states, actions), torch.ones(horizon), old
            y = torch.stack(numbers, -1)
            parts.append(-chance * old.sum().exp() * made.inner_loss(logits.view(STATES, CHOICES)[states], y))
        return torch.stack(parts).sum()

    return estimate


def derivatives(function: Any) -> tuple[Tensor, Tensor]:
    gradient = torch.func.grad(function)(LOGITS)
    return gradient, torch.autograd.functional.hessian(function, LOGITS)  # type: ignore[no-untyped-call]


def cross_terms(horizon: int) -> Tensor:
    """What the low-variance estimator leaves out (H12 and its transpose in Rothfuss et al. 2019, section 5): how earlier
    actions change what later ones are worth."""
    total = torch.zeros(len(LOGITS), len(LOGITS), dtype=torch.double)
    for states, actions, chance in listed(horizon):
        probability = chance * log_probabilities(LOGITS, states, actions).sum().exp()
        scores = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
            lambda logits, states=states, actions=actions: log_probabilities(logits, states, actions), LOGITS
        )
        for before, after in itertools.combinations(range(horizon), 2):
            product = torch.outer(scores[before], scores[after]) * to_go(states, actions)[after]
            total += probability * (product + product.T)
    return total


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_gradients_of_both_estimators_are_the_policy_gradient(horizon: int, outer: str) -> None:
    torch.testing.assert_close(derivatives(expected_estimate(outer, horizon))[0], derivatives(expected_return(horizon))[0])


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_derivative_of_the_corrected_estimator_is_that_of_the_expected_return_but_for_the_cross_terms(horizon: int) -> None:
    _, found = derivatives(expected_estimate("ppo", horizon))
    _, expected = derivatives(expected_return(horizon))
    torch.testing.assert_close(found + cross_terms(horizon), expected)
    assert bool(cross_terms(horizon).any()) == (horizon > 1)


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_derivative_of_the_plain_estimator_is_not(horizon: int) -> None:
    """It lacks how the policy before the update chose its actions, even where there is one action alone."""
    _, plain = derivatives(expected_estimate("trpo", horizon))
    _, expected = derivatives(expected_return(horizon))
    error = (plain + cross_terms(horizon) - expected).norm() / expected.norm()
    assert error > 0.3


def test_clipped_gain_is_the_pessimistic_one() -> None:
    ratios, advantages = torch.tensor([0.5, 1, 2, 0.5, 1, 2]), torch.tensor([1.0, 1, 1, -1, -1, -1])
    found = ProximalPolicy(1, 0.25, 0.0).clipped(ratios, advantages)
    assert found.tolist() == [0.5, 1, 1.25, -0.75, -1, -2]


def again(made: Any, found: Any, judged: Any, theta: Any) -> Tensor:
    """What a step of `outer=ppo` minimises, with torch's distributions."""
    gains, penalties = [], []
    for task in range(len(judged.outputs)):
        steps = Steps(made, judged, task)
        ratios = steps.ratios(policy(made, adapted(made, dict(theta), found, task), steps.x))
        clipped = ratios.clamp(1 - made.ppo.clip, 1 + made.ppo.clip)
        gains.append(torch.minimum(ratios * steps.advantages, clipped * steps.advantages).mean())
        for step, one in enumerate(found):
            tried_steps = Steps(made, one, task)
            now = policy(made, adapted(made, dict(theta), found[:step], task), tried_steps.x)
            penalties.append(torch.distributions.kl_divergence(tried_steps.old, now).mean())
    return made.ppo.penalty * torch.stack(penalties).mean() - torch.stack(gains).mean()


@pytest.mark.parametrize("steps", [1, 2])
def test_clipped_steps_are_those_of_adam_on_the_same_trajectories(steps: int) -> None:
    """The optimiser is torch's own, on a loss that is computed again."""
    made, given = batches("mazes", 0, outer="ppo", ppo=ProximalPolicy(4, 0.1, 0.5), inner_steps=steps)
    theta = {name: value.requires_grad_() for name, value in values_of(made).items()}
    optimizer = torch.optim.Adam(list(theta.values()), lr=0.01)
    initial = made.initial(len(given[0]))
    found, at = [], initial
    for step in range(steps):
        found.append(made.tried(given[0], at, 6, 2 * step + 1))
        at = made.updated(at, found[-1].examples, step)
    judged = made.tried(given[0], at, 6, 2 * steps)
    for _ in range(4):
        optimizer.zero_grad()
        loss = again(made, found, judged, theta)
        for value, gradient in zip(theta.values(), torch.autograd.grad(loss, list(theta.values())), strict=True):
            value.grad = gradient
        optimizer.step()
    fit(made, given[:1])
    for name, value in made.network.named_parameters():
        torch.testing.assert_close(value.detach(), theta[name].detach(), rtol=1e-7, atol=1e-9)


def test_both_inner_updates_are_the_same_where_the_policy_played() -> None:
    found = [tried(learner(outer=outer), 2)[1].outputs for outer in ("trpo", "ppo")]
    torch.testing.assert_close(found[0], found[1])
    assert isinstance(policy(learner(), values_of(learner()), torch.zeros(1, 3).double()), Categorical)
