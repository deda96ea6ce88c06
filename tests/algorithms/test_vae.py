"""The evidence bound against the exact evidence of linear models, and the loss of pairs against a loop."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metashot.algorithms.generative.learner import noise_of
from metashot.algorithms.generative.vae import VAE

from .feature_learners import Pixels, gradients, learner, random_episode
from .test_generative import SETTINGS as SHARED

FEATURES, CODE = 4, 2
SETTINGS: dict[str, Any] = {**SHARED, "code": CODE, "hidden": 8, "beta": 1.0, "dropout": 0.0}


def made(**settings: Any) -> VAE:
    found = learner(VAE, Pixels(FEATURES), **SETTINGS | settings)
    assert isinstance(found, VAE)
    return found.eval()


def linear() -> VAE:
    """With linear networks all distributions are normal, and everything is known."""
    algorithm = made()
    torch.manual_seed(5)
    algorithm.encoder = nn.Sequential(nn.Linear(2 * FEATURES, 2 * CODE)).double()
    algorithm.decoder = nn.Sequential(nn.Linear(CODE + FEATURES, FEATURES)).double()
    return algorithm


def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x, a = torch.randn(2, 1, FEATURES, generator=generator, dtype=torch.float64)
    return x, a


def divergence(mean: Tensor, covariance: Tensor, other_mean: Tensor, other: Tensor) -> Tensor:
    """KL(N(mean, covariance) || N(other_mean, other))"""
    inverse, difference = torch.linalg.inv(other), other_mean - mean
    logs = torch.logdet(other) - torch.logdet(covariance)
    return 0.5 * (torch.trace(inverse @ covariance) + difference @ inverse @ difference - len(mean) + logs)


@torch.no_grad()
def test_the_bound_is_the_log_evidence_less_the_divergence_from_the_posterior() -> None:
    algorithm = linear()
    x, a = pair()
    layer = algorithm.decoder[0]
    assert isinstance(layer, nn.Linear)
    by_code, by_anchor = layer.weight[:, :CODE], layer.weight[:, CODE:]
    mean = a[0] + by_anchor @ a[0] + layer.bias
    noise = algorithm.log_variance.exp().diag()
    evidence = torch.distributions.MultivariateNormal(mean, by_code @ by_code.T + noise).log_prob(x[0])
    precision = torch.eye(CODE) + by_code.T @ torch.linalg.inv(noise) @ by_code
    posterior = torch.linalg.inv(precision)
    mu, log_variance = (value[0] for value in algorithm.encode(x, a))
    at = posterior @ by_code.T @ torch.linalg.inv(noise) @ (x[0] - mean)
    expected = evidence - divergence(mu, log_variance.exp().diag(), at, posterior)
    # The mean of a quadratic function of normal numbers is that over these points.
    points = torch.cat([torch.eye(CODE), -torch.eye(CODE)]).double() * math.sqrt(CODE)
    bounds = [algorithm.bound(x, a, point[None]) for point in points]
    found = torch.stack([bound.likelihood - bound.divergence for bound in bounds]).mean()
    torch.testing.assert_close(found, expected)
    assert found < evidence


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_loss_is_the_mean_over_tasks_of_the_bounds_of_their_pairs(beta: float) -> None:
    algorithm, episode = made(beta=beta).train(), random_episode(FEATURES, support=(1, 3, 2), query=(2, 1, 0))
    losses = []
    for task in range(2):
        noise = noise_of(episode.number[task : task + 1], 3, 6, CODE)[0]
        own = []
        for q, (x, label) in enumerate(zip(episode.query.x[task], episode.query.y[task], strict=True)):
            for s, (a, other) in enumerate(zip(episode.support.x[task], episode.support.y[task], strict=True)):
                if label != other:
                    continue
                code = algorithm.encoder(torch.cat([x, a]))
                mu, variance = code[:CODE], code[CODE:].exp()
                z = mu + variance.sqrt() * noise[q, s]
                mean = a + algorithm.decoder(torch.cat([z, a]))
                likelihood = torch.distributions.Normal(mean, (algorithm.log_variance / 2).exp()).log_prob(x).sum()
                prior = torch.distributions.Normal(torch.zeros(CODE), torch.ones(CODE))
                differs = torch.distributions.kl_divergence(torch.distributions.Normal(mu, variance.sqrt()), prior).sum()
                own.append(beta * differs - likelihood)
        losses.append(torch.stack(own).mean())
    found = algorithm.training_loss(episode).loss
    torch.testing.assert_close(found, torch.stack(losses).mean() / FEATURES)


def test_all_that_it_learns_has_gradients() -> None:
    assert all(
        gradient is not None and gradient.abs().max() > 0
        for gradient in gradients(made(), random_episode(FEATURES)).values()
    )


def test_it_makes_an_anchor_and_a_difference() -> None:
    algorithm = made()
    _, a = pair()
    z = torch.ones(1, CODE, dtype=torch.float64)
    torch.testing.assert_close(algorithm.generate(a, z), a + algorithm.decoder(torch.cat([z, a], 1)))


def test_it_learns_how_examples_of_unseen_classes_vary() -> None:
    """Classes vary along one direction, which one example does not tell, and a classifier needs."""
    algorithm = made(made=50, code=1, hidden=32).float().train()
    generator = torch.Generator().manual_seed(0)

    def episodes(tasks: int) -> Any:
        episode = random_episode(
            FEATURES,
            tasks=tasks,
            support=(1, 1, 1),
            query=(4, 4, 4),
            seed=int(torch.randint(10**6, [1], generator=generator)),
        )
        means = torch.randn(tasks, 3, FEATURES, generator=generator)
        for part in (episode.support, episode.query):
            part.x.mul_(0.1)
            part.x[..., 0] *= 30
            part.x.add_(means.gather(1, part.y.unsqueeze(-1).expand_as(part.x)))
        return type(episode)(
            *(type(part)(part.x.float(), part.y) for part in (episode.support, episode.query)),
            episode.number,
            episode.classes,
        )

    optimizer = torch.optim.Adam(algorithm.parameters(), 3e-3)
    for _ in range(150):
        loss = algorithm.training_loss(episodes(8)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made_x = algorithm.eval().examples_made(episodes(8).support, torch.arange(8)).x.view(8, 3, 50, FEATURES)
    spread = made_x.std(2).mean((0, 1))
    assert spread[0] > 3 * spread[1:].max()
