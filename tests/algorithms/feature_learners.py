"""Learners that compare features, and tasks to hold them against formulas that are written out with loops."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.episodes import Episode, Examples
from metashot.problems import Classification


class Pixels(Backbone):
    """An image's features are its pixels."""

    def __init__(self, *shape: int, normalisation: Protocol = "running") -> None:
        super().__init__(shape, normalisation)
        self.feature_shape = shape
        self.of_its_type = nn.Parameter(torch.zeros([]), requires_grad=False)  # learners compute in the type of parameters

    def forward(self, images: Tensor, support: int) -> Tensor:
        return images.flatten(2)


def learner(kind: type[Any], backbone: Backbone, **settings: Any) -> Any:
    """One with parameters in float64, all of them and all averages away from where training begins."""
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    torch.manual_seed(0)
    made = kind(backbone=backbone, problem=Classification(4), optimizer=optimizer, **settings)
    assert isinstance(made, FeatureLearner)
    with torch.no_grad():
        for parameter in own_parameters(made).values():
            parameter += 0.3 * torch.randn(parameter.shape)
        for module in made.modules():
            if isinstance(module, Normalisation):
                for buffer in module.buffers():
                    buffer.uniform_(0.3, 0.9)
    return made.double()


def own_parameters(made: FeatureLearner) -> dict[str, Tensor]:
    """Those that it learns."""
    return {name: parameter for name, parameter in made.named_parameters() if parameter.requires_grad}


def random_episode(
    *shape: int, tasks: int = 2, support: Sequence[int] = (1, 3, 2), query: Sequence[int] = (2, 1, 0), seed: int = 1
) -> Episode:
    """With so many examples of each class. Each task has an order of its own, and the last class may have no queries."""
    generator = torch.Generator().manual_seed(seed)

    def examples(counts: Sequence[int]) -> Examples:
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        y = torch.stack([labels[torch.randperm(len(labels), generator=generator)] for _ in range(tasks)])
        return Examples(torch.randn(tasks, len(labels), *shape, generator=generator, dtype=torch.float64), y)

    return Episode(examples(support), examples(query), torch.arange(tasks), torch.arange(len(support)).expand(tasks, -1))


def one_task(episode: Episode, task: int) -> Episode:
    """One of the tasks of a batch, in a batch of its own."""
    one = slice(task, task + 1)
    return Episode(
        Examples(episode.support.x[one], episode.support.y[one]),
        Examples(episode.query.x[one], episode.query.y[one]),
        episode.number[one],
        episode.classes[one],
    )


def reordered(support: Examples, order: Tensor) -> Examples:
    return Examples(support.x[:, order], support.y[:, order])


def gradients(made: FeatureLearner, episode: Episode) -> dict[str, Tensor | None]:
    """Of the loss that training minimises; `None` where a parameter has no part in it, which several devices refuse."""
    made.zero_grad()
    made.train().training_loss(episode).loss.backward()
    return {name: parameter.grad for name, parameter in own_parameters(made).items()}


def answers_in_bfloat16(made: FeatureLearner, episode: Episode) -> tuple[Tensor, Tensor]:
    """What a learner in float32 answers under mixed precision, and its loss."""
    made = made.float()
    single = Episode(
        Examples(episode.support.x.float(), episode.support.y),
        Examples(episode.query.x.float(), episode.query.y),
        episode.number,
        episode.classes,
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return made.eval()(single.support, single.query.x), made.train().training_loss(single).loss
