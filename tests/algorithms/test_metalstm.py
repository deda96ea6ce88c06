"""The LSTM meta-learner against loops over coordinates, written out with numbers, and against gradients held constant."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.model.metalstm import Cell, MetaLSTM, preprocessed
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.problems import Classification
from tests.algorithms.gradient_learners import (
    ENGINES,
    assert_same,
    learner,
    outer_gradient,
    plain_network,
    random_episode,
)

WAYS, STEPS, HIDDEN = 3, 3, 3
Vector = NDArray[np.float64]


def made_with(engine: str = "learn2learn", **settings: Any) -> MetaLSTM:
    """With weights so large that every part of the gates matters."""
    torch.manual_seed(0)
    backbone = MLP((1, 4, 4), [5], "transductive")
    settings = {"steps": STEPS, "first_order": True, "engine": ENGINES[engine]} | settings
    made = learner("metalstm", backbone, Classification(WAYS), **settings)
    assert isinstance(made, MetaLSTM)
    with torch.no_grad():
        for parameter in made.cell.parameters():
            parameter += torch.empty_like(parameter).uniform_(-0.7, 0.7)
    return made


def preprocessed_by_hand(x: float) -> tuple[float, float]:
    if abs(x) >= math.exp(-10):
        return math.log(abs(x)) / 10, math.copysign(1.0, x)
    return -1.0, math.exp(10) * x


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("x", [0.0, 3.0, -3.0, 1.0, -1e-3, 1e-4, 4.6e-5, 4.5e-5, -4.5e-5, 1e-7, -1e-7])
def test_the_two_formulas_of_the_preprocessing(x: float) -> None:
    given = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    found = preprocessed(given)
    assert found.tolist() == pytest.approx(preprocessed_by_hand(x), rel=1e-12, abs=1e-12)
    found.sum().backward()
    assert given.grad is not None
    assert torch.isfinite(given.grad)


@pytest.mark.parametrize("engine", ENGINES)
def test_inner_steps_are_those_of_a_loop_over_coordinates(engine: str) -> None:
    made, episode = made_with(engine).train(), random_episode(2, (1, 4, 4), WAYS)
    result = made.run_inner_loop(episode.support, episode.query.x)
    weights = {name: value.detach().numpy() for name, value in made.cell.named_parameters()}
    plain = plain_network(made.network)
    names = {id(parameter): name for name, parameter in made.network.named_parameters()}
    parameters = {names[id(parameter)]: parameter for parameter in plain.parameters()}
    begun = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for task in range(2):
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(begun[name])
        carried: dict[tuple[str, int], tuple[Vector, Vector, float, float]] = {}  # h, c, i and f of each coordinate
        for step in range(STEPS):
            loss = F.cross_entropy(plain(episode.support.x[task]), episode.support.y[task])
            assert result.losses[task, step].item() == pytest.approx(loss.item(), rel=1e-9)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                flat = parameter.detach().view(-1)
                for place, slope in enumerate(gradient.flatten().tolist()):
                    zeros = np.zeros(HIDDEN)
                    h, c, i, f = carried.get((name, place), (zeros, zeros, 0.0, 0.0))
                    read = np.array([*preprocessed_by_hand(slope), *preprocessed_by_hand(loss.item()), *h])
                    gates = weights["lstm.weight"] @ read + weights["lstm.bias"]
                    kept, forgotten, new, out = (gates[part * HIDDEN : (part + 1) * HIDDEN] for part in range(4))
                    c = sigmoid(forgotten) * c + sigmoid(kept) * np.tanh(new)
                    h = sigmoid(out) * np.tanh(c)
                    theta = flat[place].item()
                    i = sigmoid(weights["W_I"] @ np.array([*h, theta, i]) + weights["b_I"])
                    f = sigmoid(weights["W_F"] @ np.array([*h, theta, f]) + weights["b_F"])
                    carried[name, place] = h, c, i, f
                    flat[place] = f * theta - i * slope
        for name, parameter in parameters.items():
            torch.testing.assert_close(result.parameters[name][task], parameter, rtol=1e-8, atol=1e-10)
            assert (result.parameters[name][task] - begun[name]).abs().max() > 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_the_outer_gradient_holds_gradients_and_losses_of_the_learner_constant(engine: str) -> None:
    """Against steps that are replayed with recorded gradients and losses."""
    made, episode = made_with(engine).train(), random_episode(2, (1, 4, 4), WAYS)
    parameters = dict(made.named_parameters())
    losses = []
    for task in range(2):
        theta = dict(made.network.named_parameters())
        state = {name: value[0] for name, value in made.initial_state({k: v[None] for k, v in theta.items()}).items()}
        for _ in range(STEPS):
            now = {name: value.detach().requires_grad_() for name, value in theta.items()}
            outputs = torch.func.functional_call(made.network, now, (episode.support.x[task : task + 1],))
            loss = F.cross_entropy(outputs[0], episode.support.y[task])
            slopes = torch.cat([slope.flatten() for slope in torch.autograd.grad(loss, list(now.values()))])
            flat = torch.cat([value.flatten() for value in theta.values()])
            state = made.cell(flat, slopes, loss.detach(), state)
            parts = (state["f"] * flat - state["i"] * slopes).split([value.numel() for value in theta.values()])
            theta = {name: part.view_as(theta[name]) for name, part in zip(theta, parts, strict=True)}
        answers = torch.func.functional_call(made.network, theta, (episode.query.x[task : task + 1],))
        losses.append(F.cross_entropy(answers[0], episode.query.y[task]))
    expected = torch.autograd.grad(torch.stack(losses).mean(), list(parameters.values()))
    named = dict(zip(parameters, expected, strict=True))
    assert_same(outer_gradient(made, episode), named)
    for name in ("cell.W_I", "cell.b_I", "cell.W_F", "cell.b_F", "cell.lstm.weight", "network.head.weight"):
        assert named[name].abs().max() > 1e-6, name


def test_all_coordinates_share_the_weights_of_the_gates() -> None:
    """There are as many weights for any network, and coordinates in another order have the same gates in that order."""
    small, large = (learner("metalstm", MLP((1, 4, 4), [size], "none"), Classification(WAYS)) for size in (2, 50))
    assert isinstance(small, MetaLSTM)
    assert isinstance(large, MetaLSTM)
    shapes = [[tuple(value.shape) for value in made.cell.parameters()] for made in (small, large)]
    assert shapes[0] == shapes[1]
    cell = made_with().cell
    theta, gradient, i, f = torch.randn(4, 7, dtype=torch.float64)
    state = {"i": i, "f": f, "h": torch.randn(7, HIDDEN).double(), "c": torch.randn(7, HIDDEN).double()}
    loss, order = torch.tensor(1.3, dtype=torch.float64), torch.randperm(7)
    straight = cell(theta, gradient, loss, state)
    turned = cell(theta[order], gradient[order], loss, {name: value[order] for name, value in state.items()})
    for name, value in straight.items():
        torch.testing.assert_close(turned[name], value[order])
    alone = cell(theta[2:3], gradient[2:3], loss, {name: value[2:3] for name, value in state.items()})
    torch.testing.assert_close(alone["i"], straight["i"][2:3])


def test_the_state_is_carried_from_step_to_step() -> None:
    made, episode = made_with().train(), random_episode(1, (1, 4, 4), WAYS)
    seen: list[Tensor] = []
    made.cell.register_forward_pre_hook(lambda _, given: seen.append(given[3]["h"].detach()))
    made.run_inner_loop(episode.support, episode.query.x)
    assert len(seen) == STEPS
    assert not seen[0].any()
    assert all(later.abs().min() > 0 for later in seen[1:])
    assert not torch.equal(seen[1], seen[2])


def test_training_begins_with_gradient_steps_of_the_given_size() -> None:
    torch.manual_seed(0)
    cell = Cell(20, 0.3).double()
    theta, gradient = torch.randn(2, 50, dtype=torch.float64)
    state = {"i": torch.zeros(50), "f": torch.zeros(50), "h": torch.zeros(50, 20), "c": torch.zeros(50, 20)}
    gates = cell(theta, gradient, torch.tensor(1.0).double(), {name: value.double() for name, value in state.items()})
    assert gates["i"].tolist() == pytest.approx([0.3] * 50, abs=0.02)
    assert gates["f"].min() > 0.99


def test_tasks_that_are_fused_adapt_as_others() -> None:
    results = []
    for fused in (False, True):
        torch.manual_seed(0)
        backbone = Conv4((1, 16, 16), 4, "pool", "transductive", fused=fused)
        made = learner("metalstm", backbone, Classification(WAYS), ENGINES["batched"], steps=2, first_order=True).float()
        episode = random_episode(2, (1, 16, 16), WAYS)
        results.append(made.train()(Examples(episode.support.x.float(), episode.support.y), episode.query.x.float()))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [1.0, 1.5])
def test_an_input_gate_cannot_begin_at_one(size: float) -> None:
    with pytest.raises(BadInput, match=rf"algo\.inner_lr={size} .*between 0 and 1"):
        learner("metalstm", MLP((1, 4, 4), [5], "none"), inner_lr=size)
