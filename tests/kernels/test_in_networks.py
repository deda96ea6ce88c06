"""Learners whose network has fused blocks compute what they compute without them."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metashot.backbones import conv4, normalisation
from metashot.backbones.conv4 import Conv4
from metashot.backbones.normalisation import Protocol
from metashot.engines.choice import Auto
from metashot.episodes import Episode, Examples
from metashot.kernels.compiling import library
from metashot.problems import Classification
from tests.algorithms.gradient_learners import ALGORITHMS, ENGINES, learner, random_episode

pytestmark = pytest.mark.skipif(library("normalised_pool") is None, reason="there is no C compiler")

WAYS = 2
PROTOCOLS: list[Protocol] = ["transductive", "running", "support", "support_later", "none"]


def single(episode: Episode) -> Episode:
    parts = (Examples(part.x.float(), part.y) for part in (episode.support, episode.query))
    return replace(episode, **dict(zip(("support", "query"), parts, strict=True)))


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each use of the kernel."""
    counted: list[int] = []
    for name in ("normalised_pool", "scaled_pool"):
        real = getattr(normalisation, name)
        monkeypatch.setattr(normalisation, name, lambda *given, real=real: (counted.append(1), real(*given))[1])
    return counted


def outer(made: Any, episode: Episode) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    step = made.train().training_loss(episode)
    wanted = [parameter for parameter in made.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(step.loss, wanted, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, wanted, strict=True)]
    return step.answers.detach(), torch.cat([value.flatten() for value in flat]), dict(made.named_buffers())


def off(one: Tensor, exact: Tensor) -> float:
    return float((one.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("downsampling", ["pool", "stride"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "anil", "mamlpp"])
def test_inner_loops_have_the_same_answers_gradients_and_averages(
    algorithm: str, protocol: Protocol, downsampling: Any, uses: list[int]
) -> None:
    torch.manual_seed(0)
    backbone = Conv4((3, 17, 16), 6, downsampling, protocol, fused=True)
    settings = {"averages_per_step": protocol == "running"} if algorithm == "mamlpp" else {}
    made = learner(algorithm, backbone, Classification(WAYS), ENGINES["learn2learn"], steps=2, **settings)
    episode = random_episode(2, (3, 17, 16), WAYS)
    exact, plain = copy.deepcopy(made).double(), copy.deepcopy(made).float()
    plain.network.backbone.fused = False
    expected, rounded = outer(exact, episode), outer(plain, single(episode))
    assert not uses
    ours = outer(made.float(), single(episode))
    assert bool(uses) == (protocol != "none")
    for mine, rounding, theirs in zip(ours[:2], rounded[:2], expected[:2], strict=True):
        assert off(mine, theirs) < max(20 * off(rounding, theirs), 2e-5)
    for name, value in expected[2].items():
        torch.testing.assert_close(ours[2][name].double(), value.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_a_backbone_has_the_same_features_of_many_tasks(
    protocol: Protocol, training: bool, gradients: bool, uses: list[int]
) -> None:
    torch.manual_seed(0)
    fused = Conv4((1, 20, 20), 8, "pool", protocol, 4, fused=True).train(training)
    plain = Conv4((1, 20, 20), 8, "pool", protocol, 4).train(training)
    if protocol == "running":
        for layer in normalisation.normalisations(fused):
            torch.nn.init.normal_(layer.running_mean)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
            torch.nn.init.normal_(layer.weight)
    plain.load_state_dict(fused.state_dict())
    images = torch.rand(3, 7, 1, 20, 20)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(fused(images, 4), plain(images, 4), rtol=1e-4, atol=1e-5)
    assert bool(uses) == (protocol != "none" and (protocol != "running" or training or not gradients))
    for (name, ours), theirs in zip(fused.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_tasks_at_once_do_without_it(uses: list[int]) -> None:
    backbone = Conv4((1, 16, 16), 4, "pool", "transductive", fused=True)
    made = learner("maml", backbone, Classification(WAYS), ENGINES["batched"], steps=1).float()
    made.training_loss(single(random_episode(2, (1, 16, 16), WAYS)))
    assert not uses


def test_auto_takes_one_task_at_a_time(monkeypatch: pytest.MonkeyPatch, uses: list[int]) -> None:
    backbone = Conv4((1, 16, 16), 4, "pool", "transductive", fused=True)
    made = learner("maml", backbone, Classification(WAYS), Auto(), steps=1).float()
    assert made.description("cpu")[0] == "engine: learn2learn, task by task (chosen by auto)"
    made.training_loss(single(random_episode(2, (1, 16, 16), WAYS)))
    assert uses
    assert made.description("cuda")[0].startswith("engine: batched")
    monkeypatch.setattr(conv4, "is_available", lambda: False)
    assert made.description("cpu")[0].startswith("engine: batched")


def test_a_run_says_whether_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Conv4((1, 16, 16), 4, "pool", "transductive", fused=True)
    made = learner("maml", backbone, Classification(WAYS), ENGINES["learn2learn"])
    assert made.description("cpu")[1:] == ["fused blocks: compiled for this processor, used by every engine but batched"]
    assert "no kernel for cuda" in made.description("cuda")[1]
    monkeypatch.setattr(conv4, "is_available", lambda: False)
    assert made.description("cpu")[1] == (
        "fused blocks: not used, since they cannot be compiled: is there a C compiler, such as gcc?"
    )
    monkeypatch.setenv("METASHOT_KERNELS", "0")
    assert made.description("cpu")[1] == "fused blocks: not used, since METASHOT_KERNELS is not 1"
    backbone.fused = False
    assert len(made.description("cpu")) == 1


def test_every_algorithm_with_an_inner_loop_is_known_here() -> None:
    assert {"maml", "fomaml", "anil", "mamlpp"} <= set(ALGORITHMS)
