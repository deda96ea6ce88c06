"""The trust region: conjugate gradients, curvature, and the limit of the divergence after the optimiser's step."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from metashot.algorithms.reinforcement.maml_rl import MAMLRL, Tried
from metashot.algorithms.reinforcement.trust_region import Objective, Taken, TrustRegion, conjugate_gradient
from metashot.bad_input import BadInput
from metashot.worlds import Worlds

from .fits import batches, fit
from .tiny import TRPO, Actions, Steps, Values, adapted, flat, learner, moved, objective, policy, tried, values_of


def region(**given: Any) -> TrustRegion:
    return TrustRegion(**TRPO | given)


def positive_definite(size: int) -> Tensor:
    root = torch.randn(size, size, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    return root @ root.T + torch.eye(size, dtype=torch.double)


def test_conjugate_gradients_solve_a_system() -> None:
    a, b = positive_definite(8), torch.arange(1.0, 9, dtype=torch.double)
    torch.testing.assert_close(conjugate_gradient(a.matmul, b, 30), torch.linalg.solve(a, b), rtol=1e-6, atol=1e-6)


def test_conjugate_gradients_stop_after_as_many_iterations_and_find_nothing_for_nothing() -> None:
    a, b = positive_definite(8), torch.arange(1.0, 9, dtype=torch.double)
    torch.testing.assert_close(conjugate_gradient(a.matmul, b, 1), b * (b @ b) / (b @ a @ b))
    assert not conjugate_gradient(a.matmul, torch.zeros_like(b), 5).any()


def stepped(trpo: TrustRegion, start: Tensor, gain: Any, divergence: Any, curved: Any = None) -> tuple[Taken, Tensor]:
    """The step of a function of one vector, and the vector after the call, which must be the same."""
    parameter = nn.Parameter(start.clone())
    taken = trpo.step(
        [parameter],
        lambda: Objective(gain(parameter), divergence(parameter)),
        lambda: (curved or divergence)(parameter),
        lambda value: value,
    )
    return taken, parameter.detach()


def test_step_to_first_and_second_order_is_that_of_the_paper() -> None:
    """sqrt(2 delta / g' A^-1 g) A^-1 g, for which the divergence is delta."""
    a, g, start = positive_definite(4), torch.tensor([1.0, -2, 0.5, 3], dtype=torch.double), torch.ones(4).double()
    trpo = region(conjugate_gradients=20, damping=0.0)

    def divergence(theta: Tensor) -> Tensor:
        return (theta - start) @ a @ (theta - start) / 2

    # A little less is measured, so that rounding does not decide.
    taken, after = stepped(trpo, start, lambda theta: g @ theta, lambda theta: 0.9999 * divergence(theta), divergence)
    newton = torch.linalg.solve(a, g)
    torch.testing.assert_close(taken.difference[0], (0.02 / (g @ newton)).sqrt() * newton, rtol=1e-5, atol=1e-7)
    assert taken.divergence.item() == pytest.approx(0.009999)
    torch.testing.assert_close(taken.gradient_norm, g.norm())
    assert torch.equal(after, start)


def test_step_is_shortened_until_it_is_within_the_limit_and_better() -> None:
    start, g = torch.zeros(2).double(), torch.tensor([3.0, 4.0], dtype=torch.double)
    whole = (0.02**0.5) * g / 5  # with a curvature of 1
    trpo = region(damping=0.0, shrink=0.5)

    def quadratic(theta: Tensor) -> Tensor:
        return theta @ theta / 2

    taken, _ = stepped(trpo, start, lambda theta: g @ theta, lambda theta: 10 * quadratic(theta), curved=quadratic)
    torch.testing.assert_close(taken.difference[0], whole / 4)  # the first at which 10 * scale^2 is at most 1
    taken, _ = stepped(
        trpo, start, lambda theta: g @ theta - 30 * theta @ theta, lambda theta: 0.9 * quadratic(theta), quadratic
    )
    torch.testing.assert_close(taken.difference[0], whole)  # 5 * 0.14 - 30 * 0.02 is above 0
    taken, _ = stepped(
        trpo, start, lambda theta: g @ theta - 60 * theta @ theta, lambda theta: 0.9 * quadratic(theta), quadratic
    )
    torch.testing.assert_close(taken.difference[0], whole / 2)  # 5 * 0.14 - 60 * 0.02 is not


@pytest.mark.parametrize("what", ["never better", "never near", "no gradient", "gain without numbers", "no curvature"])
def test_a_step_that_cannot_be_good_is_none(what: str) -> None:
    start, g = torch.ones(3).double(), torch.tensor([1.0, 2, 3], dtype=torch.double)

    def gain(theta: Tensor) -> Tensor:
        moved_away = bool((theta != start).any())
        if what == "never better" and moved_away:
            return g @ start - 1 + 0 * theta.sum()
        if what == "gain without numbers" and moved_away:
            return theta.sum() * float("nan")
        return 0 * theta.sum() if what == "no gradient" else g @ theta

    def divergence(theta: Tensor) -> Tensor:
        if what == "never near" and bool((theta != start).any()):
            return theta.sum() * 0 + 1
        if what == "no curvature":
            return 0 * theta.square().sum()
        return (theta - start).square().sum()

    taken, after = stepped(region(damping=0.0), start, gain, divergence)
    assert torch.equal(taken.difference[0], torch.zeros(3, dtype=torch.double))
    assert torch.equal(after, start)
    assert taken.divergence == 0


def test_a_gradient_that_is_not_finite_is_handed_on() -> None:
    start = torch.ones(3).double()
    taken, after = stepped(region(), start, lambda theta: (theta * float("nan")).sum(), lambda theta: theta.square().sum())
    assert taken.difference[0].isnan().all()
    assert torch.equal(after, start)


@pytest.mark.parametrize("actions", ["discrete", "continuous"])
def test_curvature_is_the_finite_difference_of_the_divergences_gradient(actions: Actions) -> None:
    """The step solves (H + damping) d = c g with a Hessian H of finite differences, and is as long as it should be."""
    limit, damping = 1e-8, 0.05  # the whole step is taken
    made = learner(actions, max_divergence=limit, damping=damping, conjugate_gradients=200)
    found, judged = tried(made, 1)
    theta = values_of(made)
    size = len(flat(theta.values()))

    def slope(by: Tensor) -> Tensor:
        at = {name: value.requires_grad_() for name, value in moved(theta, by).items()}
        return flat(torch.autograd.grad(objective(made, at, found, judged)[1], list(at.values())))

    units = 1e-5 * torch.eye(size, dtype=torch.double)
    hessian = torch.stack([(slope(unit) - slope(-unit)) / 2e-5 for unit in units])
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-4, atol=1e-7)
    at = {name: value.requires_grad_() for name, value in theta.items()}
    gradient = flat(torch.autograd.grad(objective(made, at, found, judged)[0], list(at.values())))
    newton = torch.linalg.solve(hessian + damping * torch.eye(size).double(), gradient)
    taken = made.trpo.step(
        list(made.network.parameters()),
        lambda: made.objective(found, judged),
        lambda: made.objective(found, judged).divergence,
        lambda value: value,
    )
    expected = (2 * limit / (gradient @ newton)).sqrt() * newton
    assert (flat(taken.difference) - expected).norm() < 1e-3 * expected.norm()
    assert hessian.norm() > damping


def test_curvature_of_every_third_world_is_that_of_these_alone() -> None:
    made = learner(curvature_every=3)
    found, judged = tried(made, 1)
    some = made._some(torch.tensor([4, 5, 6]))
    assert some.tolist() == [2]
    theta = moved(values_of(made), 0.05 * torch.ones(len(flat(values_of(made).values())), dtype=torch.double))
    with torch.no_grad():
        for parameter, value in zip(made.network.parameters(), theta.values(), strict=True):
            parameter.copy_(value)
    few = [one.of_worlds(some) for one in found], judged.of_worlds(some)
    adapted_policy = adapted(made, dict(theta), found, 2)
    steps = Steps(made, judged, 2)
    expected = kl_divergence(steps.old, policy(made, adapted_policy, steps.x)).mean()
    torch.testing.assert_close(made.objective(*few).divergence, expected, rtol=1e-10, atol=1e-14)
    with pytest.raises(BadInput, match=r"algo.trpo.curvature_every=3 takes one of 3 worlds, but each device has 4"):
        made.refuse_share(4)


class Watched(MAMLRL):
    """Remembers what its steps were taken on, and the parameters before and after them."""

    def _trust_region_step(self, worlds: Worlds, tried: list[Tried], judged: Tried) -> dict[str, Tensor]:
        before = values_of(self)
        found = super()._trust_region_step(worlds, tried, judged)
        self.seen.append((tried, judged, before, values_of(self), found))
        return found


Seen = list[tuple[list[Tried], Tried, Values, Values, dict[str, Tensor]]]


def watched(made: MAMLRL) -> Seen:
    made.__class__ = Watched
    seen: Seen = []
    made.seen = seen  # type: ignore[assignment]
    return seen


@pytest.mark.parametrize("double", [True, False], ids=["64 bit", "32 bit"])
@pytest.mark.parametrize("name", ["mazes", "navigation"])
def test_divergence_is_within_its_limit_after_the_optimisers_step_and_the_gain_rose(
    name: str, double: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed again with torch's distributions, from the parameters after the step alone."""
    accepted: list[list[Tensor]] = []
    step = TrustRegion.step

    def remembering(self: TrustRegion, parameters: Any, *rest: Any) -> Taken:
        taken = step(self, parameters, *rest)
        accepted.append([value.detach() + part for value, part in zip(parameters, taken.difference, strict=True)])
        return taken

    monkeypatch.setattr(TrustRegion, "step", remembering)
    steps = none = 0
    for seed in range(5):
        made, given = batches(name, seed, double, max_divergence=0.02)
        seen = watched(made)
        fit(made, given)
        for found, judged, before, after, measured in seen:
            gain, divergence = objective(made, before, found, judged)
            new_gain, new_divergence = objective(made, after, found, judged)
            precise = 1e-9 if double else 1e-5
            assert max(abs(gain), abs(divergence)) < precise
            assert new_divergence <= 0.02 * (1 + 1e-3)
            none += all(map(torch.equal, after.values(), before.values()))
            assert new_gain > gain or all(map(torch.equal, after.values(), before.values()))
            torch.testing.assert_close(measured["kl_divergence"], new_divergence.detach(), rtol=1e-3, atol=precise)
            torch.testing.assert_close(measured["surrogate_gain"], new_gain.detach(), rtol=1e-3, atol=precise)
            assert all(map(torch.equal, after.values(), accepted[steps]))
            steps += 1
    assert steps == len(accepted) == 15
    assert none <= 2  # with so few trajectories, some directions are good for no step
