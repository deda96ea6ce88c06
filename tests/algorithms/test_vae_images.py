"""Drawings made from one drawing: bound and transformation against loops, sizes that are kept, and what it cannot draw."""

from math import floor
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter
from torch import Tensor

from metashot.algorithms.generative.learner import noise_of
from metashot.algorithms.generative.vae_images import Decoder, VAEImages, blurred, sampled
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
SETTINGS: dict[str, Any] = {**SHARED, "code": CODE, "channels": 2, "hidden": 6, "knots": 5, "beta": 1.0}


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


def shown(drawing: Tensor, y: float, x: float) -> float:
    """A drawing at a place in pixels: what four pixels have of it, with paper outside."""
    height, width = drawing.shape
    total = 0.0
    for i in (floor(y), floor(y) + 1):
        for j in (floor(x), floor(x) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += float(drawing[i, j]) * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


@pytest.mark.parametrize("knots", [4, 6])
def test_the_anchor_is_moved_as_a_loop_says(knots: int) -> None:
    height, width, random = 6, 5, torch.Generator().manual_seed(0)
    decoder = Decoder((1, height, width), channels=2, code=CODE, hidden=6, knots=knots).double()
    anchors = torch.rand(2, 1, height, width, generator=random, dtype=torch.float64)
    theta = 10 * torch.randn(2, 6 + 2 * knots**2, generator=random, dtype=torch.float64)
    found = sampled(anchors, decoder.transformed(theta))
    spline = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)

    def beta(at: float, knot: int) -> float:  # the outermost knots are one distance beyond the edges
        return float(np.nan_to_num(spline((at + 1) / 2 * (knots - 3) + 1 - knot)))

    outside = 0
    for n in range(2):
        bounded = (0.3 * theta[n]).tanh()
        a, t, d = 0.5 * bounded[:4], 0.15 * bounded[4:6], 0.2 * bounded[6:]
        a, d = a.view(2, 2), d.view(2, knots, knots)
        for i in range(height):
            for j in range(width):
                place = torch.tensor([(2 * i + 1) / height - 1, (2 * j + 1) / width - 1], dtype=torch.float64)
                moved = place + a @ place + t
                for k in range(knots):
                    for m in range(knots):
                        moved += beta(float(place[0]), k) * beta(float(place[1]), m) * d[:, k, m]
                y, x = (float(moved[0]) + 1) * height / 2 - 0.5, (float(moved[1]) + 1) * width / 2 - 0.5
                outside += not (0 <= y <= height - 1 and 0 <= x <= width - 1)
                assert float(found[n, 0, i, j]) == pytest.approx(shown(anchors[n, 0], y, x), abs=1e-6)
    assert outside
    with torch.no_grad():  # the networks before and after: theta as above, and ink that is the moved anchor itself
        for part in (*decoder.first.parameters(), *decoder.last.parameters(), *decoder.thickness.parameters()):
            part.zero_()
        decoder.first.weight[0, 0, 2, 2] = decoder.last.weight[0, 0, 1, 1] = 1.0
        for n in range(2):
            decoder.theta.bias.copy_(theta[n])
            logits = decoder(torch.zeros(1, CODE, dtype=torch.float64), anchors[n : n + 1])
            torch.testing.assert_close(logits, found[n : n + 1])


def test_nothing_moves_before_training_and_then_places_have_gradients() -> None:
    decoder = Decoder((2, 7, 4), channels=2, code=CODE, hidden=6, knots=5).double()
    anchors = torch.rand(2, 2, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = decoder.transformed(decoder.theta(torch.ones(2, 6, dtype=torch.float64)))
    torch.testing.assert_close(sampled(anchors, start), anchors, rtol=0, atol=1e-6)
    places = (start + 0.05).detach().requires_grad_()  # (between pixels, where the gradient does not jump)
    assert torch.autograd.gradcheck(lambda at: sampled(anchors, at), places)
    lost = places.detach().clone()
    lost[0, 0, 3, 2] = torch.nan
    assert sampled(anchors, lost).isnan().sum() == 2  # in both channels, and no pixel elsewhere


@pytest.mark.parametrize("width", [0.5, 1.0, 2.5])
def test_drawings_are_blurred_as_scipy_does(width: float) -> None:
    x = torch.rand(3, 2, 9, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = gaussian_filter(x.numpy(), width, mode="constant", axes=(2, 3), radius=int(np.ceil(3 * width)))
    np.testing.assert_allclose(blurred(x, width).numpy(), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(blurred(x, 0.0), x)


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
