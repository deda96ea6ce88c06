"""MAML's meta-gradient against derivations that do not use it, and what adapting may and may not change."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import metashot
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.engines.inner import Adaptable, InnerLoop, OptimizerState, Parameters
from metashot.episodes import Episode, Examples
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

SOURCE = Path(metashot.__file__).parent
Matrix = NDArray[np.float64]
ALPHA = 0.1


class LinearRegression(Adaptable):
    """y = x theta, with the two methods that the engine asks a network for."""

    def __init__(self, theta: Matrix) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.from_numpy(theta.copy()))

    def forward(self, x: Tensor, step: int) -> Tensor:
        return x @ self.theta

    def answer(self, support_x: Tensor, query_x: Tensor, step: int) -> Tensor:
        return self(query_x, step)


@pytest.fixture
def regression() -> dict[str, Matrix]:
    """Three tasks of five support examples and four queries of three inputs, and a start."""
    random = np.random.default_rng(0)
    shapes = {"support_x": (3, 5, 3), "support_y": (3, 5), "query_x": (3, 4, 3), "query_y": (3, 4), "theta": (3,)}
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def meta_gradient_by_hand(given: dict[str, Matrix], steps: int, first_order: bool) -> tuple[Matrix, Matrix]:
    """The mean query loss's gradient, and the answers.

    A task's support loss |X theta - y|^2 / n has the gradient 2 X^T (X theta - y) / n and the Hessian H = 2 X^T X / n.
    So k steps give d theta_k / d theta = (I - alpha H)^k, which the first-order approximation replaces by I.
    """
    total, answers = np.zeros(3), []
    for task in range(3):
        x, y = given["support_x"][task], given["support_y"][task]
        theta = given["theta"]
        for _ in range(steps):
            theta = theta - ALPHA * 2 * x.T @ (x @ theta - y) / len(y)
        hessian = 2 * x.T @ x / len(y)
        jacobian = np.eye(3) if first_order else np.linalg.matrix_power(np.eye(3) - ALPHA * hessian, steps)
        query_x, query_y = given["query_x"][task], given["query_y"][task]
        answers.append(query_x @ theta)
        total += jacobian.T @ (2 * query_x.T @ (query_x @ theta - query_y)) / given["query_y"].size
    return total, np.stack(answers)


def meta_gradient(given: dict[str, Matrix], steps: int, first_order: bool, engine: str) -> tuple[Matrix, Matrix]:
    network = LinearRegression(given["theta"])
    tensors = {name: torch.from_numpy(value) for name, value in given.items()}
    support = Examples(tensors["support_x"], tensors["support_y"])

    def update(
        theta: Parameters, gradients: Parameters, state: OptimizerState, step: int, loss: Tensor
    ) -> tuple[Parameters, OptimizerState]:
        return {name: theta[name] - ALPHA * gradients[name] for name in theta}, state

    inner = InnerLoop(
        network=network,
        adapted_names=("theta",),
        outer_parameters=(network.theta,),
        loss=F.mse_loss,
        initial_state=lambda theta: {},
        update=update,
        steps=steps,
        first_order=first_order,
        answer_after=(steps,),
    )
    answers = ENGINES[engine](inner, support, tensors["query_x"]).answers[:, 0]
    (gradient,) = torch.autograd.grad(F.mse_loss(answers, tensors["query_y"]), [network.theta])
    return gradient.numpy(), answers.detach().numpy()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_meta_gradient_is_the_one_derived_by_hand(
    regression: dict[str, Matrix], steps: int, first_order: bool, engine: str
) -> None:
    gradient, answers = meta_gradient(regression, steps, first_order, engine)
    expected_gradient, expected_answers = meta_gradient_by_hand(regression, steps, first_order)
    np.testing.assert_allclose(answers, expected_answers, rtol=1e-10)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-10)


def test_first_and_second_order_differ(regression: dict[str, Matrix]) -> None:
    second, same_answers = meta_gradient(regression, 2, False, "learn2learn")
    first, answers = meta_gradient(regression, 2, True, "learn2learn")
    np.testing.assert_array_equal(answers, same_answers)
    assert np.abs(first - second).max() > 0.01


def easy_episode() -> Episode:
    """Images of one shade a class, with a little noise, that any network learns to tell apart."""
    episode = random_episode(8, (1, 6, 6), shots=3, queries=10)

    def shaded(examples: Examples) -> Examples:
        # Which class is the bright one differs from task to task, so that no start is right for all.
        bright = examples.y == (torch.arange(8) % 2).unsqueeze(1)
        return Examples(0.1 * examples.x + 0.8 * bright[..., None, None, None], examples.y)

    return Episode(shaded(episode.support), shaded(episode.query), episode.number, episode.classes)


def accuracy(scores: Tensor, episode: Episode) -> float:
    return float((scores.argmax(-1) == episode.query.y).double().mean())


@pytest.mark.parametrize("protocol", ["transductive", "running", "support"])
def test_meta_gradient_through_conv4_is_that_of_finite_differences(protocol: Protocol) -> None:
    torch.manual_seed(0)
    algorithm = learner("maml", Conv4((1, 16, 16), 2, "pool", protocol), steps=2)
    for name, measured, claimed in slopes(algorithm, random_episode()):
        assert claimed == pytest.approx(measured, rel=1e-4, abs=1e-7), name
        assert abs(claimed) > 1e-6, name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
def test_outer_gradient_is_that_of_learn2learns_own_maml(algorithm: str, engine: str) -> None:
    torch.manual_seed(0)
    made = learner(algorithm, Conv4((1, 16, 16), 3, "pool", "transductive"), engine=ENGINES[engine], steps=3).train()
    episode = random_episode(tasks=3)
    theirs = library().MAML(plain_network(made.network), lr=0.3, first_order=algorithm == "fomaml")
    losses = []
    for task in range(len(episode)):
        clone = theirs.clone()
        for _ in range(3):
            clone.adapt(F.cross_entropy(clone(episode.support.x[task]), episode.support.y[task]))
        losses.append(F.cross_entropy(clone(episode.query.x[task]), episode.query.y[task]))
    parameters = dict(made.named_parameters())
    expected = torch.autograd.grad(torch.stack(losses).mean(), list(parameters.values()))
    assert_same(outer_gradient(made, episode), dict(zip(parameters, expected, strict=True)))
    made.first_order = not made.first_order
    others = outer_gradient(made, episode)
    assert max((others[name] - value).abs().max() for name, value in zip(parameters, expected, strict=True)) > 1e-4


@pytest.mark.parametrize("protocol", ["transductive", "running", "support"])
def test_first_order_meta_gradient_is_the_gradient_at_the_adapted_parameters(protocol: Protocol) -> None:
    torch.manual_seed(0)
    algorithm = learner("fomaml", MLP((1, 4, 4), [5], protocol)).train()
    episode = random_episode(1, (1, 4, 4))
    gradients = torch.autograd.grad(algorithm.training_loss(episode).loss, list(algorithm.parameters()))
    network = algorithm.network
    inner = torch.autograd.grad(
        F.cross_entropy(network(episode.support.x)[0], episode.support.y[0]), list(network.parameters())
    )
    with torch.no_grad():
        for parameter, gradient in zip(network.parameters(), inner, strict=True):
            parameter -= 0.3 * gradient
    answers = network.answer(episode.support.x, episode.query.x)
    expected = torch.autograd.grad(F.cross_entropy(answers[0], episode.query.y[0]), list(network.parameters()))
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-10, rtol=1e-8)


def test_training_takes_inner_steps_and_testing_test_inner_steps() -> None:
    torch.manual_seed(0)
    algorithm = learner("maml", MLP((1, 4, 4), [6], "transductive"), steps=2, test_inner_steps=4)
    episode = random_episode(2, (1, 4, 4))

    def after(steps: int) -> Tensor:
        """Full gradient steps on each task alone, without the engine."""
        answers = []
        for task in range(len(episode)):
            network = learner("maml", MLP((1, 4, 4), [6], "transductive")).network
            network.load_state_dict(algorithm.network.state_dict())
            descent = torch.optim.SGD(network.parameters(), lr=0.3)
            x = episode.support.x[task : task + 1]
            for _ in range(steps):
                descent.zero_grad()
                F.cross_entropy(network(x)[0], episode.support.y[task]).backward()
                descent.step()
            answers.append(network.answer(x, episode.query.x[task : task + 1]).detach())
        return torch.cat(answers)

    trained = algorithm.train()(episode.support, episode.query.x)
    torch.testing.assert_close(trained.detach(), after(2), atol=1e-10, rtol=0)
    with torch.no_grad():
        tested = algorithm.eval()(episode.support, episode.query.x)
    torch.testing.assert_close(tested, after(4), atol=1e-10, rtol=0)
    assert (after(2) - after(4)).abs().max() > 1e-3


@pytest.mark.parametrize("protocol", ["transductive", "running", "support"])
def test_validation_adapts_although_gradients_are_off(protocol: Protocol) -> None:
    torch.manual_seed(0)
    algorithm = learner("maml", MLP((1, 6, 6), [16], protocol), inner_lr=0.2, test_inner_steps=10).eval()
    episode = easy_episode()
    with torch.no_grad():
        before = algorithm.network.answer(episode.support.x, episode.query.x)
        (after,) = algorithm.validation_step([episode], 0)["episodes"]
    # The bright class is the first in half of the tasks, so an unadapted network cannot do better than chance over all.
    assert accuracy(before, episode) < 0.7
    assert accuracy(after["answers"], episode) > 0.95
    assert after["statistics"][:, 0].tolist() == (after["answers"].argmax(-1) == episode.query.y).sum(1).tolist()
    assert not after["answers"].requires_grad


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("protocol", ["transductive", "running", "support"])
def test_adapting_does_not_change_the_meta_parameters(protocol: Protocol, training: bool) -> None:
    algorithm = learner("maml", MLP((1, 4, 4), [5], protocol), steps=3).train(training)
    learned = dict(algorithm.named_parameters()) if training else algorithm.state_dict()
    before = {name: value.clone() for name, value in learned.items()}
    episode = random_episode(2, (1, 4, 4))
    with torch.set_grad_enabled(training):
        algorithm(episode.support, episode.query.x)
    assert all(torch.equal(before[name], value) for name, value in learned.items())
    assert all(parameter.grad is None and parameter.is_leaf for parameter in algorithm.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_a_task_is_answered_the_same_alone_and_in_a_batch(training: bool) -> None:
    algorithm = learner("maml", MLP((1, 4, 4), [5], "transductive"), steps=2, test_inner_steps=3).train(training)
    episode = random_episode(3, (1, 4, 4))
    together = algorithm(episode.support, episode.query.x)
    alone = algorithm(Examples(episode.support.x[1:2], episode.support.y[1:2]), episode.query.x[1:2])
    torch.testing.assert_close(alone[0], together[1], atol=1e-12, rtol=0)


@pytest.mark.parametrize(("protocol", "transductive"), [("transductive", True), ("running", False), ("support", False)])
def test_the_reported_transductive_is_whether_queries_see_each_other(protocol: Protocol, transductive: bool) -> None:
    algorithm = learner("maml", MLP((1, 4, 4), [5], protocol), test_inner_steps=2).eval()
    episode = random_episode(2, (1, 4, 4))
    changed = episode.query.x.clone()
    changed[:, -1] = 0
    difference = (algorithm(episode.support, changed) - algorithm(episode.support, episode.query.x)).abs()
    assert bool((difference[:, :-1] > 1e-10).any()) is transductive
    assert algorithm.transductive is transductive


def test_learn2learn_is_imported_in_one_place() -> None:
    importing = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if any(name.split(".")[0] == "learn2learn" for name in names):
                importing.add(path.relative_to(SOURCE).as_posix())
    assert importing == {"engines/learn2learn.py"}
