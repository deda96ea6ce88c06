"""Siamese networks against the papers' formulas, written out with loops."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.metric.siamese import (
    Siamese,
    contrastive_loss,
    nearest,
    triplet_loss,
    verification_loss,
)
from metashot.algorithms.similarities import weighted_absolute_differences
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
MARGINS = {"verification": 1.0, "contrastive": 2.5, "triplet": 0.7}
LOSSES = pytest.mark.parametrize("loss", ["verification", "contrastive", "triplet"])
HIDDEN = pytest.mark.parametrize("hidden", [None, 3], ids=["features", "units"])


def siamese(loss: str, protocol: Protocol | None = None, hidden: int | None = None, neighbours: int = 1) -> Siamese:
    """On pixels, or on a network with this normalisation."""
    backbone = Pixels(FEATURES) if protocol is None else MLP((FEATURES,), [8, 16], protocol)
    made: Siamese = learner(Siamese, backbone, loss=loss, margin=MARGINS[loss], hidden=hidden, neighbours=neighbours)
    return made


@pytest.fixture
def episode() -> Episode:
    return random_episode(FEATURES)


def compared_by_hand(made: Siamese, features: Array) -> Array:
    """h of each image."""
    if made.hidden is not None:
        weight, bias = made.hidden.weight.detach().numpy(), made.hidden.bias.detach().numpy()
        features = np.stack([1 / (1 + np.exp(-(weight @ x + bias))) for x in features])
    return np.stack([x / math.sqrt(x @ x) for x in features]) if made.loss == "triplet" else features


def logit_by_hand(made: Siamese, a: Array, b: Array) -> float:
    return made.bias.item() + sum(alpha * abs(x - y) for alpha, x, y in zip(made.alpha.detach().numpy(), a, b, strict=True))


def square_by_hand(a: Array, b: Array) -> float:
    return float(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def similarity_by_hand(made: Siamese, a: Array, b: Array) -> float:
    return logit_by_hand(made, a, b) if made.loss == "verification" else -square_by_hand(a, b)


def loss_by_hand(made: Siamese, h: Array, y: NDArray[np.int64]) -> float:
    """Of one task."""
    places, margin = range(len(y)), MARGINS[made.loss]
    hinges, losses = [], {True: [], False: []}
    if made.loss == "triplet":
        hinges = [
            square_by_hand(h[a], h[p]) - square_by_hand(h[a], h[n]) + margin
            for a, p, n in itertools.product(places, repeat=3)
            if a != p and y[a] == y[p] != y[n]
        ]
    for i, j in itertools.combinations(places, 2):
        same = bool(y[i] == y[j])
        if made.loss == "verification":
            p = 1 / (1 + math.exp(-logit_by_hand(made, h[i], h[j])))
            losses[same].append(-math.log(p if same else 1 - p))
        if made.loss == "contrastive":
            distance = math.sqrt(square_by_hand(h[i], h[j]))
            losses[same].append(distance**2 if same else max(0.0, margin - distance) ** 2)
            hinges += [] if same else [margin - distance]
    # Otherwise the comparison would say little of the margin.
    assert made.loss == "verification" or max(hinges) > 0
    assert made.loss == "verification" or made.hidden is not None or min(hinges) < 0
    if made.loss == "triplet":
        return sum(max(0.0, hinge) for hinge in hinges) / len(hinges)
    return sum(sum(of_kind) / len(of_kind) for of_kind in losses.values()) / 2


@LOSSES
@HIDDEN
@pytest.mark.parametrize("neighbours", [1, 2, 9])
def test_loss_and_answers_are_those_of_the_papers(episode: Episode, loss: str, hidden: int | None, neighbours: int) -> None:
    made = siamese(loss, hidden=hidden, neighbours=neighbours)
    found = made.training_loss(episode)
    losses = []
    for task in range(len(episode)):
        support_y, query_y = episode.support.y[task].numpy(), episode.query.y[task].numpy()
        support = compared_by_hand(made, episode.support.x[task].numpy())
        query = compared_by_hand(made, episode.query.x[task].numpy())
        losses.append(loss_by_hand(made, np.concatenate([support, query]), np.concatenate([support_y, query_y])))
        for place, of_query in enumerate(query):
            for label in range(3):
                members = [x for x, y in zip(support, support_y, strict=True) if y == label]
                best = sorted((similarity_by_hand(made, of_query, x) for x in members), reverse=True)[:neighbours]
                assert found.answers[task, place, label].item() == pytest.approx(sum(best) / len(best), abs=1e-10)
    assert found.loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-10)
    torch.testing.assert_close(made(episode.support, episode.query.x), found.answers, atol=1e-10, rtol=0)


def test_the_head_exists_only_for_verification_and_the_units_only_where_asked_for() -> None:
    names = {
        (loss, hidden): set(own_parameters(siamese(loss, hidden=hidden)))
        for loss in ("verification", "contrastive", "triplet")
        for hidden in (None, 3)
    }
    units = {"hidden.weight", "hidden.bias"}
    assert names["verification", None] == {"alpha", "bias"}
    assert names["verification", 3] == {"alpha", "bias"} | units
    assert names["contrastive", None] == names["triplet", None] == set()
    assert names["contrastive", 3] == names["triplet", 3] == units


@LOSSES
def test_order_of_the_support_examples_does_not_matter(episode: Episode, loss: str) -> None:
    made = siamese(loss, neighbours=2)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    other = dataclasses.replace(episode, support=reordered(episode.support, order))
    for found, expected in zip(made.training_loss(other)[:2], made.training_loss(episode)[:2], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


@LOSSES
@pytest.mark.parametrize("protocol", ["transductive", "running", "support", "support_later", "none"])
def test_each_task_of_a_batch_is_learned_from_and_answered_as_if_it_were_alone(
    episode: Episode, protocol: Protocol, loss: str
) -> None:
    made = siamese(loss, protocol).eval()
    together = made.training_loss(episode)
    alone = [made.training_loss(one_task(episode, task)) for task in range(len(episode))]
    torch.testing.assert_close(made(episode.support, episode.query.x), together.answers, atol=1e-10, rtol=0)
    torch.testing.assert_close(torch.cat([one.answers for one in alone]), together.answers, atol=1e-10, rtol=0)
    assert together.loss.item() == pytest.approx(sum(one.loss.item() for one in alone) / len(alone), abs=1e-10)


def loss_of_pairs(loss: str, similarities: Tensor, y: Tensor) -> Tensor:
    if loss == "verification":
        return verification_loss(similarities, y)
    return {"contrastive": contrastive_loss, "triplet": triplet_loss}[loss](-similarities, y, MARGINS[loss])


@LOSSES
def test_tasks_with_different_numbers_of_pairs_count_the_same(loss: str) -> None:
    similarities = -torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    y = torch.tensor([[0, 1, 2, 2, 1, 0], [0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]])
    alone = [loss_of_pairs(loss, similarities[task : task + 1], y[task : task + 1]).item() for task in range(3)]
    assert loss_of_pairs(loss, similarities, y).item() == pytest.approx(sum(alone) / 3, abs=1e-12)


@LOSSES
@pytest.mark.parametrize("protocol", ["transductive", "running", "support", "support_later", "none"])
def test_queries_see_each_other_only_where_normalisation_says_so(episode: Episode, protocol: Protocol, loss: str) -> None:
    made = siamese(loss, protocol).eval()
    changed = episode.query.x.clone()
    changed[:, -1] += 1
    difference = (made(episode.support, changed) - made(episode.support, episode.query.x)).abs()
    assert bool((difference[:, :-1] > 1e-10).any()) is (protocol == "transductive") is made.transductive
    assert (difference[:, -1].amax(-1) > 1e-6).all()


@LOSSES
@HIDDEN
def test_every_parameter_gets_a_gradient_that_finite_differences_confirm(
    episode: Episode, loss: str, hidden: int | None
) -> None:
    made = siamese(loss, "none", hidden)
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


@LOSSES
def test_images_that_are_the_same_leave_gradients_finite(episode: Episode, loss: str) -> None:
    """Within a class and across classes."""
    x = episode.support.x[:, :1].expand_as(episode.support.x)
    same = dataclasses.replace(episode, support=Examples(x, episode.support.y))
    for protocol in ("none", "running"):
        found = gradients(siamese(loss, protocol, hidden=3), same)
        assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())


@LOSSES
@pytest.mark.parametrize("y", [[0, 1, 2], [1, 1, 1]], ids=["different_classes", "same_class"])
def test_pairs_of_one_kind_alone_leave_the_loss_and_its_gradient_finite(loss: str, y: list[int]) -> None:
    values = -torch.tensor([[[0.0, 1.0, 0.5], [1.0, 0.0, 2.0], [0.5, 2.0, 0.0]]], dtype=torch.float64)
    values.requires_grad_()
    found = loss_of_pairs(loss, values, torch.tensor([y]))
    found.backward()
    assert found.isfinite()
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert bool(found == 0) is (loss == "triplet")


@LOSSES
def test_what_is_no_number_does_not_go_unnoticed(episode: Episode, loss: str) -> None:
    for features in (episode.query.x[0, 0], episode.query.x, episode.support.x):
        features.fill_(math.nan)
        assert siamese(loss).training_loss(episode).loss.isnan()


def test_features_can_be_given_in_place_of_images(episode: Episode) -> None:
    made = siamese("verification", "running", hidden=3).eval()
    expected = made.training_loss(episode)
    support, query = (
        Examples(made.embed(examples.x, support=0).detach(), examples.y) for examples in (episode.support, episode.query)
    )
    found = made.training_loss(dataclasses.replace(episode, support=support, query=query, embedded=True))
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-10, rtol=0)
    torch.testing.assert_close(found.answers, expected.answers, atol=1e-10, rtol=0)


def test_weighted_absolute_differences_and_their_gradients_are_those_of_a_loop() -> None:
    """Where features are equal too, which have no slope."""
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.randn(2, count, 6, generator=generator, dtype=torch.float64) for count in (3, 4))
    b[0, 1] = a[0, 2]
    b[1, 3, :2] = a[1, 0, :2]
    weights = torch.tensor([0.5, -1.0, 2.0, -0.1, 0.3, -0.7], dtype=torch.float64)
    wanted = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)  # by how much each sum matters
    given = [tensor.clone().requires_grad_() for tensor in (a, b, weights)]
    found = weighted_absolute_differences(*given)
    of_a, of_b, of_weights = torch.autograd.grad((found * wanted).sum(), given)
    expected = [torch.zeros_like(tensor) for tensor in (a, b, weights)]
    for task, i, j in itertools.product(range(2), range(3), range(4)):
        difference = a[task, i] - b[task, j]
        assert found[task, i, j].item() == pytest.approx(float((weights * difference.abs()).sum()), abs=1e-12)
        slope = wanted[task, i, j] * weights * difference.sign()
        expected[0][task, i] += slope
        expected[1][task, j] -= slope
        expected[2] += wanted[task, i, j] * difference.abs()
    for gradient, by_hand in zip((of_a, of_b, of_weights), expected, strict=True):
        torch.testing.assert_close(gradient, by_hand, atol=1e-12, rtol=0)


def test_nearest_takes_all_examples_of_a_class_that_has_fewer() -> None:
    similarities = torch.tensor([[[4.0, 1.0, 3.0, 2.0]]])
    y = torch.tensor([[1, 0, 1, 1]])
    assert nearest(similarities, y, 1).tolist() == [[[1.0, 4.0]]]
    assert nearest(similarities, y, 2).tolist() == [[[1.0, 3.5]]]
    assert nearest(similarities, y, 100).tolist() == [[[1.0, 3.0]]]


@LOSSES
@HIDDEN
def test_answers_in_mixed_precision_are_nearly_those_without(episode: Episode, loss: str, hidden: int | None) -> None:
    made = siamese(loss, hidden=hidden).eval()
    expected = made(episode.support, episode.query.x).detach()
    answers, found = answers_in_bfloat16(made, episode)
    assert answers.dtype == torch.float32
    assert found.isfinite()
    torch.testing.assert_close(answers.double(), expected, atol=1e-4, rtol=1e-4)
