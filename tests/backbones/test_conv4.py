"""Conv4: the sizes that the papers give, and what its blocks compute."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.backbones.conv4 import Conv4
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput


def conv4(
    size: int = 28, colours: int = 1, channels: int = 64, downsampling: Any = "pool", protocol: Protocol = "running"
) -> Conv4:
    torch.manual_seed(0)
    return Conv4((colours, size, size), channels, downsampling, protocol)


@pytest.mark.parametrize(
    ("size", "downsampling", "features"),
    [(28, "pool", 64), (84, "pool", 1600), (16, "pool", 64), (28, "stride", 256), (84, "stride", 2304), (8, "stride", 64)],
)
def test_features_are_as_many_as_announced_and_as_in_the_papers(size: int, downsampling: str, features: int) -> None:
    network = conv4(size, downsampling=downsampling)
    assert network.features == features
    assert network(torch.rand(1, 2, 1, size, size), support=1).shape == (1, 2, features)


# Four 3x3 convolutions without bias, and a weight and a bias for each of the 4 x 64 normalised channels.
@pytest.mark.parametrize(
    ("colours", "parameters"),
    [(1, 1 * 64 * 9 + 3 * 64 * 64 * 9 + 4 * 2 * 64), (3, 3 * 64 * 9 + 3 * 64 * 64 * 9 + 4 * 2 * 64)],
)
@pytest.mark.parametrize("downsampling", ["pool", "stride"])
def test_parameters_are_as_many_as_counted_by_hand(colours: int, parameters: int, downsampling: str) -> None:
    network = conv4(28, colours, downsampling=downsampling)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert parameters in (111_680, 112_832)


@pytest.mark.parametrize("size", [15, 8, 1])
def test_images_too_small_to_halve_four_times_are_refused(size: int) -> None:
    with pytest.raises(BadInput, match=rf"{size}x{size} are too small .*backbone\.downsampling=stride"):
        conv4(size)
    assert conv4(16).features == 64


@pytest.mark.parametrize("downsampling", ["pool", "stride"])
def test_a_block_is_convolution_normalisation_relu_and_halving(downsampling: str) -> None:
    network = conv4(20, colours=3, channels=5, downsampling=downsampling, protocol="transductive").double()
    images = torch.rand(2, 6, 3, 20, 20, dtype=torch.float64)
    for task in range(2):
        x = images[task]
        for block in range(4):
            x = F.conv2d(x, network.convolutions[block].weight, stride=2 if downsampling == "stride" else 1, padding=1)
            mean = x.mean((0, 2, 3), keepdim=True)
            x = ((x - mean) / torch.sqrt(((x - mean) ** 2).mean((0, 2, 3), keepdim=True) + 1e-5)).clamp(min=0)
            if downsampling == "pool":
                side = x.shape[-1] // 2
                x = x[..., : 2 * side, : 2 * side].unflatten(-1, (side, 2)).unflatten(-3, (side, 2)).amax((-1, -3))
        torch.testing.assert_close(network(images, support=3)[task], x.flatten(1), atol=1e-9, rtol=0)


@pytest.mark.parametrize("protocol", ["transductive", "running", "support"])
@pytest.mark.parametrize("training", [True, False])
def test_features_of_a_task_are_the_same_alone_and_in_a_batch(protocol: Protocol, training: bool) -> None:
    network = conv4(16, channels=4, protocol=protocol).double().train(training)
    images = torch.rand(3, 5, 1, 16, 16, dtype=torch.float64)

    def features(given: Tensor) -> Tensor:
        answer: Tensor = network(given, support=3)
        return answer

    torch.testing.assert_close(features(images)[1:2], features(images[1:2]), atol=1e-10, rtol=0)


@pytest.mark.parametrize(("protocol", "transductive"), [("transductive", True), ("running", False), ("support", False)])
def test_backbone_says_whether_queries_see_each_other(protocol: Protocol, transductive: bool) -> None:
    network = conv4(16, channels=4, protocol=protocol).double().eval()
    images = torch.rand(1, 5, 1, 16, 16, dtype=torch.float64)
    changed = images.clone()
    changed[0, 4] = 0
    before, after = network(images, support=3), network(changed, support=3)
    assert network.transductive is transductive
    assert bool(((before - after)[0, :4].abs() > 1e-12).any()) is transductive
