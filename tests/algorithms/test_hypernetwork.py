"""An algorithm whose tasks begin with parameters that a hypernetwork makes of their support sets."""

from typing import Any

import pytest
import torch
from torch import Tensor

from metashot.backbones.mlp import MLP
from metashot.episodes import Episode
from metashot.problems import Classification, Problem, Regression
from tests.algorithms.gradient_learners import ENGINES, learner, random_curves, random_episode, slopes
from tests.algorithms.hypernetwork import Hypernetwork

WAYS, STEPS = 3, 2
PROBLEMS = ["classes", "numbers"]


def made(problem: str, engine: str, **settings: Any) -> Hypernetwork:
    torch.manual_seed(0)
    of_tasks: Problem = Classification(WAYS) if problem == "classes" else Regression(1)
    backbone = MLP((1, 4, 4) if problem == "classes" else (1,), [5], "none")
    algorithm = learner("hypernetwork", backbone, of_tasks, ENGINES[engine], steps=STEPS, inner_lr=0.1, **settings)
    assert isinstance(algorithm, Hypernetwork)
    return algorithm


def episode(problem: str) -> Episode:
    return random_episode(4, (1, 4, 4), WAYS) if problem == "classes" else random_curves(4)


def trained(algorithm: Hypernetwork, problem: str, steps: int = 20) -> list[float]:
    """The losses of some steps on the same tasks."""
    descent, losses = torch.optim.Adam(algorithm.train().parameters(), 0.02), []
    for _ in range(steps):
        descent.zero_grad()
        loss = algorithm.training_loss(episode(problem)).loss
        loss.backward()
        descent.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_hypernetwork_trains_alike_with_both_engines(problem: str) -> None:
    one, other = (made(problem, engine) for engine in ENGINES)
    before = one.maker.weight.clone()
    losses = trained(one, problem)
    assert losses[-1] < 0.7 * losses[0]
    assert (one.maker.weight - before).abs().max() > 1e-3
    assert trained(other, problem) == pytest.approx(losses, rel=1e-6)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_its_gradients_are_those_of_finite_differences(problem: str, engine: str) -> None:
    algorithm = made(problem, engine)
    reached = set()
    for name, difference, gradient in slopes(algorithm.train(), episode(problem)):
        assert gradient == pytest.approx(difference, rel=1e-4, abs=1e-7), name
        reached.add(name)
    assert "maker.weight" in reached


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_its_curve_begins_with_what_the_hypernetwork_made_and_ends_with_its_answers(problem: str, engine: str) -> None:
    algorithm, asked = made(problem, engine).eval(), episode(problem)
    with torch.no_grad():
        curve = algorithm.answers_after_steps(asked)
        start = algorithm.initial_parameters(asked.support)
        torch.testing.assert_close(curve[:, -1], algorithm(asked.support, asked.query.x))
    assert curve.shape[:2] == (4, STEPS + 1)
    for task in range(4):
        x = asked.query.x[task].flatten(1)
        own = {name: value[task] for name, value in start.items()}
        hidden = torch.relu(x @ own["backbone.linears.0.weight"].T + own["backbone.normalisations.0.bias"])
        answers: Tensor = hidden @ own["head.weight"].T + own["head.bias"]
        torch.testing.assert_close(curve[task, 0], answers)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_it_fits_first_and_answers_later(problem: str, engine: str) -> None:
    algorithm, asked = made(problem, engine).eval(), episode(problem)
    with torch.no_grad():
        learned = algorithm.adapt(asked.support)
        torch.testing.assert_close(
            algorithm.answer_queries(learned, asked.query.x), algorithm(asked.support, asked.query.x), rtol=1e-9, atol=1e-11
        )


def test_features_before_adapting_are_those_of_what_the_hypernetwork_made() -> None:
    algorithm, asked = made("numbers", "batched").eval(), episode("numbers")
    algorithm.test_inner_steps = 0
    before, after = algorithm.features_before_and_after(asked)
    torch.testing.assert_close(before, after)
    assert (before - algorithm.network.features(asked.support.x, asked.query.x)).abs().max() > 1e-3
