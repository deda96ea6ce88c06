"""Prototypical networks against the paper's formulas, written out with loops."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.metric.protonet import ProtoNet, class_means, squared_distances
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.episodes import Episode, Examples
from metashot.problems import Classification

TASKS, WAYS, SHOTS, QUERIES = 3, 4, 3, 5


class Pixels(Backbone):
    """An image's features are its pixels."""

    features = 6

    def forward(self, images: Tensor, support: int) -> Tensor:
        return images.flatten(2)


def protonet(backbone: Backbone) -> ProtoNet:
    return ProtoNet(
        "protonet", backbone, Classification(WAYS), Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    ).double()


def mlp(protocol: Protocol) -> MLP:
    """With averages and weights as training might have left them."""
    torch.manual_seed(0)
    network = MLP((1, 2, 3), [8, 5], protocol)
    with torch.no_grad():
        for normalisation in network.normalisations:
            normalisation.weight.uniform_(0.5, 1.5)
            normalisation.bias.uniform_(0, 1)
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


def scores_by_hand(support: NDArray[np.float64], y: NDArray[np.int64], query: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of one task: minus the squared distance of each query to the mean of each class's support features."""
    scores = np.empty((len(query), WAYS))
    for label in range(WAYS):
        members = [features for features, target in zip(support, y, strict=True) if target == label]
        prototype = sum(members) / len(members)
        for place, features in enumerate(query):
            scores[place, label] = -sum((a - b) ** 2 for a, b in zip(features, prototype, strict=True))
    return scores


def loss_by_hand(scores: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """The mean of -log softmax at the right class, over all queries of all tasks."""
    losses = [
        np.log(np.exp(of_query).sum()) - of_query[target]
        for of_task, targets in zip(scores, y, strict=True)
        for of_query, target in zip(of_task, targets, strict=True)
    ]
    return float(sum(losses) / len(losses))


@pytest.mark.parametrize("make", [lambda: Pixels((1, 2, 3), "running"), lambda: mlp("running")], ids=["pixels", "mlp"])
def test_scores_and_loss_are_those_of_the_paper(episode: Episode, make: type) -> None:
    algorithm = protonet(make()).eval()
    loss, scores, _ = algorithm.training_loss(episode)
    support = algorithm.backbone(episode.support.x, support=WAYS * SHOTS).detach().numpy()
    query = algorithm.backbone(episode.query.x, support=0).detach().numpy()
    y = episode.support.y.numpy()
    expected = np.stack([scores_by_hand(support[task], y[task], query[task]) for task in range(TASKS)])
    assert scores.shape == (TASKS, WAYS * QUERIES, WAYS)
    np.testing.assert_allclose(scores.detach(), expected, atol=1e-10)
    assert loss.item() == pytest.approx(loss_by_hand(expected, episode.query.y.numpy()), abs=1e-10)


def test_validation_reports_the_loss_and_the_right_answers_of_each_task(episode: Episode) -> None:
    (answers,) = protonet(mlp("running")).eval().validation_step([episode], 0)["episodes"]
    scores, y = answers["answers"].numpy(), episode.query.y.numpy()
    for task in range(TASKS):
        one = slice(task, task + 1)
        assert answers["losses"][task].item() == pytest.approx(loss_by_hand(scores[one], y[one]), abs=1e-10)
        assert answers["scores"][task].item() == (scores[task].argmax(-1) == y[task]).sum()


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
    algorithm = protonet(Pixels((1, 2, 3), "running"))
    members = [episode.support.x[:, episode.support.y[0] == label] for label in range(WAYS)]
    averages = Examples(torch.stack([images.mean(1) for images in members], dim=1), torch.arange(WAYS).expand(TASKS, -1))
    one_shot = algorithm(averages, episode.query.x)
    torch.testing.assert_close(algorithm(episode.support, episode.query.x), one_shot, atol=1e-10, rtol=0)


def test_class_means_count_only_the_members_of_a_class() -> None:
    features = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [10.0, 10.0]]])
    assert class_means(features, torch.tensor([[0, 0, 1]])).tolist() == [[[2.0, 2.0], [10.0, 10.0]]]


def test_squared_distances_are_those_of_pythagoras() -> None:
    a, b = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]), torch.tensor([[[3.0, 4.0], [1.0, 1.0], [1.0, 2.0]]])
    assert squared_distances(a, b).tolist() == [[[25.0, 2.0, 5.0], [13.0, 0.0, 1.0]]]
