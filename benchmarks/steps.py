"""Training steps on random images, for benchmarks that do not measure data."""

from collections.abc import Callable

import torch

from metashot.algorithms.base import Algorithm
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.episodes import Episode, Examples
from metashot.problems import Classification


def protonet(backbone: Backbone, ways: int) -> ProtoNet:
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    return ProtoNet(backbone, Classification(ways), "euclidean", 1.0, False, optimizer)


def random_images(shape: tuple[int, int, int], tasks: int, ways: int, shots: int, queries: int) -> Episode:
    support, query = (
        Examples(torch.rand(tasks, ways * each, *shape), torch.arange(ways).repeat_interleave(each).expand(tasks, -1))
        for each in (shots, queries)
    )
    return Episode(support, query, torch.arange(tasks), torch.arange(ways).expand(tasks, -1))


def training_step(made: Algorithm, episode: Episode) -> Callable[[], None]:
    """A function that computes the loss and its gradients."""

    def step() -> None:
        made.training_step([episode], 0)["loss"].backward()
        made.zero_grad()

    return step
