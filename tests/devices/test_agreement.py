"""Outer gradients, answers and averages on the accelerator are those of the CPU: algorithm by engine, size and colour."""

import copy
import os
from typing import Any

import pytest
import torch

from metashot.backbones.conv4 import Conv4
from metashot.backbones.normalisation import Protocol
from metashot.backbones.resnet12 import ResNet12
from metashot.engines.batched import Batched
from metashot.engines.choice import Auto
from metashot.engines.inner import Engine
from metashot.engines.learn2learn import Learn2Learn
from metashot.problems import Classification
from tests.accelerator import VARIABLE, device, placed
from tests.algorithms.gradient_learners import ALGORITHMS as GRADIENT
from tests.algorithms.gradient_learners import learner, random_episode
from tests.engines.test_agreement import outcome
from tests.training import fits
from tests.training.fits import ALGORITHMS, NUMBERS, PROTOCOLS, fitted

pytestmark = pytest.mark.skipif(device() == "cpu", reason="--device names no accelerator")
ENGINES: dict[str, Engine] = {
    "auto": Auto(),
    "learn2learn": Learn2Learn(),
    "batched": Batched(chunk=None, compile=False, cuda_graph=False),
    "batched, in chunks": Batched(chunk=2, compile=False, cuda_graph=False),
    "compiled": Batched(chunk=None, compile=True, cuda_graph=False),
    "CUDA graph": Batched(chunk=None, compile=True, cuda_graph=True),
}
SHAPES = {"28 pixels": (1, 28, 28), "32 pixels in colour": (3, 32, 32), "84 pixels in colour": (3, 84, 84)}
COMPILED = ("compiled", "CUDA graph")


def agrees(one: torch.Tensor | None, other: torch.Tensor | None, rtol: float) -> None:
    one, other = (torch.zeros(()) if value is None else value.detach().cpu() for value in (one, other))
    one, other = torch.broadcast_tensors(one, other)
    difference = torch.linalg.vector_norm((one - other).double())
    assert difference <= rtol * torch.linalg.vector_norm(one.double()) + 1e-9, (difference, torch.linalg.vector_norm(one))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("algorithm", GRADIENT)
def test_gradient_learners_agree(algorithm: str, shape: str, engine: str, accelerator: torch.device) -> None:
    if engine in COMPILED and (shape != "32 pixels in colour" or algorithm in ("hypernetwork",)):
        pytest.skip("compiling takes a minute, and once is enough")
    torch.manual_seed(0)
    settings: dict[str, Any] = {"steps": 2, "inner_lr": 0.1}
    if algorithm == "mamlpp":
        settings["averages_per_step"] = False
    made = learner(algorithm, Conv4(SHAPES[shape], 4, "pool", "transductive"), Classification(3), Learn2Learn(), **settings)
    episode = random_episode(3, SHAPES[shape], 3, shots=2, queries=4, seed=0)
    other = learner(
        algorithm, Conv4(SHAPES[shape], 4, "pool", "transductive"), Classification(3), ENGINES[engine], **settings
    )
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    one = outcome(made, episode)
    two = outcome(other.to(accelerator), placed(episode, accelerator))
    for mine, theirs in zip((one[0], one[1], *one[2]), (two[0], two[1], *two[2]), strict=True):
        agrees(mine, theirs, 1e-6)
    for name, value in one[3].items():
        agrees(value, two[3][name], 1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("algo", [*ALGORITHMS, *NUMBERS])
def test_first_gradient_of_a_training_is_that_of_the_cpu(algo: str, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = fitted(algo, protocol, "64-true", 1, 1)[0].kept
    assert all(value.device.type == os.environ[VARIABLE] for value in theirs.values())
    for settings in (fits.settings, fits.settings_of_curves):
        settings.cache_clear()
    monkeypatch.setenv(VARIABLE, "cpu")
    mine = fitted(algo, protocol, "64-true", 1, 1)[0].kept
    for settings in (fits.settings, fits.settings_of_curves):
        settings.cache_clear()
    assert mine.keys() == theirs.keys()
    largest = max(float(value.abs().max()) for value in mine.values())
    for name, value in mine.items():
        assert float((value - theirs[name].cpu()).abs().max()) <= 1e-6 * largest, name


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
@pytest.mark.parametrize("algo", [*ALGORITHMS, *NUMBERS])
def test_every_precision_trains(algo: str, precision: str) -> None:
    gradient, made = fitted(algo, "transductive", precision, 5, 1)
    assert gradient.kept
    assert all(bool(torch.isfinite(value).all()) for value in made.state_dict().values() if value.is_floating_point())


@pytest.mark.parametrize("protocol", ["transductive", "running", "support"])
def test_resnet12_agrees(protocol: Protocol, accelerator: torch.device) -> None:
    torch.manual_seed(0)
    made = ResNet12((3, 32, 32), [4, 4, 8, 8], "average", 0.0, 5, protocol).double()
    other = copy.deepcopy(made).to(accelerator)
    images = torch.rand(2, 6, 3, 32, 32, dtype=torch.float64)
    for network, x in ((made, images), (other, images.to(accelerator))):
        network(x, support=3).square().mean().backward()
    for one, two in zip(made.parameters(), other.parameters(), strict=True):
        agrees(one.grad, two.grad, 1e-6)
