"""Matching networks against the paper's formulas, written out with loops."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from metashot.algorithms.metric.matching import Matching
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.episodes import Episode, Examples
from tests.algorithms.feature_learners import (
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
FEATURES = 5
CONTEXTS = pytest.mark.parametrize("full_context", [False, True], ids=["alone", "in_context"])


def matching(protocol: Protocol | None = None, **settings: object) -> Matching:
    """On pixels, or on a network with this normalisation."""
    backbone = Pixels(FEATURES) if protocol is None else MLP((FEATURES,), [8, 16], protocol)
    plain = {"temperature": 0.4, "learned_temperature": True, "full_context": False, "reading_steps": 3}
    made: Matching = learner(Matching, backbone, **(plain | settings))
    return made


@pytest.fixture
def episode() -> Episode:
    return random_episode(FEATURES)


def probabilities_by_hand(query: Array, support: Array, y: NDArray[np.int64], temperature: float) -> Array:
    """Of one task: the sum over support examples of a(x, x_i) y_i."""
    found = np.zeros((len(query), y.max() + 1))
    for place, f in enumerate(query):
        weights = [math.exp(f @ g / math.sqrt(f @ f) / math.sqrt(g @ g) / temperature) for g in support]
        for weight, label in zip(weights, y, strict=True):
            found[place, label] += weight / sum(weights)
    return found


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm_step(parameters: list[Array], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """Hochreiter and Schmidhuber's cell, with torch's order of gates."""
    of_x, of_h, bias_of_x, bias_of_h = parameters
    gate_i, gate_f, candidate, gate_o = np.split(of_x @ x + bias_of_x + of_h @ h + bias_of_h, 4)
    c = sigmoid(gate_f) * c + sigmoid(gate_i) * np.tanh(candidate)
    return sigmoid(gate_o) * np.tanh(c), c


def arrays(module: nn.Module, ending: str) -> list[Array]:
    names = [f"{kind}{ending}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return [getattr(module, name).detach().numpy() for name in names]


def context_by_hand(made: Matching, support: Array, y: NDArray[np.int64], query: Array) -> tuple[Array, Array]:
    """g of a task's support set, where each example stands, and f of its queries: appendix A of the paper."""
    assert made.full_context is not None
    order = sorted(range(len(y)), key=lambda place: y[place])  # Python's sort keeps equals in their order
    g = support.copy()
    for ending, places in (("_l0", order), ("_l0_reverse", order[::-1])):
        h = c = np.zeros(support.shape[1])
        for place in places:
            h, c = lstm_step(arrays(made.full_context.of_support, ending), support[place], h, c)
            g[place] += h
    f = np.empty_like(query)
    for place, x in enumerate(query):
        h = c = np.zeros(len(x))
        for _ in range(made.full_context.reading_steps):
            weights = np.array([math.exp(h @ of_one) for of_one in g])
            r = (weights / weights.sum()) @ g
            h_hat, c = lstm_step(arrays(made.full_context.of_queries, ""), np.concatenate([x, r]), h, c)
            h = h_hat + x
        f[place] = h
    return g, f


@CONTEXTS
def test_answers_and_loss_are_those_of_the_paper(episode: Episode, full_context: bool) -> None:
    made = matching(full_context=full_context).eval()
    loss, answers, _ = made.training_loss(episode)
    losses = []
    for task in range(len(episode)):
        support, y, query = (t[task].numpy() for t in (episode.support.x, episode.support.y, episode.query.x))
        g, f = context_by_hand(made, support, y, query) if full_context else (support, query)
        expected = probabilities_by_hand(f, g, y, math.exp(made.log_temperature.item()))
        np.testing.assert_allclose(answers[task].exp().detach(), expected, rtol=1e-9)
        losses += [-math.log(row[right]) for row, right in zip(expected, episode.query.y[task], strict=True)]
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)


def test_without_context_it_has_no_parameters_but_the_temperature() -> None:
    assert list(own_parameters(matching())) == ["log_temperature"]
    assert not own_parameters(matching(learned_temperature=False))
    fixed = matching(learned_temperature=False, temperature=0.25).log_temperature
    assert math.exp(fixed.item()) == pytest.approx(0.25, abs=1e-6)


@CONTEXTS
def test_order_in_which_classes_are_given_does_not_matter(episode: Episode, full_context: bool) -> None:
    made = matching(full_context=full_context)
    same_order = episode.support.y[0].expand(2, -1)
    support = Examples(episode.support.x, same_order)
    by_class = same_order[0].argsort(descending=True, stable=True)
    torch.testing.assert_close(
        made(reordered(support, by_class), episode.query.x), made(support, episode.query.x), atol=1e-12, rtol=0
    )


@CONTEXTS
def test_order_of_the_examples_of_a_class_matters_only_in_context(episode: Episode, full_context: bool) -> None:
    made = matching(full_context=full_context)
    support = Examples(episode.support.x, torch.tensor([0, 0, 1, 1, 1, 2]).expand(2, -1))
    others = reordered(support, torch.tensor([1, 0, 2, 3, 4, 5]))
    difference = (made(others, episode.query.x) - made(support, episode.query.x)).abs().max()
    assert bool(difference > 1e-6) is full_context
    assert full_context or difference < 1e-12


@CONTEXTS
@pytest.mark.parametrize("protocol", ["transductive", "running", "support", "support_later", "none"])
def test_each_task_of_a_batch_is_answered_as_if_it_were_alone(
    episode: Episode, protocol: Protocol, full_context: bool
) -> None:
    made = matching(protocol, full_context=full_context).eval()
    together = made(episode.support, episode.query.x)
    for task in range(len(episode)):
        one = one_task(episode, task)
        torch.testing.assert_close(made(one.support, one.query.x)[0], together[task], atol=1e-10, rtol=0)


@CONTEXTS
@pytest.mark.parametrize("protocol", ["transductive", "running", "support", "support_later", "none"])
def test_queries_see_each_other_only_where_normalisation_says_so(
    episode: Episode, protocol: Protocol, full_context: bool
) -> None:
    made = matching(protocol, full_context=full_context).eval()
    changed = episode.query.x.clone()
    changed[:, -1] += 1
    difference = (made(episode.support, changed) - made(episode.support, episode.query.x)).abs()
    assert bool((difference[:, :-1] > 1e-10).any()) is (protocol == "transductive") is made.transductive
    assert (difference[:, -1].amax(-1) > 1e-6).all()


@CONTEXTS
@pytest.mark.parametrize("reading_steps", [1, 2])
def test_every_parameter_gets_a_gradient_that_finite_differences_confirm(
    episode: Episode, full_context: bool, reading_steps: int
) -> None:
    made = matching("none", full_context=full_context, reading_steps=reading_steps)
    parameters = own_parameters(made)
    for name, gradient in gradients(made, episode).items():
        assert gradient is not None, name
        direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameters[name] += sign * 1e-6 * direction
                losses.append(made.training_loss(episode).loss.item())
                parameters[name] -= sign * 1e-6 * direction
        expected = (losses[0] - losses[1]) / 2e-6
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_classes_without_attention_leave_answers_and_gradients_finite(episode: Episode) -> None:
    """A class can be so unlike a query that its probability is zero in as many bits as there are."""
    made = matching("none", temperature=1e-4)
    with torch.no_grad():
        made.log_temperature.fill_(math.log(1e-4))
    answers = made(episode.support, episode.query.x)
    assert (answers.exp() == 0).any()
    assert answers.isfinite().all()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients(made, episode).values())


@CONTEXTS
def test_answers_in_mixed_precision_are_nearly_those_without(episode: Episode, full_context: bool) -> None:
    made = matching(full_context=full_context).eval()
    expected = made(episode.support, episode.query.x).detach()
    answers, loss = answers_in_bfloat16(made, episode)
    assert answers.dtype == torch.float32
    assert loss.isfinite()
    torch.testing.assert_close(answers.double(), expected, atol=1e-4, rtol=1e-4)
