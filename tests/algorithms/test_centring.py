"""SimpleShot: nearest means of normalised features, and the mean feature of the training classes."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metashot import configuration
from metashot.algorithms import centring
from metashot.algorithms.centring import Normalise
from metashot.algorithms.metric.protonet import ProtoNet
from metashot.backbones.base import Backbone
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.episodes import Batch, Episode, Examples
from metashot.training.trainer import TrainerOptions
from tests.configuration.test_configuration import composed
from tests.training.fits import QUERIES, SHAPE, SHOTS, WAYS, RandomEpisodes

from .feature_learners import Pixels, gradients, learner, random_episode

FEATURES = 5
KINDS: Sequence[Normalise] = ("none", "l2", "centre_l2")


def simpleshot(kind: Normalise, backbone: Backbone | None = None) -> ProtoNet:
    made = learner(
        ProtoNet,
        backbone or Pixels(FEATURES),
        distance="euclidean",
        temperature=1.0,
        learned_temperature=False,
        normalise=kind,
    )
    assert isinstance(made, ProtoNet)
    if kind == "centre_l2":
        made.normalised.mean.copy_(torch.linspace(0.2, 1.0, made.backbone.features))
    return made


def by_hand(kind: str, mean: Any, episode: Episode) -> NDArray[np.float64]:
    def normalised(features: Any) -> Any:
        if kind == "none":
            return features
        centred = features - mean if kind == "centre_l2" else features
        return centred / np.sqrt((centred**2).sum())

    answers = []
    for x, y, query in zip(episode.support.x.numpy(), episode.support.y.numpy(), episode.query.x.numpy(), strict=True):
        means = [np.mean([normalised(f) for f, label in zip(x, y, strict=True) if label == k], axis=0) for k in range(3)]
        answers.append([[-((normalised(f) - mean) ** 2).sum() for mean in means] for f in query])
    return np.array(answers)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_paper_to_images_and_to_features(kind: Normalise) -> None:
    made, episode = simpleshot(kind).eval(), random_episode(FEATURES)
    expected = by_hand(kind, np.linspace(0.2, 1.0, FEATURES), episode)
    np.testing.assert_allclose(made.answers_to(episode), expected, atol=1e-6)
    embedded = Episode(episode.support, episode.query, episode.number, episode.classes, embedded=True)
    np.testing.assert_allclose(made.answers_to(embedded), expected, atol=1e-6)
    np.testing.assert_allclose(made.answer_queries(made.adapt(episode.support), episode.query.x), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["l2", "centre_l2"])
def test_it_is_trained_through_its_normalisation(kind: Normalise) -> None:
    for name, gradient in gradients(simpleshot(kind, MLP((4,), [8, 5], "running")), random_episode(4)).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name


def test_only_a_mean_that_is_used_is_part_of_the_state() -> None:
    assert [[name for name in simpleshot(kind).state_dict() if "mean" in name] for kind in KINDS] == [
        [],
        [],
        ["normalised.mean"],
    ]


class Watched(RandomEpisodes):
    """Keeps the numbers of the training episodes that are drawn, and may give features in the place of images."""

    def __init__(self, embedded: bool = False) -> None:
        super().__init__(tasks_per_step=1, supervised=False)
        self.drawn: list[int] = []
        self.embedded = embedded

    def batch(self, split: Any, numbers: NDArray[np.int64], device: torch.device) -> Batch:
        (episode,) = super().batch(split, numbers, device)
        if split == "train":
            self.drawn += numbers.tolist()
        if not (self.embedded and split == "train"):
            return [episode]
        support, query = (Examples(part.x.flatten(2) + 1, part.y) for part in (episode.support, episode.query))
        return [Episode(support, query, episode.number, episode.classes, embedded=True)]


def validated(made: ProtoNet, data: RandomEpisodes, precision: str = "32-true") -> torch.Tensor:
    """The mean after a validation without training."""
    config = composed("train", "trainer=cpu", f"trainer.precision={precision}")
    options: TrainerOptions = configuration.build(config["trainer"])
    options.arrange(made)
    options.trainer([], []).validate(made, data, verbose=False)
    return cast(torch.Tensor, made.state_dict()["normalised.mean"])


def features_of(made: ProtoNet, numbers: Sequence[int], protocol: Protocol) -> torch.Tensor:
    """Of all items of these training episodes, one by one where they are independent."""
    (episode,) = RandomEpisodes(1, supervised=False).batch("train", np.array(numbers), torch.device("cpu"))
    x = torch.cat([episode.support.x, episode.query.x], dim=1).to(made.dtype)
    count = WAYS * SHOTS
    embedded = made.backbone(x, support=count) if protocol != "running" else made.backbone(x.flatten(0, 1)[None], support=0)
    return embedded.detach().double().reshape(-1, made.backbone.features)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize("protocol", ["running", "support"])
def test_the_mean_is_that_of_training_items(monkeypatch: pytest.MonkeyPatch, protocol: Protocol, precision: str) -> None:
    monkeypatch.setattr(centring, "_MOST_ITEMS", 5 * WAYS * (SHOTS + QUERIES) + 1)
    made = simpleshot("centre_l2", MLP(SHAPE, [8, FEATURES], protocol)).float()
    data = Watched()
    mean = validated(made, data, precision)
    assert data.drawn == [0, 1, 2, 3, 4]
    expected = features_of(made.eval(), data.drawn, protocol).mean(0)
    torch.testing.assert_close(mean.double(), expected, atol=1e-2 if precision == "bf16-mixed" else 1e-5, rtol=0)


def test_features_that_are_there_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centring, "_MOST_ITEMS", 30)

    class Doubled(Pixels):
        def forward(self, images: torch.Tensor, support: int) -> torch.Tensor:
            return 2 * super().forward(images, support)

    made = simpleshot("centre_l2", Doubled(*SHAPE)).float()
    data = Watched(embedded=True)
    mean = validated(made, data)
    expected = features_of(made, data.drawn, "running").mean(0) / 2 + 1
    torch.testing.assert_close(mean.double(), expected, atol=1e-5, rtol=0)


def test_the_mean_is_kept_with_the_weights() -> None:
    made = simpleshot("centre_l2", Pixels(*SHAPE)).float()
    mean = validated(made, Watched())
    other = simpleshot("centre_l2", Pixels(*SHAPE)).float()
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.normalised.mean, mean)
    assert not other.normalised.mean.is_inference()
