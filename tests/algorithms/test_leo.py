"""LEO against loops over classes, pairs and steps whose gradients are autograd's."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.model import leo
from metashot.algorithms.model.draws import Draws
from metashot.algorithms.model.leo import LEO
from metashot.episodes import Episode

from .feature_learners import Pixels, answers_in_bfloat16, gradients, learner, one_task, random_episode, reordered

FEATURES, LATENTS, WAYS = 6, 4, 3
SETTINGS: dict[str, Any] = {
    "latents": LATENTS,
    "inner_steps": 3,
    "inner_lr": 0.7,
    "finetuning_steps": 2,
    "finetuning_lr": 0.2,
    "dropout": 0.3,
    "kl": 0.4,
    "encoder_penalty": 0.6,
    "orthogonality": 0.8,
    "normalise": "l2",
}


def made(**settings: Any) -> LEO:
    found = learner(LEO, Pixels(FEATURES), **SETTINGS | settings)
    assert isinstance(found, LEO)
    with torch.no_grad():
        found.decoder.weight.mul_(0.4)  # noise grows with exp(u), and steps that are too large diverge
    return found.eval()


class Course:
    """One task, by the paper's algorithm 1, with noise for each draw or without."""

    def __init__(self, algorithm: LEO, x: Tensor, y: Tensor, noise: list[Tensor] | None) -> None:
        self.algorithm, self.noise = algorithm, noise
        h = [algorithm.encoder.weight @ example for example in x]
        first, second, third = (algorithm.relation[place].weight for place in (0, 2, 4))
        related = [
            torch.stack([third @ F.relu(second @ F.relu(first @ torch.cat([one, other]))) for other in h]).mean(0)
            for one in h
        ]
        codes = torch.stack(
            [torch.stack([row for row, label in zip(related, y, strict=True) if label == k]).mean(0) for k in range(WAYS)]
        )
        self.mean, u = codes[:, :LATENTS], codes[:, LATENTS:]
        self.deviation = (u.exp() - 1).clamp(min=1e-10)
        z = self.start = self.mean if noise is None else self.mean + self.deviation * noise[0]
        for step in range(algorithm.inner_steps):
            z = z - algorithm.alpha * self.slope(F.cross_entropy(x @ self.decoded(z, step).T, y), z)
        self.end, w = z, self.decoded(z, algorithm.inner_steps)
        for _ in range(algorithm.finetuning_steps):
            w = w - algorithm.finetuning_alpha * self.slope(F.cross_entropy(x @ w.T, y), w)
        self.w = w

    def decoded(self, z: Tensor, step: int) -> Tensor:
        mean, u = (z @ self.algorithm.decoder.weight.T).split(FEATURES, dim=1)
        if self.noise is None:
            return mean
        glorot = (2 / (WAYS + FEATURES)) ** 0.5
        return mean + (u.exp() - (1 - glorot)).clamp(min=1e-10) * self.noise[1 + step]

    @staticmethod
    def slope(loss: Tensor, of: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(loss, of, create_graph=True)
        return found


def test_logits_are_those_of_steps_in_the_latent_space_and_on_the_weights() -> None:
    algorithm, episode = made(), random_episode(FEATURES)
    with torch.no_grad():
        found = algorithm(episode.support, episode.query.x)
    for task in range(2):
        course = Course(algorithm, F.normalize(episode.support.x[task], dim=-1), episode.support.y[task], None)
        torch.testing.assert_close(found[task], F.normalize(episode.query.x[task], dim=-1) @ course.w.T)
    assert (made(inner_steps=0)(episode.support, episode.query.x) - found).abs().max() > 1e-3
    assert (made(finetuning_steps=0)(episode.support, episode.query.x) - found).abs().max() > 1e-3


def test_the_training_loss_and_its_gradients_are_those_of_the_paper() -> None:
    algorithm, episode = made().train(), random_episode(FEATURES)
    loss, answers, _ = algorithm.training_loss(episode)
    draws = Draws("leo", episode.number)
    x = F.normalize(torch.cat([episode.support.x, episode.query.x], dim=1), dim=-1)
    x = draws.dropout(x, 0.3)
    count, steps = episode.support.x.shape[1], algorithm.inner_steps + 1
    noise = [draws.normal(x, WAYS, LATENTS), *(draws.normal(x, WAYS, FEATURES) for _ in range(steps))]
    parts = []
    for task in range(2):
        course = Course(algorithm, x[task, :count], episode.support.y[task], [drawn[task] for drawn in noise])
        logits = x[task, count:] @ course.w.T
        torch.testing.assert_close(answers[task], logits)
        normal = torch.distributions.Normal
        q, p = normal(course.mean, course.deviation), normal(torch.zeros(()).double(), torch.ones(()).double())
        penalty = (course.end.detach() - course.start).square().mean()
        kl = torch.distributions.kl_divergence(q, p).mean()
        parts.append(F.cross_entropy(logits, episode.query.y[task]) + 0.4 * kl + 0.6 * penalty)
    rows = algorithm.decoder.weight.T
    correlations = torch.stack([torch.stack([F.cosine_similarity(a, b, dim=0) for a in rows]) for b in rows])
    expected = torch.stack(parts).mean() + 0.8 * (correlations - torch.eye(LATENTS)).square().mean()
    torch.testing.assert_close(loss, expected)
    parameters = [parameter for parameter in algorithm.parameters() if parameter.requires_grad]
    for own, other in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(own, other)


def test_what_is_drawn_depends_on_the_episodes_number_alone() -> None:
    algorithm, episode = made().train(), random_episode(FEATURES, tasks=3)
    whole = algorithm.training_loss(episode).answers
    for task in range(3):
        torch.testing.assert_close(algorithm.training_loss(one_task(episode, task)).answers[0], whole[task])
    other = Episode(episode.support, episode.query, episode.number + 7, episode.classes)
    assert (algorithm.training_loss(other).answers - whole).abs().max() > 1e-3
    torch.testing.assert_close(algorithm(episode.support, episode.query.x), made()(episode.support, episode.query.x))


def test_many_support_examples_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, episode = made(), random_episode(FEATURES)
    found = algorithm(episode.support, episode.query.x)
    monkeypatch.setattr(leo, "_PAIRS", 13)  # two of six examples at once
    torch.testing.assert_close(algorithm(episode.support, episode.query.x), found)


def test_all_that_it_learns_has_gradients_and_order_does_not_matter() -> None:
    episode = random_episode(FEATURES)
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients(made(), episode).values())
    other = reordered(episode.support, torch.tensor([3, 0, 5, 1, 4, 2]))
    torch.testing.assert_close(made()(other, episode.query.x), made()(episode.support, episode.query.x))


def test_steps_that_are_not_taken_have_no_step_sizes_to_learn() -> None:
    named = dict(made(inner_steps=0, finetuning_steps=0).named_parameters())
    assert not named["alpha"].requires_grad
    assert not named["finetuning_alpha"].requires_grad
    assert made(inner_steps=0, finetuning_steps=0).task_steps == 0


def test_mixed_precision_gives_finite_answers() -> None:
    answers, loss = answers_in_bfloat16(made(), random_episode(FEATURES))
    assert answers.dtype == torch.float32
    assert answers.isfinite().all()
    assert loss.isfinite()
