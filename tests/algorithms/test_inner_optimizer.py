"""Inner optimisers against those of torch, and that their steps can be differentiated where there is nothing to follow."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.backbones.mlp import MLP
from tests.algorithms.gradient_learners import (
    ENGINES,
    assert_same,
    learner,
    outer_gradient,
    plain_network,
    random_episode,
    slopes,
)

RATE, STEPS = 0.05, 7
TORCHS: dict[str, Callable[[list[Tensor], float], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, decay: torch.optim.SGD(parameters, RATE),
    "momentum": lambda parameters, decay: torch.optim.SGD(parameters, RATE, momentum=decay),
    "adam": lambda parameters, decay: torch.optim.Adam(parameters, RATE, betas=(decay, 0.999), eps=1e-8),
}


def starts() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in {"a": (3, 2), "b": (4,)}.items()
    }


def loss(theta: dict[str, Tensor]) -> Tensor:
    return (theta["a"] ** 4).sum() + (theta["b"] * theta["a"].sum()).cos().sum() + theta["b"].exp().sum()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", TORCHS)
def test_steps_are_those_of_torch(name: str, decay: float) -> None:
    theirs = {name: value.clone().requires_grad_() for name, value in starts().items()}
    descent = TORCHS[name](list(theirs.values()), decay)
    own, optimizer = starts(), InnerOptimizer(name, decay)
    state = optimizer.initial_state(own)
    for step in range(STEPS):
        descent.zero_grad()
        loss(theirs).backward()
        gradients = {name: value.grad.clone() for name, value in theirs.items() if value.grad is not None}
        descent.step()
        directions, state = optimizer.directions(gradients, state, step)
        own = {name: own[name] - RATE * directions[name] for name in own}
        for name, value in theirs.items():
            torch.testing.assert_close(own[name], value.detach(), rtol=1e-6, atol=1e-9)
    assert all((own[name] - value).abs().min() > 1e-3 for name, value in starts().items())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TORCHS)
def test_a_task_adapts_as_plain_torch_does(name: str, engine: str) -> None:
    torch.manual_seed(0)
    settings = {"inner_optimizer": InnerOptimizer(name, 0.9), "inner_lr": RATE, "steps": STEPS}
    made = learner("maml", MLP((1, 4, 4), [5], "transductive"), engine=ENGINES[engine], **settings).eval()
    episode = random_episode(2, (1, 4, 4))
    with torch.no_grad():
        adapted = made.run_inner_loop(episode.support, episode.query.x)
    start = {name: value.clone() for name, value in made.state_dict().items()}
    for task in range(2):
        made.load_state_dict(start)
        plain = plain_network(made.network)
        descent = TORCHS[name](list(plain.parameters()), 0.9)
        for _ in range(STEPS):
            descent.zero_grad()
            F.cross_entropy(plain(episode.support.x[task]), episode.support.y[task]).backward()
            descent.step()
        own = {name: value[task] for name, value in adapted.parameters.items()}
        assert_same(own, {name: value.detach() for name, value in made.network.named_parameters()}, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("name", TORCHS)
def test_outer_gradients_are_numbers_where_a_unit_is_dead(name: str, first_order: bool, engine: str) -> None:
    """And its inner gradients are exactly zero; the outer gradient of what does live is that of finite differences."""
    torch.manual_seed(0)
    settings = {"inner_optimizer": InnerOptimizer(name, 0.5), "inner_lr": RATE, "steps": 3, "first_order": first_order}
    made = learner("maml", MLP((1, 4, 4), [5], "none"), engine=ENGINES[engine], **settings).train()
    with torch.no_grad():
        made.network.backbone.normalisations[0].bias[0] = -100
    episode = random_episode(2, (1, 4, 4))
    gradients = outer_gradient(made, episode)
    assert gradients["network.backbone.linears.0.weight"][0].tolist() == [0] * 16
    assert gradients["network.backbone.linears.0.weight"][1:].abs().max() > 1e-4
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    if not first_order:
        for parameter, measured, claimed in slopes(made, episode):
            assert claimed == pytest.approx(measured, rel=1e-4, abs=1e-8), parameter


def test_adam_can_be_differentiated_at_gradients_of_zero_in_single_precision() -> None:
    optimizer = InnerOptimizer("adam", 0.9)
    gradients = {"a": torch.tensor([0.0, 1e-12, 1.0], requires_grad=True)}
    state = optimizer.initial_state(gradients)
    for step in range(3):
        directions, state = optimizer.directions(gradients, state, step)
    (derivative,) = torch.autograd.grad(directions["a"].sum(), gradients["a"])
    assert bool(derivative.isfinite().all())


def test_each_remembers_only_what_it_needs() -> None:
    remembered = {name: set(InnerOptimizer(name, 0.9).initial_state(starts())) for name in TORCHS}
    assert remembered == {"sgd": set(), "momentum": {"m a", "m b"}, "adam": {"m a", "m b", "v a", "v b"}}
