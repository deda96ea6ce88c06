"""MetaOptNet's support vector machine against two other solvers of its quadratic programme, and its gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.closed_form.svm import SVM, dual_variables, support_vector_machine
from metashot.algorithms.similarities import memberships
from metashot.backbones.base import Backbone
from metashot.backbones.mlp import MLP
from metashot.episodes import Examples

from .feature_learners import (
    Pixels,
    answers_in_bfloat16,
    gradients,
    learner,
    one_task,
    own_parameters,
    random_episode,
    reordered,
)

Array = NDArray[np.float64]
C = 0.1
FEATURES = 5
SIZES = pytest.mark.parametrize("size", [0.1, 1.0, 10.0])  # of features


def svm(backbone: Backbone | None = None, penalty: float = C) -> SVM:
    made = learner(SVM, backbone or Pixels(FEATURES), penalty=penalty, scale=2.0)
    assert isinstance(made, SVM)
    return made


def programme(size: float, support: tuple[int, ...] = (1, 3, 2), features: int = FEATURES) -> tuple[Tensor, Tensor]:
    """Features [T, S, features] and one-hot labels."""
    examples = random_episode(features, support=support).support
    return examples.x * size, memberships(examples.y, examples.x)


def by_slsqp(x: Array, y: Array, penalty: float) -> Array:
    """alpha [S, ways] of one task, from the programme as it is written in the paper."""
    optimize = pytest.importorskip("scipy.optimize")
    kernel, shape = x @ x.T + np.eye(len(x)), y.shape

    def objective(flat: Array) -> float:
        alpha = flat.reshape(shape)
        return float(0.5 * np.sum(alpha * (kernel @ alpha)) - np.sum(alpha * y))

    def slope(flat: Array) -> Array:
        return np.asarray(kernel @ flat.reshape(shape) - y).ravel()

    found = optimize.minimize(
        objective,
        np.zeros(y.size),
        jac=slope,
        bounds=[(None, limit) for limit in (penalty * y).ravel()],
        constraints={
            "type": "eq",
            "fun": lambda flat: flat.reshape(shape).sum(1),
            "jac": lambda flat: np.kron(np.eye(len(x)), np.ones((1, shape[1]))),
        },
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    assert found.success
    return np.asarray(found.x.reshape(shape))


@pytest.mark.parametrize("size", [0.1, 1.0])  # where SLSQP finds more than four digits
@pytest.mark.parametrize("penalty", [0.1, 5.0])
@pytest.mark.parametrize("support", [(1, 3, 2), (1, 1, 1, 1), (4, 2)])
def test_the_solution_is_that_of_a_general_solver(size: float, penalty: float, support: tuple[int, ...]) -> None:
    x, y = programme(size, support)
    found = dual_variables(x @ x.mT, y, penalty)
    for task in range(2):
        np.testing.assert_allclose(found[task], by_slsqp(x[task].numpy(), y[task].numpy(), penalty), atol=1e-5)


@pytest.mark.parametrize("size", [0.01, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("features", [4, 40])
def test_no_point_within_the_limits_is_better(size: float, features: int) -> None:
    x, y = programme(size, (5, 3, 2, 1), features)
    alpha = dual_variables(x @ x.mT, y, C)
    assert alpha.sum(-1).abs().max() < 1e-12
    assert (alpha - C * y).max() < 1e-8
    slope = x @ (x.mT @ alpha) + alpha - y
    # The best that a linear function with this slope does on the set, which bounds the distance from the optimum.
    best = C * ((slope * y).sum(-1) - slope.amax(-1)).sum(1)
    gap = (slope * alpha).sum((1, 2)) - best
    assert gap.abs().max() < 1e-10 * (1 + size**2)


@SIZES
def test_solution_and_gradient_are_those_of_qpth_which_the_authors_use(size: float) -> None:
    qp = pytest.importorskip("qpth.qp")
    x, y = programme(size, (3, 4, 2))
    x.requires_grad_()
    examples, ways = y.shape[1:]
    kernel = x @ x.mT + torch.eye(examples, dtype=x.dtype)
    one = torch.eye(ways, dtype=x.dtype)
    sums = torch.kron(torch.eye(examples, dtype=x.dtype), torch.ones(1, ways, dtype=x.dtype)).expand(2, -1, -1)
    solver = qp.QPFunction(verbose=False, eps=1e-14, maxIter=50)
    expected = solver(
        torch.stack([torch.kron(of_task, one) for of_task in kernel]),
        -y.flatten(1),
        torch.eye(y[0].numel(), dtype=x.dtype),
        C * y.flatten(1),
        sums,
        torch.zeros(2, examples, dtype=x.dtype),
    ).view_as(y)
    found = dual_variables(x @ x.mT, y, C)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    slope, expected_slope = (
        torch.autograd.grad((alpha * weights).sum(), x, retain_graph=True)[0] for alpha in (found, expected)
    )
    assert expected_slope.abs().max() > 1e-3
    torch.testing.assert_close(slope, expected_slope, atol=1e-4 * expected_slope.abs().max().item(), rtol=0)


@SIZES
def test_gradients_go_through_the_solution_as_finite_differences_say(size: float) -> None:
    x, y = programme(size)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: support_vector_machine(x, y, C), [x], eps=1e-5, atol=1e-5)


def test_logits_are_scaled_scores_of_sums_of_support_features() -> None:
    made, episode = svm(), random_episode(FEATURES)
    x, y = episode.support.x, memberships(episode.support.y, episode.support.x)
    alpha = dual_variables(x @ x.mT, y, C)
    scores = torch.einsum("tqf,tsf,tsk->tqk", episode.query.x, x, alpha)
    torch.testing.assert_close(made(episode.support, episode.query.x), made.scale * scores)


def test_a_task_in_a_batch_is_solved_as_it_is_alone() -> None:
    episode, made = random_episode(FEATURES, tasks=4), svm()
    episode.support.x[1] *= 100  # takes another number of steps than the others
    together = made(episode.support, episode.query.x)
    for task in range(4):
        one = one_task(episode, task)
        torch.testing.assert_close(made(one.support, one.query.x)[0], together[task], atol=1e-13, rtol=0)


def test_order_of_the_support_examples_does_not_matter() -> None:
    episode, made = random_episode(FEATURES), svm()
    other = reordered(episode.support, torch.tensor([3, 0, 5, 1, 4, 2]))
    expected = made(episode.support, episode.query.x)
    torch.testing.assert_close(made(other, episode.query.x), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_equal_examples_are_undecided_and_have_finite_gradients(size: float) -> None:
    x = torch.full((1, 6, FEATURES), size, dtype=torch.float64, requires_grad=True)
    weights = support_vector_machine(x, F.one_hot(torch.tensor([[0, 1, 2, 0, 1, 2]])), C)
    weights.sum().backward()
    assert weights.abs().max() < 1e-9
    assert x.grad is not None
    assert x.grad.abs().max() < 1e-6


def test_repeated_examples_with_other_labels_have_finite_gradients() -> None:
    x, _ = programme(1.0, (1, 1, 1))
    x = x.repeat(1, 2, 1).requires_grad_()
    weights = support_vector_machine(x, F.one_hot(torch.tensor([[0, 1, 2, 1, 2, 0]] * 2)), C)
    weights.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_become_answers_that_are_not(value: float) -> None:
    episode, made = random_episode(FEATURES), svm()
    expected = made(episode.support, episode.query.x)
    episode.support.x[0, 0, 0] = value
    answers = made(episode.support, episode.query.x)
    assert not answers[0].isfinite().any()
    torch.testing.assert_close(answers[1], expected[1], atol=1e-9, rtol=0)


@pytest.mark.parametrize("protocol", ["transductive", "running", "support", "support_later", "none"])
def test_every_parameter_gets_a_finite_gradient(protocol: str) -> None:
    made = svm(MLP((4,), [8, 5], protocol))  # type: ignore[arg-type]
    assert "scale" in own_parameters(made)
    for name, gradient in gradients(made, random_episode(4)).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name


def test_mixed_precision_solves_in_double_precision() -> None:
    episode = random_episode(FEATURES)
    exact = svm()(episode.support, episode.query.x)
    mixed, loss = answers_in_bfloat16(svm(), episode)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed.double(), exact, atol=1e-5, rtol=0)
    assert loss.isfinite()


def test_what_is_kept_of_a_support_set_answers_as_the_whole_does() -> None:
    episode, made = random_episode(4), svm(MLP((4,), [8, 5], "running")).eval()
    weights = made.adapt(Examples(episode.support.x, episode.support.y))
    assert weights.shape == (2, 5, 3)
    expected = made(episode.support, episode.query.x)
    torch.testing.assert_close(made.answer_queries(weights, episode.query.x), expected, atol=1e-10, rtol=0)
