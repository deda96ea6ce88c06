"""R2-D2 against ridge regression in float64, solved with numpy in both of its forms."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.closed_form.r2d2 import R2D2, ridge_regression
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.episodes import Episode, Examples
from metashot.problems import Regression

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
from .gradient_learners import random_curves

Array = NDArray[np.float64]
FEW, MANY = 3, 12  # features: fewer than the six support examples, and more
PROTOCOLS = pytest.mark.parametrize("protocol", ["transductive", "running", "support", "support_later", "none"])
FORMS = pytest.mark.parametrize("features", [FEW, MANY])


def r2d2(backbone: Backbone | None = None, **settings: Any) -> R2D2:
    made = learner(
        R2D2, backbone or Pixels(MANY), **({"regularisation": 0.5, "learned_regularisation": True, "scale": 3.0} | settings)
    )
    assert isinstance(made, R2D2)
    return made


def mlp(protocol: Protocol) -> MLP:
    return MLP((4,), [8, 5], protocol)


def weights_by_features(x: Array, y: Array, regularisation: float) -> Array:
    """(X'X + S lambda I)^-1 X'Y, where the mean squared error over S examples is regularised."""
    return np.asarray(np.linalg.inv(x.T @ x + len(x) * regularisation * np.eye(x.shape[1])) @ x.T @ y)


def weights_by_examples(x: Array, y: Array, regularisation: float) -> Array:
    """The same by Woodbury's identity: X' (XX' + S lambda I)^-1 Y."""
    return np.asarray(x.T @ np.linalg.inv(x @ x.T + len(x) * regularisation * np.eye(len(x))) @ y)


def by_hand(made: R2D2, episode: Episode, targets: Any) -> Array:
    """Answers to queries [T, Q, outputs] from features that are the inputs; `targets` of a task's y."""
    regularisation, alpha, beta = made.log_lambda.exp().item(), made.alpha.item(), made.beta.item()
    answers = []
    for x, y, query in zip(episode.support.x.numpy(), episode.support.y.numpy(), episode.query.x.numpy(), strict=True):
        with_one, asked = (np.concatenate([part, np.ones((len(part), 1))], axis=1) for part in (x, query))
        solutions = [solve(with_one, targets(y), regularisation) for solve in (weights_by_features, weights_by_examples)]
        np.testing.assert_allclose(*solutions, atol=1e-10)
        answers.append(alpha * (asked @ solutions[0]) + beta)
    return np.stack(answers)


def one_hot(y: NDArray[np.int64]) -> Array:
    return np.asarray(y[:, None] == np.arange(y.max() + 1), dtype=np.float64)


@FORMS
@pytest.mark.parametrize("support", [(2, 2, 2), (1, 3, 2), (1, 1, 4)])
def test_logits_and_loss_are_those_of_ridge_regression_on_one_hot_labels(features: int, support: tuple[int, ...]) -> None:
    episode = random_episode(features, tasks=3, support=support)
    made = r2d2(Pixels(features))
    loss, answers, _ = made.training_loss(episode)
    expected = by_hand(made, episode, one_hot)
    np.testing.assert_allclose(answers.detach(), expected, atol=1e-10)
    right = np.take_along_axis(expected, episode.query.y.numpy()[..., None], axis=-1)[..., 0]
    assert loss.item() == pytest.approx((np.log(np.exp(expected).sum(-1)) - right).mean(), rel=1e-10)


@pytest.mark.parametrize("points", [4, 40])  # fewer than the eight features, and more
def test_numbers_are_learned_by_the_same_regression(points: int) -> None:
    curves = random_curves(tasks=3, points=points)
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    made = R2D2(Pixels(1), Regression(1), 0.2, True, 1.5, optimizer).double()
    loss, answers, _ = made.training_loss(curves)
    expected = by_hand(made, curves, lambda y: y)
    np.testing.assert_allclose(answers.detach(), expected, atol=1e-10)
    assert loss.item() == pytest.approx(np.square(expected - curves.query.y.numpy()).mean(), rel=1e-10)


def test_the_solution_has_the_least_regularised_mean_error_of_all_weights() -> None:
    random = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 6, size, generator=random, dtype=torch.float64) for size in (4, 3))
    regularisation = torch.tensor(0.7, dtype=torch.float64)
    weights = ridge_regression(x, y, regularisation).requires_grad_()
    error = (x @ weights - y).square().sum(-1).mean(1) + regularisation * weights.square().sum((1, 2))
    (slope,) = torch.autograd.grad(error.sum(), weights)
    assert slope.abs().max() < 1e-12


@FORMS
def test_a_task_in_a_batch_is_solved_as_it_is_alone(features: int) -> None:
    episode, made = random_episode(features, tasks=4), r2d2(Pixels(features))
    together = made(episode.support, episode.query.x)
    for task in range(4):
        one = one_task(episode, task)
        torch.testing.assert_close(made(one.support, one.query.x)[0], together[task], atol=1e-12, rtol=0)


@PROTOCOLS
def test_order_of_the_support_examples_does_not_matter(protocol: Protocol) -> None:
    episode, made = random_episode(4), r2d2(mlp(protocol)).eval()
    other = reordered(episode.support, torch.tensor([3, 0, 5, 1, 4, 2]))
    expected = made(episode.support, episode.query.x)
    torch.testing.assert_close(made(other, episode.query.x), expected, atol=1e-10, rtol=0)


@PROTOCOLS
def test_queries_see_each_other_only_where_normalisation_says_so(protocol: Protocol) -> None:
    episode, made = random_episode(4), r2d2(mlp(protocol)).eval()
    changed = episode.query.x.clone()
    changed[:, -1] += 1
    difference = (made(episode.support, changed) - made(episode.support, episode.query.x)).abs()
    assert bool((difference[:, :-1] > 1e-10).any()) is (protocol == "transductive") is made.transductive
    assert difference[:, -1].max() > 1e-6


@FORMS
def test_gradients_go_through_the_solution_as_finite_differences_say(features: int) -> None:
    made, episode = r2d2(Pixels(features)), random_episode(features)

    def loss(support: Tensor, query: Tensor, *parameters: Tensor) -> Tensor:
        names = dict(zip(own_parameters(made), parameters, strict=True))
        given = Episode(
            Examples(support, episode.support.y), Examples(query, episode.query.y), episode.number, episode.classes
        )
        answers = torch.func.functional_call(made, names, (given.support, given.query.x))
        return made.problem.loss(answers, given.query.y)

    inputs = [episode.support.x, episode.query.x, *own_parameters(made).values()]
    inputs = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(loss, inputs)
    slopes = torch.autograd.grad(loss(*inputs), inputs)
    of = dict(zip(("support", "query", *own_parameters(made)), slopes, strict=True))
    assert set(of) == {"support", "query", "log_lambda", "alpha"}
    assert all(slope.abs().max() > 1e-4 for slope in of.values())


@PROTOCOLS
def test_every_parameter_gets_a_finite_gradient(protocol: Protocol) -> None:
    for name, gradient in gradients(r2d2(mlp(protocol)), random_episode(4)).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name


@pytest.mark.parametrize("learned", [True, False])
def test_lambda_and_alpha_begin_as_configured_and_lambda_stays_where_it_is_not_learned(learned: bool) -> None:
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    made = R2D2(mlp("none"), Regression(1), 50.0, learned, 10.0, optimizer).double()
    assert (made.log_lambda.exp().item(), made.alpha.item(), made.beta.item()) == (pytest.approx(50), 10, 0)
    episode = random_episode(4)
    numbers = Examples(episode.support.x, torch.randn_like(episode.support.x[..., :1]))
    asked = Examples(episode.query.x, torch.randn_like(episode.query.x[..., :1]))
    descent = torch.optim.SGD(own_parameters(made).values(), 1.0)
    made.training_loss(Episode(numbers, asked, episode.number, episode.classes)).loss.backward()
    before = made.log_lambda.item()
    descent.step()
    assert (made.log_lambda.item() != before) is learned
    assert made.alpha.item() != 10
    assert made.beta.item() != 0


def test_a_bias_that_changes_no_probability_is_not_learned() -> None:
    made, episode = r2d2(), random_episode(MANY)
    before = made(episode.support, episode.query.x).softmax(-1)
    made.beta.data.fill_(2.0)
    torch.testing.assert_close(made(episode.support, episode.query.x).softmax(-1), before)
    assert "beta" not in own_parameters(made)
    assert "beta" in made.state_dict()


def test_lambda_is_positive_wherever_learning_takes_it() -> None:
    made, episode = r2d2(), random_episode(MANY)
    for far in (-20.0, 20.0):
        made.log_lambda.data.fill_(far)
        assert made(episode.support, episode.query.x).isfinite().all()


def test_it_trains_with_other_ways_than_it_answers_with() -> None:
    made = r2d2(mlp("running"))
    made.train().training_step([random_episode(4, support=(2,) * 7, query=(1,) * 7)], 0)["loss"].backward()
    torch.optim.SGD(own_parameters(made).values(), 0.1).step()
    made.eval()
    for ways in (2, 5):
        episode = random_episode(4, support=(1,) * ways, query=(2,) * ways)
        (answers,) = made.validation_step([episode], 0)["episodes"]
        embedded = Episode(
            Examples(made.embed(episode.support.x, support=0).detach(), episode.support.y),
            Examples(made.embed(episode.query.x, support=0).detach(), episode.query.y),
            episode.number,
            episode.classes,
        )
        np.testing.assert_allclose(answers["answers"], by_hand(made, embedded, one_hot), atol=1e-10)


def test_mixed_precision_solves_in_as_many_bits_as_the_weights_have() -> None:
    episode = random_episode(MANY)
    exact = r2d2()(episode.support, episode.query.x)
    mixed, loss = answers_in_bfloat16(r2d2(), episode)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed.double(), exact, atol=1e-4, rtol=0)  # bfloat16 has an error of 4e-3 of a number
    assert loss.isfinite()


@FORMS
def test_features_that_are_not_finite_become_answers_that_are_not(features: int) -> None:
    episode, made = random_episode(features), r2d2(Pixels(features))
    episode.support.x[0, 0, 0] = math.nan
    answers = made(episode.support, episode.query.x)
    assert not answers[0].isfinite().any()
    assert answers[1].isfinite().all()


def test_what_is_kept_of_a_support_set_answers_as_the_whole_does() -> None:
    episode, made = random_episode(4), r2d2(mlp("running")).eval()
    learned = made.adapt(episode.support)
    assert learned.shape == (2, 6, 3)  # five features and the constant
    expected = made(episode.support, episode.query.x)
    torch.testing.assert_close(made.answer_queries(learned, episode.query.x), expected, atol=1e-12, rtol=0)


def test_equal_examples_of_several_classes_are_undecided_even_with_a_tiny_lambda() -> None:
    x = torch.ones(1, 6, 65)
    y = torch.nn.functional.one_hot(torch.tensor([[0, 1, 2, 0, 1, 2]])).float()
    weights = ridge_regression(x, y, torch.tensor(1e-7))
    torch.testing.assert_close(x @ weights, torch.full((1, 6, 3), 1 / 3), rtol=0, atol=1e-5)
