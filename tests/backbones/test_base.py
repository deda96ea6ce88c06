"""What every backbone promises: its features' shape, what they depend on, and that a frozen one stays as it is."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from metashot.backbones.base import Backbone
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol, averaging_layers
from metashot.backbones.resnet12 import ResNet12

SHAPE = (1, 16, 16)
PROTOCOLS: tuple[Protocol, ...] = ("transductive", "running", "support", "support_later", "none")
BACKBONES: dict[str, Callable[[Protocol], Backbone]] = {
    "conv4": lambda protocol: Conv4(SHAPE, [2, 3, 4, 5], "pool", protocol, 2),
    "mlp": lambda protocol: MLP(SHAPE, [4, 3], protocol),
    "resnet12": lambda protocol: ResNet12(SHAPE, [2, 3, 4, 5], "average", 0.3, 2, protocol),
}


@pytest.fixture(params=BACKBONES)
def make(request: pytest.FixtureRequest) -> Callable[[Protocol], Backbone]:
    def made(protocol: Protocol) -> Backbone:
        torch.manual_seed(0)
        return BACKBONES[request.param](protocol).double()

    return made


def images(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 5, *SHAPE, generator=generator, dtype=torch.float64)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_unchanged(module: nn.Module, before: dict[str, Tensor]) -> None:
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_features_are_the_numbers_of_their_shape(make: Callable[[Protocol], Backbone]) -> None:
    backbone = make("running")
    assert backbone.features == math.prod(backbone.feature_shape)
    assert backbone(images(), support=2).shape == (2, 5, backbone.features)
    backbone.feature_shape = (3, 2, 7)
    assert backbone.features == 42


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_alone_is_whether_features_depend_on_no_other_image_after_training(
    make: Callable[[Protocol], Backbone], protocol: Protocol
) -> None:
    backbone = make(protocol).eval()
    features = backbone(images(), support=3)
    alone = torch.stack([backbone(images()[:, place : place + 1], support=1)[:, 0] for place in range(5)], dim=1)
    assert torch.allclose(features, alone, rtol=0, atol=1e-12) is backbone.embeds_independently
    assert backbone.embeds_independently is (protocol in ("running", "none"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_frozen_backbone_stays_as_it_is_in_training(make: Callable[[Protocol], Backbone], protocol: Protocol) -> None:
    backbone = make(protocol)
    backbone.freeze()
    network = nn.Sequential(backbone, nn.Linear(backbone.features, 2).double())
    before, expected = state(backbone), backbone(images(), support=3)
    descent = torch.optim.SGD([parameter for parameter in network.parameters() if parameter.requires_grad], 0.1)
    for step in range(3):
        network.train()
        network[1](backbone(images(step), support=3)).square().sum().backward()
        descent.step()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in backbone.parameters())
    assert_unchanged(backbone, before)
    assert torch.equal(backbone(images(), support=3), expected)  # and nothing is dropped


def test_training_does_not_wake_a_frozen_backbone(make: Callable[[Protocol], Backbone]) -> None:
    backbone = make("running")
    assert backbone.train() is backbone
    assert all(module.training for module in backbone.modules())
    backbone.freeze()
    assert backbone.train() is backbone
    nn.ModuleList([backbone]).train()
    assert not any(module.training for module in backbone.modules())
    assert not averaging_layers(backbone)


def test_a_backbone_that_is_not_frozen_learns_and_leaves_evaluation(make: Callable[[Protocol], Backbone]) -> None:
    backbone = make("running").eval()
    before = state(backbone)
    backbone(images(), support=3)
    assert_unchanged(backbone, before)
    backbone.train()(images(), support=3).sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    assert all(not torch.equal(value, before[name]) for name, value in backbone.named_buffers())
