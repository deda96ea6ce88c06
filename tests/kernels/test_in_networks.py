"""Learners whose network has fused blocks compute what they compute without them."""

import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metashot.backbones import conv4, layers, normalisation
from metashot.backbones.conv4 import Conv4
from metashot.backbones.normalisation import Protocol
from metashot.engines.choice import Auto
from metashot.engines.inner import Engine
from metashot.episodes import Episode, Examples
from metashot.kernels import compiling
from metashot.kernels.images import are_available
from metashot.problems import Classification
from tests.algorithms.gradient_learners import ALGORITHMS, ENGINES, learner, random_episode
from tests.engines.test_agreement import EVERY, PROTOCOLS, SETTINGS

pytestmark = pytest.mark.skipif(not are_available(), reason="there is no C compiler")

WAYS = 2


def single(episode: Episode) -> Episode:
    parts = (Examples(part.x.float(), part.y) for part in (episode.support, episode.query))
    return replace(episode, **dict(zip(("support", "query"), parts, strict=True)))


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each convolution by a kernel."""
    counted: list[int] = []
    for name in ("convolution", "block"):
        real = getattr(layers, name)
        monkeypatch.setattr(layers, name, lambda *given, real=real: (counted.append(1), real(*given))[1])
    return counted


def outer(made: Any, episode: Episode) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    step = made.train().training_loss(episode)
    wanted = [parameter for parameter in made.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(step.loss, wanted, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, wanted, strict=True)]
    return step.answers.detach(), torch.cat([value.flatten() for value in flat]), dict(made.named_buffers())


def off(one: Tensor, exact: Tensor) -> float:
    return float((one.double() - exact).norm() / exact.norm())


def compare(algorithm: str, engine: Engine, protocol: Protocol, downsampling: Any, uses: list[int], **settings: Any) -> None:
    """Compare answers, outer gradients and averages with double precision, from which plain operations differ too."""
    torch.manual_seed(0)
    backbone = Conv4((3, 17, 16), 6, downsampling, protocol, fused=True)
    if algorithm == "mamlpp":
        settings["averages_per_step"] = protocol == "running"
    made = learner(algorithm, backbone, Classification(WAYS), engine, steps=2, **settings)
    episode = random_episode(3, (3, 17, 16), WAYS)
    exact, plain = copy.deepcopy(made).double(), copy.deepcopy(made).float()
    plain.network.backbone.fused = False
    expected, rounded = outer(exact, episode), outer(plain, single(episode))
    assert not uses
    ours = outer(made.float(), single(episode))
    assert uses
    for mine, rounding, theirs in zip(ours[:2], rounded[:2], expected[:2], strict=True):
        assert off(mine, theirs) < max(20 * off(rounding, theirs), 2e-5)
    for name, value in expected[2].items():
        torch.testing.assert_close(ours[2][name].double(), value.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("protocol", "downsampling"),
    [*zip(PROTOCOLS, itertools.cycle(["pool", "stride"]), strict=False), ("transductive", "stride"), ("none", "stride")],
)
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_inner_loops_have_the_same_answers_gradients_and_averages(
    algorithm: str, engine: Engine, protocol: Protocol, downsampling: Any, uses: list[int]
) -> None:
    compare(algorithm, engine, protocol, downsampling, uses)


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("setting", SETTINGS)
def test_so_do_those_with_every_setting(setting: str, engine: Engine, uses: list[int]) -> None:
    compare("maml", engine, "running", "pool", uses, **SETTINGS[setting])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("algorithm", ["maml", "anil", "mamlpp", "reptile", "hypernetwork"])
def test_a_trained_learner_answers_the_same_after_each_step_with_gradients_and_without(
    algorithm: str, engine: Engine, protocol: Protocol, uses: list[int]
) -> None:
    torch.manual_seed(0)
    backbone = Conv4((1, 12, 12), 5, "pool", protocol, 2, fused=True)
    settings = {"averages_per_step": protocol == "running"} if algorithm == "mamlpp" else {}
    made = learner(algorithm, backbone, Classification(WAYS), engine, steps=2, **settings).float().eval()
    episode = single(random_episode(3, (1, 12, 12), WAYS))
    if protocol == "running":
        for layer in normalisation.normalisations(backbone):
            torch.nn.init.normal_(layer.running_mean, std=0.1)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    plain = copy.deepcopy(made)
    plain.network.backbone.fused = False
    expected = plain.run_inner_loop(episode.support, episode.query.x, answer_after=(0, 1, 2)).answers
    assert not uses
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            answers = made.run_inner_loop(episode.support, episode.query.x, answer_after=(0, 1, 2)).answers
            fitted = made.answer_queries(made.adapt(episode.support), episode.query.x) if not gradients else answers[:, -1]
        assert answers.requires_grad == gradients
        torch.testing.assert_close(answers, expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(fitted, expected[:, -1], rtol=1e-3, atol=1e-4)
    assert uses


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_mixed_precision_answers_without_kernels_and_adapts_with_them(engine: Engine, uses: list[int]) -> None:
    torch.manual_seed(0)
    backbone = Conv4((1, 12, 12), 5, "pool", "transductive", 2, fused=True)
    made = learner("maml", backbone, Classification(WAYS), engine, steps=2).float()
    plain = copy.deepcopy(made)
    plain.network.backbone.fused = False
    episode = single(random_episode(3, (1, 12, 12), WAYS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answers, expected = (one.training_loss(episode).answers for one in (made, plain))
    assert uses
    torch.testing.assert_close(answers.float(), expected.float(), rtol=0.05, atol=0.05)


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
    assert uses
    for (name, ours), theirs in zip(fused.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_convolutions_use_a_kernel_too(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    real = layers.convolution
    monkeypatch.setattr(layers, "convolution", lambda *given: (used.append(1), real(*given))[1])
    backbone = Conv4((1, 16, 16), 4, "pool", "transductive", fused=True)
    backbone(torch.rand(2, 3, 1, 16, 16), 2)
    assert len(used) == 4
    backbone.double()(torch.rand(2, 3, 1, 16, 16).double(), 2)
    assert len(used) == 4


def test_auto_takes_a_few_tasks_at_a_time(monkeypatch: pytest.MonkeyPatch, uses: list[int]) -> None:
    backbone = Conv4((1, 32, 32), 4, "pool", "transductive", fused=True)
    made = learner("maml", backbone, Classification(WAYS), Auto(), steps=1).float()
    assert made.description("cpu")[0] == "engine: batched, 4 tasks at once (chosen by auto)"
    episode = single(random_episode(5, (1, 32, 32), WAYS))
    made.training_loss(episode)
    assert len(uses) == 2 * 2 * 4  # two parts, a step and an answer, four blocks
    assert made.engine.tasks_at_once(made.network, episode.query.x) == 4
    assert made.description("cuda")[0].startswith("engine: batched, all tasks")
    monkeypatch.setattr(conv4, "are_available", lambda: False)
    assert made.description("cpu")[0].startswith("engine: learn2learn")


def test_a_network_with_a_layer_that_takes_no_tasks_goes_without_them(uses: list[int]) -> None:
    torch.manual_seed(0)
    backbone = Conv4((1, 16, 16), 4, "pool", "transductive", fused=True)
    made = learner("maml", backbone, Classification(WAYS), ENGINES["batched"], steps=1).float()
    assert made.network.fused
    made.network.head.register_module("own", torch.nn.Bilinear(1, 1, 1))
    assert not made.network.fused
    made.training_loss(single(random_episode(2, (1, 16, 16), WAYS)))
    assert not uses


def test_a_run_says_whether_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Conv4((1, 16, 16), 4, "pool", "transductive", fused=True)
    made = learner("maml", backbone, Classification(WAYS), ENGINES["learn2learn"]).float()
    assert len(made.description("cpu")) == 1  # nothing but the engine where they are used
    assert len(made.description("cuda")) == 1
    monkeypatch.setattr(conv4, "are_available", lambda: False)
    monkeypatch.setattr(compiling, "_failures", ["there is no C compiler"])
    assert made.description("cpu")[1] == "fused blocks: not used, since there is no C compiler"
    monkeypatch.setenv("METASHOT_KERNELS", "0")
    assert made.description("cpu")[1] == "fused blocks: not used, since METASHOT_KERNELS=0 switches them off"
    backbone.fused = False
    assert len(made.description("cpu")) == 1


def conv4_of(channels: int = 8, **settings: Any) -> Conv4:
    torch.manual_seed(0)
    return Conv4((1, 20, 20), channels, "pool", "transductive", fused=True, **settings)


@pytest.mark.parametrize("change", [lambda net: net.double(), lambda net: net.bfloat16(), lambda net: net.to("meta")])
def test_weights_that_kernels_cannot_read_are_left_to_pytorch(change: Any, uses: list[int]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        change(conv4_of())(torch.rand(1, 4, 1, 20, 20), 2)
    assert not uses


@pytest.mark.parametrize("shape", [(3, 20, 20), (1, 8, 8)])
def test_images_of_another_shape_are_left_to_pytorch(shape: tuple[int, ...], uses: list[int]) -> None:
    with pytest.raises(RuntimeError):
        conv4_of()(torch.rand(1, 4, *shape), 2)
    assert not uses


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_hooks_are_called_in_inner_loops(engine: Engine, uses: list[int]) -> None:
    made = learner("maml", conv4_of(), Classification(WAYS), engine, steps=1).float()
    called: list[int] = []
    made.network.backbone.convolutions[1].register_forward_hook(lambda *_: called.append(1))
    made.training_loss(single(random_episode(2, (1, 20, 20), WAYS)))
    assert called
    assert not uses


def test_auto_takes_more_tasks_of_small_images() -> None:
    at_once = {size: Auto().chosen("cpu", (1, size, size), True).tasks_at_once(None, None) for size in (8, 28, 84)}  # type: ignore[arg-type]
    assert at_once == {8: 48, 28: 4, 84: 4}


def test_hooks_are_called(uses: list[int]) -> None:
    backbone, called = conv4_of(), []
    images = torch.rand(1, 4, 1, 20, 20)
    hook = backbone.convolutions[1].register_forward_hook(lambda *_: called.append(1))
    backbone(images, 2)
    assert called
    assert not uses
    hook.remove()
    backbone(images, 2)
    assert uses
    torch.nn.utils.parametrizations.weight_norm(backbone.convolutions[0])
    uses.clear()
    backbone(images, 2)
    assert not uses


def test_forward_derivatives_are_left_to_pytorch(uses: list[int]) -> None:
    images = torch.rand(1, 4, 1, 20, 20)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(images, torch.rand_like(images))
        assert torch.autograd.forward_ad.unpack_dual(conv4_of()(dual, 2)).tangent is not None
    assert not uses


@pytest.mark.filterwarnings("ignore:var_mean")
@pytest.mark.parametrize("engine", [ENGINES["batched"], EVERY["in chunks"]], ids=["batched", "in chunks"])
def test_there_may_be_no_queries(engine: Engine) -> None:
    made = learner("maml", conv4_of(), Classification(WAYS), engine, steps=1).float()
    episode = single(random_episode(2, (1, 20, 20), WAYS))
    with torch.no_grad():
        answers = made.answer_queries(made.adapt(episode.support), episode.query.x[:, :0])
    assert answers.shape == (2, 0, WAYS)


def test_in_double_precision_auto_takes_what_it_would_take_without_kernels(uses: list[int]) -> None:
    made = learner("maml", Conv4((1, 32, 32), 4, "pool", "transductive", fused=True), Classification(WAYS), Auto(), steps=1)
    engine, kernels = made.double().description("cpu")
    assert engine == "engine: learn2learn, task by task (chosen by auto)"
    assert kernels == "fused blocks: not used in double precision"
    made.training_loss(random_episode(2, (1, 32, 32), WAYS))
    assert not uses
