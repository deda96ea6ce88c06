"""SNAIL against the paper's blocks, written out with loops over positions and with one whole sequence for each query."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from metashot.algorithms.memory.snail import Snail
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput
from metashot.configuration.buildable import CONF
from metashot.episodes import Episode, Examples
from metashot.problems import Classification

TASKS, WAYS, SHOTS, QUERIES = 3, 3, 2, 2
PIXELS = (1, 2, 3)
Vector = NDArray[np.float64]


class Pixels(Backbone):
    """An image's features are its pixels."""

    def __init__(self, features: int = 6) -> None:
        super().__init__((1, 1, features), "none")
        self.feature_shape = (features,)

    def forward(self, images: Tensor, support: int) -> Tensor:
        return images.flatten(2)


def snail(backbone: Backbone | None = None, ways: int = WAYS, **settings: Any) -> Snail:
    """With weights so large that every part of it matters."""
    torch.manual_seed(0)
    sizes = {"embedding": 5, "keys": [4, 6, 3], "values": [3, 2, 4], "filters": 3, "reach": 4} | settings
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    algorithm = Snail(backbone or Pixels(), Classification(ways), **sizes, optimizer=optimizer).double()
    with torch.no_grad():
        for parameter in algorithm.parameters():
            parameter.uniform_(-0.8, 0.8)
    return algorithm


def mlp(protocol: Protocol) -> MLP:
    """With averages as training might have left them."""
    torch.manual_seed(1)
    network = MLP(PIXELS, [8, 5], protocol)
    for buffer in network.buffers():
        buffer.uniform_(0.1, 0.9)
    return network


def random_episode(ways: int = WAYS, shots: int = SHOTS, shares: list[int] | None = None, seed: int = 1) -> Episode:
    """The support examples are in no order of labels, and in another one in each task; `shares` are shots of each class."""
    generator = torch.Generator().manual_seed(seed)

    def examples(labels: Tensor) -> Examples:
        y = torch.stack([labels[torch.randperm(len(labels), generator=generator)] for _ in range(TASKS)])
        return Examples(torch.rand(*y.shape, *PIXELS, generator=generator, dtype=torch.float64), y)

    shares = shares or [shots] * ways
    support = examples(torch.arange(ways).repeat_interleave(torch.tensor(shares)))
    query = examples(torch.arange(ways).repeat_interleave(QUERIES))
    return Episode(support, query, torch.arange(TASKS), torch.arange(ways).expand(TASKS, -1))


@pytest.fixture
def episode() -> Episode:
    return random_episode()


def linear(weights: dict[str, Vector], name: str, x: Vector) -> Vector:
    return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0.0)


def dense_block_by_hand(sequence: list[Vector], weights: dict[str, Vector], name: str, dilation: int) -> list[Vector]:
    weight, bias = weights[f"{name}.convolutions.weight"], weights[f"{name}.convolutions.bias"]
    channels = len(sequence[0])
    filters = len(weight) // 2
    after = []
    for place, x in enumerate(sequence):
        before = sequence[place - dilation] if place >= dilation else np.zeros(channels)
        filtered = bias + weight[:, :channels] @ before + weight[:, channels:] @ x
        a, b = filtered[:filters], filtered[filters:]
        after.append(np.concatenate([x, np.tanh(a) / (1 + np.exp(-b))]))
    return after


def attention_block_by_hand(sequence: list[Vector], weights: dict[str, Vector], name: str) -> list[Vector]:
    kinds = ("queries", "keys", "values")
    queries, keys, values = ([linear(weights, f"{name}.{kind}", x) for x in sequence] for kind in kinds)
    after = []
    for place, x in enumerate(sequence):
        logits = [float(queries[place] @ keys[earlier]) / math.sqrt(len(keys[0])) for earlier in range(place + 1)]
        shares = [math.exp(logit) / sum(math.exp(other) for other in logits) for logit in logits]
        read = sum(share * value for share, value in zip(shares, values[: place + 1], strict=True))
        after.append(np.concatenate([x, read]))
    return after


def scores_by_hand(algorithm: Snail, support: Examples, query: Vector, reach: int) -> Vector:
    """Of one query [features], at the end of a sequence of its own after the support examples [S, features] of its task."""
    weights = {name: parameter.detach().numpy() for name, parameter in algorithm.named_parameters()}
    ways = len(weights["scores.weight"])
    examples = sorted(zip(support.x.numpy(), support.y.tolist(), strict=True), key=lambda example: example[1])
    sequence = [np.concatenate([linear(weights, "embedding", x), np.eye(ways)[y]]) for x, y in examples]
    sequence.append(np.concatenate([linear(weights, "embedding", query), np.zeros(ways)]))
    block = 0
    for attention in range(3):
        dilation = 1
        while attention > 0 and dilation < reach:
            sequence = dense_block_by_hand(sequence, weights, f"blocks.{block}", dilation)
            dilation, block = 2 * dilation, block + 1
        sequence = attention_block_by_hand(sequence, weights, f"blocks.{block}")
        block += 1
    return linear(weights, "scores", sequence[-1])


@pytest.mark.parametrize(
    ("ways", "shares", "reach"),
    [(3, [1, 1, 1], 4), (5, [1] * 5, 8), (3, [2, 2, 2], 4), (3, [4, 1, 2], 2), (2, [1, 1], 16), (4, [2, 2], 4)],
    ids=["as-in-the-paper", "no-power-of-two", "beyond-reach", "unequal-shots", "mostly-padding", "fewer-ways-than-outputs"],
)
def test_scores_are_those_of_a_whole_sequence_for_each_query(ways: int, shares: list[int], reach: int) -> None:
    algorithm = snail(ways=ways, reach=reach)
    episode = random_episode(len(shares), shares=shares)
    scores = algorithm(episode.support, episode.query.x)
    support, query = episode.support.x.flatten(2), episode.query.x.flatten(2)
    expected = [
        [scores_by_hand(algorithm, Examples(support[task], episode.support.y[task]), x, reach) for x in query[task].numpy()]
        for task in range(TASKS)
    ]
    assert scores.shape == (TASKS, len(shares) * QUERIES, ways)
    assert scores.std(dim=1).min() > 1e-3
    np.testing.assert_allclose(scores.detach(), np.array(expected), atol=1e-10)


def test_the_loss_is_that_of_the_last_position_of_each_sequence(episode: Episode) -> None:
    loss, scores, _ = snail().training_loss(episode)
    expected = [
        math.log(sum(math.exp(score) for score in of_query)) - of_query[target]
        for of_task, targets in zip(scores.tolist(), episode.query.y.tolist(), strict=True)
        for of_query, target in zip(of_task, targets, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(expected) / len(expected), abs=1e-10)


def test_the_configuration_is_the_network_of_the_paper_for_5_ways_and_1_shot() -> None:
    settings = OmegaConf.to_container(OmegaConf.load(CONF / "algo" / "snail.yaml"))["algo"]
    sizes = {key: settings[key] for key in ("embedding", "keys", "values", "filters", "reach")}
    shapes = {name: tuple(parameter.shape) for name, parameter in snail(Pixels(64), ways=5, **sizes).named_parameters()}
    expected = {"embedding.weight": (64, 64), "embedding.bias": (64,)}

    def attention(block: int, channels: int, key_size: int, value_size: int) -> None:
        expected[f"blocks.{block}.queries.weight"] = (key_size, channels)
        expected[f"blocks.{block}.queries.bias"] = (key_size,)
        expected[f"blocks.{block}.keys.weight"] = (key_size, channels)
        expected[f"blocks.{block}.values.weight"] = (value_size, channels)
        expected[f"blocks.{block}.values.bias"] = (value_size,)

    def dense(block: int, channels: int) -> None:
        expected[f"blocks.{block}.convolutions.weight"] = (2 * 128, 2 * channels)
        expected[f"blocks.{block}.convolutions.bias"] = (2 * 128,)

    attention(0, 64 + 5, 64, 32)
    dense(1, 101)
    dense(2, 229)
    dense(3, 357)
    attention(4, 485, 256, 128)
    dense(5, 613)
    dense(6, 741)
    dense(7, 869)
    attention(8, 997, 512, 256)
    expected["scores.weight"], expected["scores.bias"] = (5, 1253), (5,)
    assert shapes == expected


@pytest.mark.parametrize("step", ["training", "validation"])
def test_labels_of_queries_change_no_answer(episode: Episode, step: str) -> None:
    algorithm = snail(mlp("running")).train(step == "training")
    y = (episode.query.y + 1) % WAYS
    other = Episode(episode.support, Examples(episode.query.x, y), episode.number, episode.classes)
    if step == "training":
        before, after = (algorithm.training_loss(e) for e in (episode, other))
        losses, answers = (before.loss, after.loss), (before.answers, after.answers)
    else:
        (before,), (after,) = (algorithm.validation_step([e], 0)["episodes"] for e in (episode, other))
        losses, answers = (before["losses"], after["losses"]), (before["answers"], after["answers"])
    assert torch.equal(*answers)
    assert (losses[0] - losses[1]).abs().min() > 1e-3


@pytest.mark.parametrize(("protocol", "training"), [("running", False), ("none", False), ("none", True)])
def test_a_query_changes_no_other_answer(episode: Episode, protocol: Protocol, training: bool) -> None:
    algorithm = snail(mlp(protocol)).train(training)
    changed = episode.query.x.clone()
    changed[:, 2] = torch.rand(TASKS, *PIXELS, dtype=torch.float64)
    other = Episode(episode.support, Examples(changed, episode.query.y), episode.number, episode.classes)
    if training:
        before, after = (algorithm.training_loss(e).answers for e in (episode, other))
    else:
        (before,), (after,) = (algorithm.validation_step([e], 0)["episodes"] for e in (episode, other))
        before, after = before["answers"], after["answers"]
    difference = (before - after).abs().amax(dim=(0, 2))
    assert difference[2] > 1e-3
    difference[2] = 0
    assert difference.max() < 1e-12


@pytest.mark.parametrize(("protocol", "training"), [("running", False), ("none", True)])
def test_no_gradient_flows_between_queries_or_tasks(episode: Episode, protocol: Protocol, training: bool) -> None:
    algorithm = snail(mlp(protocol)).train(training)
    query_x = episode.query.x.requires_grad_()
    answers = algorithm(episode.support, query_x)
    for task in range(TASKS):
        for place in range(answers.shape[1]):
            (gradient,) = torch.autograd.grad(answers[task, place].square().sum(), query_x, retain_graph=True)
            reached = gradient.flatten(2).abs().amax(-1) > 0
            assert reached.nonzero().tolist() == [[task, place]]


def test_positions_do_not_depend_on_later_support_examples() -> None:
    algorithm = snail()
    sequence = torch.rand(TASKS, 7, 5 + WAYS, dtype=torch.float64)
    for changed in range(7):
        x, other = sequence, sequence.clone()
        other[:, changed] += 1
        for block in algorithm.blocks:
            x, other = block(x, 7), block(other, 7)
        difference = (x - other).abs().amax(dim=(0, 2))
        assert (difference[:changed] < 1e-12).all()
        assert (difference[changed:] > 1e-6).all()


def test_a_query_computes_what_a_support_example_in_its_place_would() -> None:
    algorithm = snail()
    x = torch.rand(TASKS, 7, 5 + WAYS, dtype=torch.float64)
    passes = [(x[:, : place + 1], place) for place in range(7)]
    for block in algorithm.blocks:
        x, passes = block(x, 7), [(block(partial, place), place) for partial, place in passes]
    torch.testing.assert_close(torch.stack([partial[:, -1] for partial, _ in passes], dim=1), x, atol=1e-12, rtol=0)


def test_the_order_in_which_classes_are_given_does_not_matter(episode: Episode) -> None:
    """Examples of a class stay in their order."""
    algorithm = snail()
    answers = []
    for order_of_classes in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        rank = torch.tensor(order_of_classes).argsort()[episode.support.y]
        order = rank.argsort(dim=1, stable=True)
        tasks = torch.arange(TASKS).unsqueeze(1)
        other = Examples(episode.support.x[tasks, order], episode.support.y[tasks, order])
        answers.append(algorithm(other, episode.query.x))
        torch.testing.assert_close(answers[-1], algorithm(episode.support, episode.query.x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("protocol", ["running", "transductive", "support", "none"])
def test_a_task_among_others_is_answered_as_alone(episode: Episode, protocol: Protocol) -> None:
    algorithm = snail(mlp(protocol)).eval()
    together = algorithm(episode.support, episode.query.x)
    for task in range(TASKS):
        one = slice(task, task + 1)
        alone = algorithm(Examples(episode.support.x[one], episode.support.y[one]), episode.query.x[one])
        torch.testing.assert_close(together[one], alone, atol=1e-12, rtol=0)


def test_features_that_were_kept_are_answered_as_their_images(episode: Episode) -> None:
    algorithm = snail(mlp("running")).eval()
    support, query = (
        Examples(algorithm.backbone(examples.x, support=0), examples.y) for examples in (episode.support, episode.query)
    )
    embedded = Episode(support, query, episode.number, episode.classes, embedded=True)
    torch.testing.assert_close(algorithm.answers_to(embedded), algorithm.answers_to(episode), atol=1e-12, rtol=0)


@pytest.mark.parametrize("reach", [2, 16])
def test_gradients_reach_every_parameter(episode: Episode, reach: int) -> None:
    algorithm = snail(mlp("running"), reach=reach).train()
    algorithm.training_loss(episode).loss.backward()
    for name, parameter in algorithm.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-9, name


def test_mixed_precision_is_close_to_full_precision(episode: Episode) -> None:
    algorithm = snail(mlp("none")).float()
    support = Examples(episode.support.x.float(), episode.support.y)
    exact = algorithm(support, episode.query.x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = algorithm(support, episode.query.x.float())
        algorithm.problem.loss(mixed, episode.query.y).backward()
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).abs().max() < 0.03 * exact.abs().max()
    assert all(parameter.grad.isfinite().all() for parameter in algorithm.parameters())


def test_the_number_of_classes_is_fixed() -> None:
    assert snail(ways=4).fixed_ways == 4


@pytest.mark.parametrize("reach", [-8, 0, 1, 3, 6, 12])
def test_a_reach_that_is_no_power_of_two_is_refused(reach: int) -> None:
    with pytest.raises(BadInput, match=f"^algo.reach={reach} cannot be used; allowed: a power of two"):
        snail(reach=reach)


@pytest.mark.parametrize(("keys", "values"), [([4, 6], [3, 2, 4]), ([], [])])
def test_keys_without_values_are_refused(keys: list[int], values: list[int]) -> None:
    with pytest.raises(BadInput, match=r"algo\.keys=.* and algo\.values="):
        snail(keys=keys, values=values)
