"""Drawings made from one drawing: the bound against a loop, networks that keep sizes, and what it cannot draw."""

from typing import Any

import pytest
import torch
from torch import Tensor

from metashot.algorithms.generative.learner import noise_of
from metashot.algorithms.generative.vae_images import VAEImages
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.identity import Identity
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.episodes import Episode
from metashot.problems import Classification

from .feature_learners import learner, random_episode
from .test_generative import SETTINGS as SHARED

CODE = 3
SETTINGS: dict[str, Any] = {**SHARED, "code": CODE, "channels": 2, "beta": 1.0}


def made(*shape: int, **settings: Any) -> VAEImages:
    found = learner(VAEImages, Identity(shape or (1, 6, 5)), **SETTINGS | settings)
    assert isinstance(found, VAEImages)
    return found


def drawings(*shape: int, **more: Any) -> Episode:
    episode = random_episode(*shape, **more)
    for part in (episode.support, episode.query):
        part.x.sigmoid_()
    return episode


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_the_loss_is_that_of_bernoulli_pixels_in_a_loop(beta: float) -> None:
    algorithm, episode = made(beta=beta), drawings(1, 6, 5)
    losses = []
    for task in range(2):
        noise = noise_of(episode.number[task : task + 1], 3, 6, CODE)[0]
        own: list[Tensor] = []
        for q in range(3):
            for s in range(6):
                if episode.query.y[task, q] != episode.support.y[task, s]:
                    continue
                x, a = episode.query.x[task, q], episode.support.x[task, s]
                code = algorithm.encoder(torch.cat([x, a])[None])[0]
                z = code[:CODE] + (code[CODE:] / 2).exp() * noise[q, s]
                ink = algorithm.decoder(z[None], a[None])[0].sigmoid()
                likelihood = (x * ink.log() + (1 - x) * (1 - ink).log()).sum()
                differs = sum((m * m + v.exp() - 1 - v) / 2 for m, v in zip(code[:CODE], code[CODE:], strict=True))
                own.append(beta * differs - likelihood)
        losses.append(torch.stack(own).mean())
    torch.testing.assert_close(algorithm.training_loss(episode).loss, torch.stack(losses).mean() / 30)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 7, 9)])
def test_drawings_of_any_size_are_made_of_ink_between_0_and_1(shape: tuple[int, ...]) -> None:
    algorithm = made(*shape)
    episode = drawings(*shape, support=(1, 1), query=(1, 1))
    support, _ = algorithm.features_of(episode)
    found = algorithm.examples_made(support, episode.number)
    assert found.x.shape == (2, 14, shape[0] * shape[1] * shape[2])
    assert 0 < found.x.min() < found.x.max() < 1
    assert algorithm.answers_to(episode).shape == (2, 2, 2)


def refused(backbone: Backbone, said: str, **settings: Any) -> None:
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    with pytest.raises(BadInput, match=said):
        VAEImages(backbone=backbone, problem=Classification(3), optimizer=optimizer, **SETTINGS | settings)


def test_what_has_no_pixels_is_refused() -> None:
    refused(MLP((4,), [3], "running"), "backbone=identity")
    refused(Identity((4,)), "data of drawings")
    refused(Identity((1, 4, 4)), r"algo\.normalise=l2", normalise="l2")
    algorithm, episode = made(), random_episode(1, 6, 5)
    with pytest.raises(BadInput, match=r"grey values from 0 to 1.*data\.presentation\.mean=null"):
        algorithm.training_loss(episode)
