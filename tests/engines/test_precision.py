"""Mixed precision: queries may be answered in fewer bits, but adapting stays in the precision of the parameters."""

from typing import Any

import pytest
import torch
from torch import Tensor

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.backbones.conv4 import Conv4
from metashot.engines.inner import Parameters
from metashot.episodes import Episode, Examples
from metashot.problems import Classification
from tests.algorithms.gradient_learners import ENGINES, learner, random_episode

# bfloat16 has 8 bits of precision, float16 has 11.
TYPES = {"bf16-mixed": (torch.bfloat16, 0.03), "16-mixed": (torch.float16, 0.004)}


def single(episode: Episode) -> Episode:
    support, query = (Examples(examples.x.float(), examples.y) for examples in (episode.support, episode.query))
    return Episode(support, query, episode.number, episode.classes)


def shaded(examples: Examples) -> Examples:
    """Noise on two shades, of which the first class has one and the second the other: what one step of training gets wrong
    the next ones correct, whereas on noise alone rounding grows from step to step in any precision."""
    return Examples(0.5 * examples.x + 0.5 * examples.y[..., None, None, None], examples.y)


def trained(made: GradientLearner, precision: torch.dtype | None) -> list[float]:
    """The losses of ten steps of training."""
    descent = torch.optim.SGD(made.parameters(), 0.05)
    losses = []
    for step in range(10):
        descent.zero_grad()
        noise = single(random_episode(4, shape=(1, 16, 16), seed=step))
        episode = Episode(shaded(noise.support), shaded(noise.query), noise.number, noise.classes)
        with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
            loss = made.train().training_loss(episode).loss
        loss.backward()
        descent.step()
        losses.append(loss.item())
    return losses


def fresh(engine: str, **settings: Any) -> GradientLearner:
    torch.manual_seed(0)
    backbone = Conv4((1, 16, 16), 8, "pool", "transductive")
    return learner("maml", backbone, Classification(2), ENGINES[engine], steps=3, inner_lr=0.1, **settings).float()


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", TYPES)
def test_training_in_mixed_precision_follows_that_in_float32(engine: str, precision: str, recompute: bool) -> None:
    kind, tolerance = TYPES[precision]
    exact = trained(fresh(engine), None)
    mixed = trained(fresh(engine, checkpoint_inner_steps=recompute), kind)
    assert exact[-1] < 0.5 * exact[0]
    assert mixed != exact
    assert mixed == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", TYPES)
def test_inner_gradients_and_updates_are_in_float32_and_those_of_full_precision(
    engine: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = fresh(engine), []
    plain_update, plain_loss = type(made).update, made.inner_loss

    def update(self: GradientLearner, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        seen.extend([*theta.values(), *directions.values()])
        return plain_update(self, theta, directions, step)

    def loss(answers: Tensor, y: Tensor) -> Tensor:
        seen.append(answers)
        return plain_loss(answers, y)

    monkeypatch.setattr(type(made), "update", update)
    made.inner_loss = loss
    episode = single(random_episode(4, shape=(1, 16, 16)))
    exact = made.run_inner_loop(episode.support, episode.query.x)
    with torch.autocast("cpu", dtype=TYPES[precision][0]):
        mixed = made.run_inner_loop(episode.support, episode.query.x)
    assert {tensor.dtype for tensor in seen} == {torch.float32}
    assert not torch.allclose(mixed.answers.float(), exact.answers, atol=1e-5)  # as queries are answered in fewer bits
    torch.testing.assert_close(mixed.losses, exact.losses)
    for name, value in exact.parameters.items():
        torch.testing.assert_close(mixed.parameters[name], value)
