"""The losses of both players against loops and against derivatives by hand, and training steps of both."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.generative.gan import GAN
from metashot.episodes import Examples

from .feature_learners import Pixels, learner, random_episode
from .test_generative import SETTINGS as SHARED

FEATURES, NOISE, HIDDEN = 4, 3, 6
SETTINGS: dict[str, Any] = {
    **SHARED,
    "noise": NOISE,
    "hidden": HIDDEN,
    "critic_steps": 2,
    "gradient_penalty": 10.0,
    "classification": 1.0,
    "anti_collapse": 1.0,
}


def made(**settings: Any) -> GAN:
    found = learner(GAN, Pixels(FEATURES), **SETTINGS | settings)
    assert isinstance(found, GAN)
    return found


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / a.norm() / b.norm()


def slope(critic: nn.Sequential, x: Tensor, s: Tensor) -> Tensor:
    """The derivative of D(x, s) by x, of one hidden layer, by hand."""
    first, last = critic[0], critic[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    before = first.weight @ torch.cat([x, s]) + first.bias
    return first.weight[:, :FEATURES].T @ (last.weight[0] * torch.where(before > 0, 1.0, 0.2))


@pytest.mark.parametrize(("normalise", "length"), [("none", 1.0), ("l2", FEATURES**0.5)])
def test_the_critics_terms_are_those_of_plain_loops(normalise: str, length: float) -> None:
    """The penalty is for features of length 1, whatever the length of the networks' own."""
    algorithm, episode = made(normalise=normalise), random_episode(FEATURES)
    pairs = algorithm.pairs_of(episode.support, episode.query)
    count = len(pairs.task)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(count, NOISE, generator=generator, dtype=torch.float64)
    share = torch.rand(count, generator=generator, dtype=torch.float64)
    distances: list[list[Tensor]] = [[], []]
    penalties: list[list[Tensor]] = [[], []]
    for place in range(count):
        task, s, x = int(pairs.task[place]), pairs.anchor[place], pairs.target[place]
        fake = s + algorithm.generator(torch.cat([s, z[place]]))
        distances[task].append((algorithm.critic(torch.cat([x, s])) - algorithm.critic(torch.cat([fake, s])))[0])
        between = share[place] * x + (1 - share[place]) * fake
        penalties[task].append((length * slope(algorithm.critic, between, s).norm() - 1) ** 2)
    found = algorithm.critic_terms(pairs, z, share, 2)
    for value, expected in zip(found, (distances, penalties), strict=True):
        torch.testing.assert_close(value, torch.stack([torch.stack(own).mean() for own in expected]).mean())
    (by_penalty,) = torch.autograd.grad(found[1], [algorithm.critic[0].weight])
    assert by_penalty.abs().max() > 0


def test_pairs_are_of_the_same_class_and_all_of_them() -> None:
    algorithm, episode = made(), random_episode(FEATURES)
    pairs = algorithm.pairs_of(episode.support, episode.query)
    expected = [
        (task, q, s)
        for task in range(2)
        for q in range(3)
        for s in range(6)
        if episode.query.y[task, q] == episode.support.y[task, s]
    ]
    assert list(zip(pairs.task.tolist(), pairs.target_place.tolist(), pairs.anchor_place.tolist(), strict=True)) == expected
    for place, (task, q, s) in enumerate(expected):
        assert torch.equal(pairs.target[place], episode.query.x[task, q])
        assert torch.equal(pairs.anchor[place], episode.support.x[task, s])


def test_the_generators_terms_are_those_of_plain_loops() -> None:
    algorithm, episode = made(), random_episode(FEATURES)
    support, query = episode.support, episode.query
    generator = torch.Generator().manual_seed(0)
    z = tuple(torch.randn(2, 6, NOISE, generator=generator, dtype=torch.float64) for _ in range(2))
    scores, losses, ratios, fakes = torch.zeros(()), torch.zeros(()), [], []
    for noise in z:
        fake = torch.stack(
            [
                torch.stack(
                    [s + algorithm.generator(torch.cat([s, n])) for s, n in zip(support.x[t], noise[t], strict=True)]
                )
                for t in range(2)
            ]
        )
        fakes.append(fake)
        scores = (
            scores
            + torch.stack(
                [algorithm.critic(torch.cat([fake[t, i], support.x[t, i]]))[0] for t in range(2) for i in range(6)]
            ).mean()
        )
        rows = []
        for t in range(2):
            means = [fake[t][support.y[t] == label].mean(0) for label in range(3)]
            for x, label in zip(query.x[t], query.y[t], strict=True):
                rows.append(F.cross_entropy(torch.stack([10 * cosine(x, mean) for mean in means]), label))
        losses = losses + torch.stack(rows).mean()
    for t in range(2):
        for i in range(6):
            ratios.append((1 - cosine(fakes[0][t, i], fakes[1][t, i])) / (1 - cosine(z[0][t, i], z[1][t, i])))
    found = algorithm.generator_terms(Examples(support.x, support.y), query, (z[0], z[1]))
    for value, expected in zip((*found[:2], found[2].mean()), (scores, losses, torch.stack(ratios).mean()), strict=True):
        torch.testing.assert_close(value, expected.double())


def test_the_loss_of_the_generator_does_not_depend_on_how_tasks_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, episode = made(anti_collapse=0.5), random_episode(FEATURES)
    kept: list[torch.Tensor] = []
    monkeypatch.setattr(algorithm, "_descend", lambda optimizer, loss, parameters: kept.append(loss))
    for batch in ([episode], list(episode.parts(1))):
        algorithm._generator_step(None, batch, [algorithm._shown(part) for part in batch], len(episode))  # type: ignore[arg-type]
    torch.testing.assert_close(*kept, rtol=1e-10, atol=0)


class Steps(pl.Callback):
    """Which parameters had a gradient in each step of an optimiser."""

    def __init__(self) -> None:
        self.of: list[set[str]] = []
        self.norms: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        named = {name: parameter.grad for name, parameter in pl_module.named_parameters() if parameter.grad is not None}
        self.of.append({name.partition(".")[0] for name in named})


def trained(steps: int, callbacks: list[pl.Callback] | None = None, clip: float | None = None, **settings: Any) -> GAN:
    from tests.training.fits import SHAPE, RandomEpisodes

    algorithm = learner(GAN, Pixels(SHAPE[0] * SHAPE[1] * SHAPE[2]), **SETTINGS | settings).float()
    algorithm.gradient_clip = clip
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(algorithm, RandomEpisodes(tasks_per_step=2, supervised=False))
    assert trainer.global_step == steps
    assert isinstance(algorithm, GAN)
    return algorithm


def test_players_take_turns_and_each_steps_its_own_parameters() -> None:
    steps = Steps()
    trained(3, [steps])
    assert steps.of == [{"critic"}, {"critic"}, {"generator"}] * 3


def test_gradients_are_clipped_and_steps_of_the_schedule_are_those_of_the_run() -> None:
    algorithm = trained(2, clip=1e-30)  # so small that Adam's epsilon hides it
    start = learner(GAN, Pixels(144), **SETTINGS).float()
    for (name, before), after in zip(start.named_parameters(), algorithm.parameters(), strict=True):
        torch.testing.assert_close(before, after, atol=1e-6, rtol=0, msg=name)
    moved = trained(2)
    assert (moved.generator[0].weight - start.generator[0].weight).abs().max() > 1e-4
    assert (moved.critic[0].weight - start.critic[0].weight).abs().max() > 1e-4


def test_the_term_against_collapse_makes_noise_count() -> None:
    spread = {}
    for weight in (0.0, 1.0):
        algorithm = trained(60, anti_collapse=weight, classification=5.0, gradient_penalty=0.1).eval()
        support = torch.rand(1, 144, generator=torch.Generator().manual_seed(0)).expand(40, -1)
        noise = torch.randn(40, NOISE, generator=torch.Generator().manual_seed(1))
        spread[weight] = float(algorithm.generate(support, noise).detach().std(0).mean())
    assert spread[1.0] > 1.2 * spread[0.0]


@pytest.mark.parametrize("name", ["critic_loss", "wasserstein_distance", "gradient_penalty", "generator_loss", "diversity"])
def test_losses_of_both_players_are_measured(name: str) -> None:
    found: dict[str, Tensor] = {}

    class Kept(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            found.update(outputs)

    trained(1, [Kept()])
    assert found[name].isfinite()
