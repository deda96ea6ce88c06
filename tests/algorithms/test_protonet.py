"""Prototypical networks against the paper's formulas, written out with loops."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metashot.algorithms.metric.protonet import ProtoNet
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.episodes import Episode, Examples
from metashot.problems import Classification

TASKS, WAYS, SHOTS, QUERIES = 3, 4, 3, 5


class Pixels(Backbone):
    """An image's features are its pixels, times one."""

    feature_shape = (6,)

    def __init__(self, input_shape: tuple[int, ...] = (1, 2, 3), normalisation: Protocol = "running") -> None:
        super().__init__(input_shape, normalisation)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor, support: int) -> Tensor:
        return images.flatten(2) * self.scale


def protonet(
    backbone: Backbone, distance: Any = "euclidean", temperature: float = 1.0, learned: bool = False, ways: int = WAYS
) -> ProtoNet:
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    made = ProtoNet(backbone, Classification(ways), distance, temperature, learned, optimizer).double()
    made.log_temperature.data.fill_(np.log(temperature))  # in float64
    return made


def mlp(protocol: Protocol) -> MLP:
    """With averages and weights as training might have left them."""
    torch.manual_seed(0)
    network = MLP((1, 2, 3), [8, 5], protocol)
    with torch.no_grad():
        for normalisation in network.normalisations:
            normalisation.weight.uniform_(0.5, 1.5)
            normalisation.bias.uniform_(1, 2)  # so that no feature is zero all over
            for buffer in normalisation.buffers():
                buffer.uniform_(0.1, 0.9)
    return network


@pytest.fixture
def episode() -> Episode:
    """The support examples are in no order of labels."""
    generator = torch.Generator().manual_seed(1)

    def examples(each: int) -> Examples:
        order = torch.randperm(WAYS * each, generator=generator)
        x = torch.rand(TASKS, WAYS * each, 1, 2, 3, generator=generator, dtype=torch.float64)
        return Examples(x, torch.arange(WAYS).repeat_interleave(each)[order].expand(TASKS, -1))

    return Episode(examples(SHOTS), examples(QUERIES), torch.arange(TASKS), torch.arange(WAYS).expand(TASKS, -1))


def similarity_by_hand(a: NDArray[np.float64], b: NDArray[np.float64], distance: str) -> float:
    """Minus the squared distance, or the cosine."""
    if distance == "euclidean":
        return -sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    product, lengths = sum(x * y for x, y in zip(a, b, strict=True)), sum(x * x for x in a) * sum(y * y for y in b)
    return product / float(lengths) ** 0.5


def scores_by_hand(
    support: NDArray[np.float64], y: NDArray[np.int64], query: NDArray[np.float64], distance: str = "euclidean"
) -> NDArray[np.float64]:
    """Of one task: how near each query is to the mean of each class's support features."""
    ways = max(y) + 1
    scores = np.empty((len(query), ways))
    for label in range(ways):
        members = [features for features, target in zip(support, y, strict=True) if target == label]
        prototype = sum(members) / len(members)
        for place, features in enumerate(query):
            scores[place, label] = similarity_by_hand(features, prototype, distance)
    return scores


def loss_by_hand(scores: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """The mean of -log softmax at the right class, over all queries of all tasks."""
    losses = [
        np.log(np.exp(of_query).sum()) - of_query[target]
        for of_task, targets in zip(scores, y, strict=True)
        for of_query, target in zip(of_task, targets, strict=True)
    ]
    return float(sum(losses) / len(losses))


@pytest.mark.parametrize("temperature", [1.0, 0.1, 3.0])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("make", [Pixels, lambda: mlp("running")], ids=["pixels", "mlp"])
def test_scores_and_loss_are_those_of_the_paper(episode: Episode, make: type, distance: str, temperature: float) -> None:
    algorithm = protonet(make(), distance, temperature).eval()
    loss, scores, _ = algorithm.training_loss(episode)
    support = algorithm.backbone(episode.support.x, support=WAYS * SHOTS).detach().numpy()
    query = algorithm.backbone(episode.query.x, support=0).detach().numpy()
    y = episode.support.y.numpy()
    expected = np.stack([scores_by_hand(support[task], y[task], query[task], distance) for task in range(TASKS)])
    assert scores.shape == (TASKS, WAYS * QUERIES, WAYS)
    np.testing.assert_allclose(scores.detach(), expected / temperature, atol=1e-10)
    assert loss.item() == pytest.approx(loss_by_hand(expected / temperature, episode.query.y.numpy()), abs=1e-10)


def test_validation_reports_the_loss_and_the_right_answers_of_each_task(episode: Episode) -> None:
    (answers,) = protonet(mlp("running")).eval().validation_step([episode], 0)["episodes"]
    scores, y = answers["answers"].numpy(), episode.query.y.numpy()
    for task in range(TASKS):
        one = slice(task, task + 1)
        assert answers["losses"][task].item() == pytest.approx(loss_by_hand(scores[one], y[one]), abs=1e-10)
        assert answers["statistics"][task, 0].item() == (scores[task].argmax(-1) == y[task]).sum()


@pytest.mark.parametrize("protocol", ["transductive", "running", "support"])
def test_order_of_the_support_examples_does_not_matter(episode: Episode, protocol: Protocol) -> None:
    algorithm = protonet(mlp(protocol)).eval()
    order = torch.randperm(WAYS * SHOTS, generator=torch.Generator().manual_seed(2))
    other = Examples(episode.support.x[:, order], episode.support.y[:, order])
    assert order.tolist() != sorted(order.tolist())
    torch.testing.assert_close(
        algorithm(other, episode.query.x), algorithm(episode.support, episode.query.x), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize(("protocol", "transductive"), [("transductive", True), ("running", False), ("support", False)])
def test_the_reported_transductive_is_whether_queries_see_each_other(
    episode: Episode, protocol: Protocol, transductive: bool
) -> None:
    algorithm = protonet(mlp(protocol)).eval()
    changed = episode.query.x.clone()
    changed[:, -1] = 0
    difference = (algorithm(episode.support, changed) - algorithm(episode.support, episode.query.x)).abs()
    assert bool((difference[:, :-1] > 1e-10).any()) is transductive
    assert difference[:, -1].min() > 1e-6
    assert algorithm.transductive is transductive


def test_a_class_with_more_shots_is_their_average(episode: Episode) -> None:
    algorithm = protonet(Pixels())
    members = [episode.support.x[:, episode.support.y[0] == label] for label in range(WAYS)]
    averages = Examples(torch.stack([images.mean(1) for images in members], dim=1), torch.arange(WAYS).expand(TASKS, -1))
    one_shot = algorithm(averages, episode.query.x)
    torch.testing.assert_close(algorithm(episode.support, episode.query.x), one_shot, atol=1e-10, rtol=0)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("learned", [True, False])
def test_a_temperature_is_that_of_the_configuration_and_kept_whether_it_is_learned_or_not(
    distance: str, learned: bool
) -> None:
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    made = ProtoNet(mlp("running"), Classification(WAYS), distance, 0.4, learned, optimizer)  # type: ignore[arg-type]
    (name,) = set(made.state_dict()) - {f"backbone.{name}" for name in made.backbone.state_dict()}
    assert made.state_dict()[name].exp().item() == pytest.approx(0.4)
    of_backbone = {f"backbone.{name}" for name, _ in made.backbone.named_parameters()}
    learning = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert learning == of_backbone | ({name} if learned else set())


@pytest.mark.parametrize("learned", [True, False])
def test_a_kept_temperature_is_the_one_that_is_used(episode: Episode, learned: bool) -> None:
    torch.manual_seed(0)
    other = protonet(mlp("running"), temperature=0.25, learned=learned).eval()
    made = protonet(mlp("running"), temperature=1.0, learned=learned).eval()
    before = made(episode.support, episode.query.x)
    made.load_state_dict(other.state_dict())
    torch.testing.assert_close(made(episode.support, episode.query.x), 4 * before)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_the_gradient_of_a_learned_temperature_is_that_of_finite_differences(episode: Episode, distance: str) -> None:
    made = protonet(Pixels(), distance, 0.3, learned=True)
    made.training_loss(episode).loss.backward()
    losses = []
    for logarithm in (np.log(0.3) + 1e-5, np.log(0.3) - 1e-5):
        with torch.no_grad():
            made.log_temperature.fill_(logarithm)
            losses.append(made.training_loss(episode).loss.item())
    assert abs(made.log_temperature.grad.item()) > 1e-3
    assert made.log_temperature.grad.item() == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_it_trains_with_other_ways_than_it_answers_with(distance: str) -> None:
    made = protonet(mlp("running"), distance, 0.5, learned=True, ways=7)

    def of_ways(ways: int) -> Episode:
        torch.manual_seed(ways)
        y = torch.arange(ways).repeat(2).expand(2, -1)
        support, query = (Examples(torch.rand(2, 2 * ways, 1, 2, 3, dtype=torch.float64), y) for _ in range(2))
        return Episode(support, query, torch.arange(2), torch.arange(ways).expand(2, -1))

    descent = torch.optim.SGD(made.parameters(), 0.1)
    made.train().training_step([of_ways(7)], 0)["loss"].backward()
    assert all(parameter.grad is not None for parameter in made.parameters())
    descent.step()
    fewer = of_ways(4)
    (answers,) = made.eval().validation_step([fewer], 0)["episodes"]
    support, query = (made.backbone(x, support=0).detach().numpy() for x in (fewer.support.x, fewer.query.x))
    by_hand = [scores_by_hand(support[task], fewer.support.y[task].numpy(), query[task], distance) for task in range(2)]
    np.testing.assert_allclose(answers["answers"], np.stack(by_hand) / made.log_temperature.exp().item(), atol=1e-10)
