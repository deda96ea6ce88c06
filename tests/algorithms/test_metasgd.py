"""Meta-SGD's outer gradient, of the parameters and of their step sizes, against learn2learn's MetaSGD and finite
differences."""

import pytest
import torch
import torch.nn.functional as F

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
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


def made_with(engine: str = "learn2learn", first_order: bool = False) -> GradientLearner:
    """With step sizes that differ from element to element, a few of them negative."""
    torch.manual_seed(0)
    backbone = Conv4((1, 16, 16), 3, "pool", "transductive")
    made = learner("metasgd", backbone, engine=ENGINES[engine], steps=STEPS, first_order=first_order)
    with torch.no_grad():
        for sizes in made.alpha:
            sizes += 0.2 * torch.randn_like(sizes)
    return made.train()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
def test_outer_gradient_is_that_of_learn2learns_own_meta_sgd(first_order: bool, engine: str) -> None:
    made, episode = made_with(engine, first_order), random_episode(tasks=3)
    plain = plain_network(made.network)
    names = {id(parameter): name for name, parameter in made.network.named_parameters()}
    sizes = dict(zip(made.adapted_names, made.alpha, strict=True))
    own_sizes = torch.nn.ParameterList(sizes[names[id(parameter)]] for parameter in plain.parameters())
    theirs = library().MetaSGD(plain, lrs=own_sizes, first_order=first_order)
    losses = []
    for task in range(len(episode)):
        clone = theirs.clone()
        for _ in range(STEPS):
            clone.adapt(F.cross_entropy(clone(episode.support.x[task]), episode.support.y[task]))
        losses.append(F.cross_entropy(clone(episode.query.x[task]), episode.query.y[task]))
    parameters = dict(made.named_parameters())
    assert sum(name.startswith("alpha.") for name in parameters) == len(list(plain.parameters()))
    expected = torch.autograd.grad(torch.stack(losses).mean(), list(parameters.values()))
    assert_same(outer_gradient(made, episode), dict(zip(parameters, expected, strict=True)))


def test_outer_gradient_is_that_of_finite_differences() -> None:
    for name, measured, claimed in slopes(made_with(), random_episode()):
        assert claimed == pytest.approx(measured, rel=1e-4, abs=1e-7), name
        assert abs(claimed) > 1e-7, name


def test_after_one_step_the_gradient_of_a_step_size_is_minus_the_product_of_two_gradients() -> None:
    """d L_query(theta - alpha o g) / d alpha = - g o L_query'(theta')."""
    torch.manual_seed(0)
    made = learner("metasgd", MLP((1, 4, 4), [5], "transductive"), steps=1, inner_lr=0.25).train()
    episode = random_episode(1, (1, 4, 4))
    plain = plain_network(made.network)
    parameters = list(plain.parameters())
    inner = torch.autograd.grad(F.cross_entropy(plain(episode.support.x[0]), episode.support.y[0]), parameters)
    found = outer_gradient(made, episode)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, inner, strict=True):
            parameter -= 0.25 * gradient
    outer = torch.autograd.grad(F.cross_entropy(plain(episode.query.x[0]), episode.query.y[0]), parameters)
    names = {id(parameter): name for name, parameter in made.network.named_parameters()}
    for parameter, of_support, of_queries in zip(parameters, inner, outer, strict=True):
        position = made.adapted_names.index(names[id(parameter)])
        torch.testing.assert_close(found[f"alpha.{position}"], -of_support * of_queries, rtol=1e-8, atol=1e-11)


def test_every_parameter_that_adapts_begins_with_the_inner_rate_in_its_own_shape() -> None:
    made = learner("metasgd", MLP((1, 4, 4), [5], "none"), adapts=["head.*"], inner_lr=0.25)
    parameters = dict(made.network.named_parameters())
    assert [tuple(sizes.shape) for sizes in made.alpha] == [tuple(parameters[name].shape) for name in made.adapted_names]
    assert all(bool((sizes == 0.25).all()) and sizes.requires_grad for sizes in made.alpha)


def test_step_sizes_begin_at_one_number_or_at_random_in_a_range() -> None:
    backbone = MLP((1, 16, 16), [8], "none")
    alike = learner("metasgd", backbone, inner_lr=0.02)
    assert all((sizes == 0.02).all() for sizes in alike.alpha.float())
    sizes = torch.cat([part.flatten() for part in learner("metasgd", backbone, inner_lr=0.005, inner_lr_until=0.1).alpha])
    assert 0.005 <= sizes.min() < 0.01
    assert 0.095 < sizes.max() <= 0.1
    assert sizes.mean().item() == pytest.approx(0.0525, abs=0.005)
    with pytest.raises(BadInput, match=r"algo\.inner_lr_until=0\.1 is below algo\.inner_lr=0\.2"):
        learner("metasgd", backbone, inner_lr=0.2, inner_lr_until=0.1)
