"""Simple CNAPS against covariances that are written out, one class and one query at a time."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.model.cnaps import CNAPS
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.episodes import Episode

from .feature_learners import Pixels, answers_in_bfloat16, gradients, learner, random_episode, reordered

FEATURES = 6
SETTINGS: dict[str, Any] = {
    "encoding": 5,
    "film": "features",
    "regularisation": 0.3,
    "learned_regularisation": True,
    "temperature": 2.0,
    "learned_temperature": True,
    "normalise": "l2",
}
SUPPORTS = {"few examples": (1, 2), "more examples than features": (1, 5, 4)}


def made(backbone: Any = None, **settings: Any) -> CNAPS:
    found = learner(CNAPS, backbone or Pixels(FEATURES), **SETTINGS | settings)
    assert isinstance(found, CNAPS)
    return found.eval()


def encoded(algorithm: CNAPS, x: Tensor) -> tuple[Tensor, Tensor]:
    """gamma and shift from support features [S, features] of one task."""
    first, second = algorithm.encoder[0], algorithm.encoder[2]
    codes = [F.relu(second.weight @ F.relu(first.weight @ example + first.bias) + second.bias) for example in x]
    film = algorithm.generator.weight @ torch.stack(codes).mean(0) + algorithm.generator.bias
    gamma, shift = film.chunk(2)
    return gamma, shift


def covariance(x: Tensor) -> Tensor:
    """Of rows [N, features]; zero where there is one."""
    if len(x) == 1:
        return torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    found = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    for row in x:
        found += torch.outer(row - x.mean(0), row - x.mean(0)) / (len(x) - 1)
    return found


def expected(algorithm: CNAPS, x: Tensor, y: Tensor, query: Tensor) -> Tensor:
    """Logits [Q, ways] of one task, from its features after FiLM."""
    logits = []
    for q in query:
        row = []
        for k in range(int(y.max()) + 1):
            own = x[y == k]
            share = len(own) / (len(own) + 1)
            matrix = share * covariance(own) + (1 - share) * covariance(x)
            matrix = matrix + algorithm.log_beta.exp() * torch.eye(x.shape[1], dtype=x.dtype)
            difference = q - own.mean(0)
            row.append(-difference @ torch.linalg.inv(matrix) @ difference / 2 / algorithm.log_temperature.exp())
        logits.append(torch.stack(row))
    return torch.stack(logits)


@pytest.mark.parametrize("support", SUPPORTS)
def test_logits_are_mahalanobis_distances_in_features_that_the_task_scales_and_shifts(support: str) -> None:
    algorithm, episode = made(), random_episode(FEATURES, support=SUPPORTS[support])
    found = algorithm(episode.support, episode.query.x)
    for task in range(2):
        x, query = (F.normalize(part.x[task], dim=-1) for part in (episode.support, episode.query))
        gamma, shift = encoded(algorithm, x)
        asked = expected(algorithm, (1 + gamma) * x + shift, episode.support.y[task], (1 + gamma) * query + shift)
        torch.testing.assert_close(found[task], asked)
    assert gamma.abs().max() > 1e-2


def test_without_film_and_with_a_large_beta_it_is_the_nearest_class_mean() -> None:
    algorithm, episode = made(regularisation=1e6, learned_regularisation=False), random_episode(FEATURES)
    with torch.no_grad():
        algorithm.log_beta.fill_(30.0)
        algorithm.generator.weight.zero_()
        algorithm.generator.bias.zero_()
    found = algorithm(episode.support, episode.query.x).argmax(-1)
    for task in range(2):
        x, query = (F.normalize(part.x[task], dim=-1) for part in (episode.support, episode.query))
        means = torch.stack([x[episode.support.y[task] == k].mean(0) for k in range(3)])
        assert found[task].tolist() == torch.cdist(query, means).argmin(1).tolist()


def test_blocks_of_the_frozen_network_are_scaled_and_shifted() -> None:
    algorithm = made(Conv4((1, 8, 8), 3, "stride", "running"), film="blocks", normalise="none")
    episode = random_episode(1, 8, 8)
    found = algorithm(episode.support, episode.query.x)
    plain = algorithm.backbone(episode.support.x, support=6)
    for task in range(2):
        gamma, shift = encoded(algorithm, plain[task])
        x = torch.cat([episode.support.x[task], episode.query.x[task]])
        for block in range(4):
            layer, own = algorithm.backbone.normalisations[block], slice(3 * block, 3 * block + 3)
            x = F.conv2d(x, algorithm.backbone.convolutions[block].weight, stride=2, padding=1)
            x = (x - layer.running_mean.view(3, 1, 1)) / (layer.running_var.view(3, 1, 1) + 1e-5).sqrt()
            x = x * layer.weight.view(3, 1, 1) + layer.bias.view(3, 1, 1)
            x = F.relu((1 + gamma[own]).view(3, 1, 1) * x + shift[own].view(3, 1, 1))
        x = x.flatten(1)
        torch.testing.assert_close(found[task], expected(algorithm, x[:6], episode.support.y[task], x[6:]))
    assert not algorithm.embeds_independently
    assert made().embeds_independently


def test_blocks_need_layers_with_scales() -> None:
    for backbone in (Pixels(FEATURES), MLP((FEATURES,), [4], "none")):
        with pytest.raises(BadInput, match=r"algo.film=blocks .* use algo.film=features"):
            made(backbone, film="blocks")


def test_all_that_it_learns_has_gradients_and_order_does_not_matter() -> None:
    episode = random_episode(FEATURES)
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients(made(), episode).values())
    other = reordered(episode.support, torch.tensor([3, 0, 5, 1, 4, 2]))
    torch.testing.assert_close(made()(other, episode.query.x), made()(episode.support, episode.query.x))


def test_one_model_answers_any_ways_and_shots() -> None:
    algorithm = made()
    for support in ((1,), (1, 1), (3, 1, 2, 7, 1)):
        episode: Episode = random_episode(FEATURES, support=support)
        answers = algorithm(episode.support, episode.query.x)
        assert answers.shape == (2, 3, len(support))
        assert answers.isfinite().all()


def test_mixed_precision_gives_finite_answers() -> None:
    answers, loss = answers_in_bfloat16(made(), random_episode(FEATURES))
    assert answers.dtype == torch.float32
    assert answers.isfinite().all()
    assert loss.isfinite()
