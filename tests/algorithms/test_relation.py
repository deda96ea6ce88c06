"""Relation networks against the paper's network, pair by pair on concatenated maps."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from metashot.algorithms.metric.relation import Relation
from metashot.backbones.base import Backbone
from metashot.backbones.conv4 import Conv4
from metashot.backbones.normalisation import Protocol
from metashot.backbones.resnet12 import ResNet12
from metashot.bad_input import BadInput
from metashot.episodes import Episode
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
SHAPE = (2, 4, 6)  # of a map
WAYS = 3
PROTOCOLS = pytest.mark.parametrize("protocol", ["transductive", "running", "support", "support_later", "none"])


def relation(protocol: Protocol = "none", backbone: Backbone | None = None, loss: str = "mse") -> Relation:
    made: Relation = learner(Relation, backbone or Pixels(*SHAPE, normalisation=protocol), channels=3, hidden=4, loss=loss)
    return made


@pytest.fixture
def episode() -> Episode:
    return random_episode(*SHAPE)


def scores_by_hand(made: Relation, support: Array, y: NDArray[np.int64], query: Array, training: bool) -> Array:
    """Of one task [Q, ways], before the sigmoid: every pair goes through the paper's layers as a concatenation."""
    module, protocol = made.module, made.backbone.normalisation
    class_maps = [sum(image for image, label in zip(support, y, strict=True) if label == wanted) for wanted in range(WAYS)]

    def pairs(images: Array) -> Array:
        return np.stack([np.concatenate([of_class, image]) for image in images for of_class in class_maps])

    asked = pairs(query)
    by_support = protocol == "support" or (protocol == "support_later" and not training)
    learned_from = pairs(support) if by_support else asked  # whose statistics normalise
    for convolution, layer in (
        (module.first, module.first_normalisation),
        (module.second, module.second_normalisation),
    ):
        asked, learned_from = (
            F.conv2d(torch.as_tensor(x), convolution.weight.detach(), padding=1).numpy() for x in (asked, learned_from)
        )
        if protocol == "none":
            scale, shift = np.ones(asked.shape[1]), layer.bias.detach().numpy()
        else:
            mean, variance = learned_from.mean((0, 2, 3)), learned_from.var((0, 2, 3))
            if protocol == "running" and not training:
                mean, variance = layer.running_mean.numpy(), layer.running_var.numpy()
            scale = layer.weight.detach().numpy() / np.sqrt(variance + 1e-5)
            shift = layer.bias.detach().numpy() - mean * scale
        asked, learned_from = (
            largest_of_each_square(np.maximum(x * scale[:, None, None] + shift[:, None, None], 0))
            for x in (asked, learned_from)
        )
    scores = []
    for maps in asked:
        hidden = module.to_hidden.weight.detach().numpy() @ maps.flatten() + module.to_hidden.bias.detach().numpy()
        scores.append(module.to_score.weight.detach().numpy()[0] @ np.maximum(hidden, 0) + module.to_score.bias.item())
    return np.reshape(scores, (len(query), WAYS))


def largest_of_each_square(x: Array) -> Array:
    images, channels, height, width = x.shape
    whole = x[:, :, : height // 2 * 2, : width // 2 * 2]
    return whole.reshape(images, channels, height // 2, 2, width // 2, 2).max((3, 5))


def all_by_hand(made: Relation, episode: Episode, training: bool = False) -> Array:
    tensors = (episode.support.x, episode.support.y, episode.query.x)
    return np.stack(
        [scores_by_hand(made, *(tensor[task].numpy() for tensor in tensors), training) for task in range(len(episode))]
    )


@PROTOCOLS
@pytest.mark.parametrize("training", [False, True], ids=["after_training", "in_training"])
def test_scores_are_those_of_each_pair_of_maps_in_the_relation_module(
    episode: Episode, protocol: Protocol, training: bool
) -> None:
    made = relation(protocol).train(training)
    expected = all_by_hand(made, episode, training)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(made(episode.support, episode.query.x).detach(), expected, atol=1e-10)


def test_mse_regresses_relation_scores_to_one_for_the_right_class_and_to_zero_for_others(episode: Episode) -> None:
    """Where the last class has no queries too."""
    made = relation()
    loss, answers, _ = made.training_loss(episode)
    expected = all_by_hand(made, episode)
    np.testing.assert_allclose(answers.detach(), expected, atol=1e-10)
    squares = [
        (1 / (1 + math.exp(-score)) - int(label == right)) ** 2
        for of_task, targets in zip(expected, episode.query.y, strict=True)
        for of_query, right in zip(of_task, targets, strict=True)
        for label, score in enumerate(of_query)
    ]
    assert loss.item() == pytest.approx(sum(squares) / len(squares), rel=1e-9)


def test_cross_entropy_is_that_of_the_scores_before_the_sigmoid(episode: Episode) -> None:
    made = relation(loss="cross_entropy")
    loss, answers, _ = made.training_loss(episode)
    expected = all_by_hand(made, episode)
    np.testing.assert_allclose(answers.detach(), expected, atol=1e-10)
    losses = [
        math.log(sum(math.exp(score) for score in of_query)) - of_query[right]
        for of_task, targets in zip(expected, episode.query.y, strict=True)
        for of_query, right in zip(of_task, targets, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-9)


@PROTOCOLS
def test_order_of_the_support_examples_does_not_matter(episode: Episode, protocol: Protocol) -> None:
    made = relation(protocol).eval()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(
        made(reordered(episode.support, order), episode.query.x),
        made(episode.support, episode.query.x),
        atol=1e-10,
        rtol=0,
    )


@PROTOCOLS
def test_each_task_of_a_batch_is_answered_as_if_it_were_alone(episode: Episode, protocol: Protocol) -> None:
    made = relation(protocol).eval()
    together = made(episode.support, episode.query.x)
    for task in range(len(episode)):
        one = one_task(episode, task)
        torch.testing.assert_close(made(one.support, one.query.x)[0], together[task], atol=1e-10, rtol=0)


@PROTOCOLS
def test_pairs_of_many_tasks_are_not_in_memory_together_where_nothing_is_learned(
    episode: Episode, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = relation(protocol).eval()
    together = made(episode.support, episode.query.x).detach()
    tasks: list[int] = []
    made.module.register_forward_pre_hook(lambda module, inputs: tasks.append(len(inputs[0])))
    pairs = together[0].numel()
    for at_once, expected in ((1, [1] * len(episode)), (2 * pairs, [2] * (len(episode) // 2) + [1] * (len(episode) % 2))):
        monkeypatch.setattr("metashot.algorithms.metric.relation._AT_ONCE", at_once)
        with torch.no_grad():
            torch.testing.assert_close(made(episode.support, episode.query.x), together, atol=1e-10, rtol=0)
        assert tasks == expected
        tasks.clear()
    made(episode.support, episode.query.x)
    assert tasks == [len(episode)]


@PROTOCOLS
def test_queries_see_each_other_only_where_normalisation_says_so(episode: Episode, protocol: Protocol) -> None:
    made = relation(protocol).eval()
    changed = episode.query.x.clone()
    changed[:, -1] += 1
    difference = (made(episode.support, changed) - made(episode.support, episode.query.x)).abs()
    assert bool((difference[:, :-1] > 1e-10).any()) is (protocol == "transductive") is made.transductive
    assert (difference[:, -1].amax(-1) > 1e-6).all()


@PROTOCOLS
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_every_parameter_gets_a_finite_gradient(protocol: Protocol, loss: str) -> None:
    made = relation(backbone=Conv4((1, 16, 16), 2, "pool", protocol, halvings=2), loss=loss)
    for name, gradient in gradients(made, random_episode(1, 16, 16)).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert protocol != "none" or gradient.any(), name


@PROTOCOLS
def test_gradients_are_those_of_finite_differences(episode: Episode, protocol: Protocol) -> None:
    made = relation(protocol).train()
    inputs = [episode.support.x, episode.query.x, *own_parameters(made).values()]
    for tensor in inputs:
        tensor.requires_grad_()
    found = torch.autograd.grad(made.training_loss(episode).loss, inputs)
    generator = torch.Generator().manual_seed(2)
    for tensor, gradient in zip(inputs, found, strict=True):
        direction = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor += sign * 1e-6 * direction
                losses.append(made.training_loss(episode).loss.item())
                tensor -= sign * 1e-6 * direction
        expected = (losses[0] - losses[1]) / 2e-6
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_training_moves_the_averages_of_the_relation_module(episode: Episode) -> None:
    made = relation("running").train()
    layer = made.module.first_normalisation
    before = layer.running_mean.clone()
    made.training_step([episode], 0)
    weight = made.module.first.weight.detach()
    means = []
    for task in range(len(episode)):
        support, y, query = (t[task] for t in (episode.support.x, episode.support.y, episode.query.x))
        maps = [torch.cat([support[y == label].sum(0), image]) for image in query for label in range(WAYS)]
        means.append(F.conv2d(torch.stack(maps), weight, padding=1).mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_mean, before + 0.1 * (torch.stack(means).mean(0) - before), atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("backbone", "given"),
    [
        (ResNet12((1, 16, 16), [2, 2, 2, 7], "average", 0.0, 5, "running"), "7 numbers without height and width"),
        (Pixels(2, 4, 3), "maps of 4x3"),
        (Pixels(2, 3, 4), "maps of 3x4"),
        (Conv4((1, 28, 28), 2, "pool", "running", halvings=4), "maps of 1x1"),
    ],
    ids=["vector", "narrow", "low", "conv4"],
)
def test_features_that_are_no_maps_large_enough_are_refused(backbone: Backbone, given: str) -> None:
    advice = r"backbone=conv4_maps, or conv4 with backbone\.halvings=2"
    with pytest.raises(BadInput, match=rf"a relation network .*at least 4x4.*{given}.*{advice}"):
        relation(backbone=backbone)


def test_inputs_that_are_no_images_are_refused() -> None:
    with pytest.raises(BadInput, match=r"^relation networks compare feature maps, and inputs of shape \[7\] have none"):
        relation(backbone=Pixels(7))


def test_answers_in_mixed_precision_are_finite(episode: Episode) -> None:
    for protocol in ("transductive", "running", "support", "none"):
        made = relation(protocol).eval()
        expected = made(episode.support, episode.query.x).detach()
        answers, loss = answers_in_bfloat16(made, episode)
        assert answers.dtype == torch.float32
        assert loss.isfinite()
        torch.testing.assert_close(answers.double(), expected, atol=0.3, rtol=0.1)
