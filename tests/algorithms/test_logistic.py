"""Logistic regression against scikit-learn's, and what a task's solution may depend on."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression as Reference
from torch import Tensor

from metashot.algorithms.closed_form import logistic
from metashot.algorithms.closed_form.logistic import LogisticRegression, logistic_regression
from metashot.algorithms.similarities import memberships
from metashot.episodes import Episode, Examples

from .feature_learners import Pixels, answers_in_bfloat16, learner, one_task, random_episode, reordered

FEW, MANY = 3, 20  # features: fewer than the support examples, and more
FORMS = pytest.mark.parametrize("features", [FEW, MANY])
SUPPORT = (4, 1, 6)


def made(features: int, regularisation: float | None = 1.0, **settings: Any) -> LogisticRegression:
    found = learner(LogisticRegression, Pixels(features), regularisation=regularisation, **settings)
    assert isinstance(found, LogisticRegression)
    return found.eval()


def probabilities(algorithm: LogisticRegression, episode: Episode) -> Tensor:
    answers: Tensor = algorithm(episode.support, episode.query.x)
    return answers.softmax(-1)


@FORMS
@pytest.mark.parametrize("regularisation", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("support", [SUPPORT, (1, 1, 1), (7, 5)])
def test_probabilities_are_those_of_scikit_learn(features: int, regularisation: float, support: tuple[int, ...]) -> None:
    episode = random_episode(features, tasks=3, support=support, query=(2,) * len(support))
    found = probabilities(made(features, regularisation), episode)
    x, asked = (F.normalize(part.x, dim=-1).numpy() for part in (episode.support, episode.query))
    for task in range(3):
        reference = Reference(C=1 / regularisation, tol=1e-10, max_iter=10_000).fit(x[task], episode.support.y[task])
        expected = reference.predict_proba(asked[task])
        if len(support) == 2:  # for which scikit-learn's are the logits of one class against zero
            reference = Reference(C=2 / regularisation, tol=1e-10, max_iter=10_000).fit(x[task], episode.support.y[task])
            expected = reference.predict_proba(asked[task])
        np.testing.assert_allclose(found[task], expected, atol=1e-5)


@FORMS
@pytest.mark.parametrize("regularisation", [1e-4, 1.0, 1e4])
def test_the_gradient_vanishes_at_the_solution(features: int, regularisation: float) -> None:
    episode = random_episode(features, tasks=4, support=SUPPORT)
    x, y = F.normalize(episode.support.x, dim=-1), memberships(episode.support.y, episode.support.x)
    weights, biases = (part.requires_grad_() for part in logistic_regression(x, y, regularisation))
    entropies = -((x @ weights + biases).log_softmax(-1) * y).sum()
    slopes = torch.autograd.grad(entropies + regularisation / 2 * weights.square().sum(), [weights, biases])
    assert max(slope.abs().max() for slope in slopes) < 1e-9


@FORMS
def test_a_task_in_a_batch_is_solved_as_it_is_alone(features: int) -> None:
    episode, algorithm = random_episode(features, tasks=4, support=SUPPORT), made(features, 0.1)
    episode.support.x[1] = episode.support.x[1, :1]  # takes another number of steps than the others
    together = algorithm(episode.support, episode.query.x)
    for task in range(4):
        one = one_task(episode, task)
        torch.testing.assert_close(algorithm(one.support, one.query.x)[0], together[task], atol=1e-13, rtol=0)


def test_order_of_the_support_examples_does_not_matter() -> None:
    episode, algorithm = random_episode(MANY), made(MANY)
    other = reordered(episode.support, torch.tensor([3, 0, 5, 1, 4, 2]))
    expected = algorithm(episode.support, episode.query.x)
    torch.testing.assert_close(algorithm(other, episode.query.x), expected, atol=1e-9, rtol=0)


@FORMS
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_examples_have_the_probabilities_of_their_classes(features: int, value: float) -> None:
    episode = random_episode(features, support=(1, 2, 3))
    same = Examples(torch.full_like(episode.support.x, value), episode.support.y)
    answers = made(features)(same, torch.full_like(episode.query.x, value))
    expected = torch.tensor([1 / 6, 2 / 6, 3 / 6], dtype=torch.float64).expand_as(answers)
    torch.testing.assert_close(answers.softmax(-1), expected, atol=1e-9, rtol=0)


@FORMS
def test_repeated_examples_count_as_a_weaker_regularisation(features: int) -> None:
    episode = random_episode(features, support=SUPPORT)
    twice = Examples(episode.support.x.repeat(1, 2, 1), episode.support.y.repeat(1, 2))
    expected = made(features, 0.5)(episode.support, episode.query.x)
    torch.testing.assert_close(made(features, 1.0)(twice, episode.query.x), expected, atol=1e-8, rtol=0)


@FORMS
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_become_answers_that_are_not(features: int, value: float) -> None:
    episode, algorithm = random_episode(features), made(features)
    expected = algorithm(episode.support, episode.query.x)
    episode.support.x[0, 0, 0] = value
    answers = algorithm(episode.support, episode.query.x)
    assert not answers[0].isfinite().any()
    torch.testing.assert_close(answers[1], expected[1], atol=1e-9, rtol=0)


def test_mixed_precision_solves_in_double_precision() -> None:
    episode = random_episode(MANY)
    exact = made(MANY)(episode.support, episode.query.x)
    mixed, _ = answers_in_bfloat16(made(MANY), Episode(episode.support, episode.query, episode.number, episode.classes))
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed.double(), exact, atol=1e-5, rtol=0)


def test_it_is_trained_with_its_head_and_answers_without_it() -> None:
    algorithm, episode = made(MANY), random_episode(MANY)
    loss, answers, _ = algorithm.train().training_loss(episode)
    torch.testing.assert_close(answers, algorithm.head(episode.query.x))
    loss.backward()
    assert algorithm.head.weight.grad is not None
    before = algorithm.eval()(episode.support, episode.query.x)
    algorithm.head.weight.data.zero_()
    torch.testing.assert_close(algorithm(episode.support, episode.query.x), before, atol=0, rtol=0)


def test_a_regularisation_that_is_not_given_is_that_of_the_authors_code_until_a_validation() -> None:
    assert made(MANY, None).regularisation.value == 1.0
    assert made(MANY, None).regularisation.candidates == logistic.CANDIDATES
    assert [choice.candidates for choice in made(MANY, 0.2).choices()] == []
