"""Conv4: the sizes that the papers give, and what its blocks compute."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.backbones.conv4 import Conv4
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput


def conv4(
    size: int = 28,
    colours: int = 1,
    channels: int | list[int] = 64,
    downsampling: Any = "pool",
    protocol: Protocol = "running",
    halvings: int = 4,
) -> Conv4:
    torch.manual_seed(0)
    return Conv4((colours, size, size), channels, downsampling, protocol, halvings)


@pytest.mark.parametrize(
    ("size", "downsampling", "features"),
    [(28, "pool", 64), (84, "pool", 1600), (16, "pool", 64), (28, "stride", 256), (84, "stride", 2304), (8, "stride", 64)],
)
def test_features_are_as_many_as_announced_and_as_in_the_papers(size: int, downsampling: str, features: int) -> None:
    network = conv4(size, downsampling=downsampling)
    assert network.features == features
    assert network(torch.rand(1, 2, 1, size, size), support=1).shape == (1, 2, features)


BERTINETTO = [96, 192, 384, 512]


# The papers' networks have a bias for each channel too. They give 0.113 million for 64 channels: 113,088 with these biases,
# which are 256.
@pytest.mark.parametrize(
    ("channels", "colours", "with_biases"),
    [
        (64, 3, 113_088),
        (64, 1, 113_088 - 2 * 9 * 64),
        (32, 3, 28_896),
        (32, 1, 28_896 - 2 * 9 * 32),
        (BERTINETTO, 3, 2_605_056),
        (BERTINETTO, 1, 2_605_056 - 2 * 9 * 96),
    ],
)
@pytest.mark.parametrize("downsampling", ["pool", "stride"])
def test_parameters_are_as_many_as_counted_by_hand(
    channels: int | list[int], colours: int, with_biases: int, downsampling: str
) -> None:
    network = conv4(84, colours, channels, downsampling)
    widths = channels if isinstance(channels, list) else [channels] * 4
    # 3x3 convolutions without bias, and a weight and a bias for each normalised channel.
    by_hand = sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in pairwise([colours, *widths]))
    assert sum(parameter.numel() for parameter in network.parameters()) == by_hand == with_biases - sum(widths)
    assert conv4(84, colours, widths, downsampling).state_dict().keys() == network.state_dict().keys()


def test_a_list_of_equal_channels_is_their_number() -> None:
    images = torch.rand(1, 2, 1, 28, 28)
    assert torch.equal(conv4(channels=[8, 8, 8, 8])(images, support=1), conv4(channels=8)(images, support=1))


@pytest.mark.parametrize("channels", [[64], [64, 64, 64], [64] * 5, []])
def test_channels_of_other_than_four_blocks_are_refused(channels: list[int]) -> None:
    with pytest.raises(BadInput, match=r"backbone\.channels=\[.*\] cannot be used; allowed: a number, or a list of 4"):
        conv4(channels=channels)


@pytest.mark.parametrize("downsampling", ["pool", "stride"])
@pytest.mark.parametrize(
    ("size", "channels", "halvings", "shape"),
    [
        (28, 4, 4, {"pool": (4, 1, 1), "stride": (4, 2, 2)}),
        (28, 4, 3, {"pool": (4, 3, 3), "stride": (4, 4, 4)}),
        (28, 4, 2, {"pool": (4, 7, 7), "stride": (4, 7, 7)}),
        (9, [4, 5, 6, 7], 1, {"pool": (7, 4, 4), "stride": (7, 5, 5)}),
        (9, [4, 5, 6, 7], 0, {"pool": (7, 9, 9), "stride": (7, 9, 9)}),
        (84, [4, 5, 6, 7], 4, {"pool": (7, 5, 5), "stride": (7, 6, 6)}),
    ],
)
def test_features_are_maps_that_were_halved_so_often(
    size: int, channels: int | list[int], halvings: int, shape: dict[str, tuple[int, ...]], downsampling: str
) -> None:
    network = conv4(size, 3, channels, downsampling, halvings=halvings)
    assert network.feature_shape == shape[downsampling]
    assert network(torch.rand(1, 2, 3, size, size), support=1).shape == (1, 2, math.prod(shape[downsampling]))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(BadInput, match=r"backbone=conv4 is for images, .*backbone=mlp.*experiment=sinusoid"):
        Conv4((1,), 64, "pool", "running", 4)


@pytest.mark.parametrize(("size", "halvings"), [(7, 3), (3, 2), (1, 1)])
def test_images_too_small_to_halve_so_often_are_refused(size: int, halvings: int) -> None:
    with pytest.raises(BadInput, match=rf"{size}x{size} are too small .* halves them {halvings} times"):
        conv4(size, halvings=halvings)
    assert conv4(2**halvings, halvings=halvings).feature_shape == (64, 1, 1)


@pytest.mark.parametrize("size", [15, 8, 1])
def test_images_too_small_to_halve_four_times_are_refused(size: int) -> None:
    with pytest.raises(BadInput, match=rf"{size}x{size} are too small .*backbone\.downsampling=stride"):
        conv4(size)
    assert conv4(16).features == 64


@pytest.mark.parametrize("halvings", [4, 2, 0])
@pytest.mark.parametrize("channels", [5, [5, 3, 4, 2]], ids=["same", "each"])
@pytest.mark.parametrize("downsampling", ["pool", "stride"])
def test_a_block_is_convolution_normalisation_relu_and_halving(
    downsampling: str, channels: int | list[int], halvings: int
) -> None:
    network = conv4(20, 3, channels, downsampling, "transductive", halvings).double()
    images = torch.rand(2, 6, 3, 20, 20, dtype=torch.float64)
    for task in range(2):
        x = images[task]
        for block in range(4):
            halves = block < halvings
            stride = 2 if halves and downsampling == "stride" else 1
            x = F.conv2d(x, network.convolutions[block].weight, stride=stride, padding=1)
            mean = x.mean((0, 2, 3), keepdim=True)
            x = ((x - mean) / torch.sqrt(((x - mean) ** 2).mean((0, 2, 3), keepdim=True) + 1e-5)).clamp(min=0)
            if halves and downsampling == "pool":
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
