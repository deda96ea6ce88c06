"""The network of Bertinetto et al. 2019: the sizes that the paper gives, and what torch's own layers compute."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metashot.backbones.concatenated import ConcatenatedConv4
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput
from tests.algorithms.gradient_learners import ENGINES, assert_same, learner, outer_gradient, random_episode

BERTINETTO = [96, 192, 384, 512]


def made(
    size: int = 32,
    colours: int = 3,
    channels: int | list[int] = 64,
    slope: float = 0.1,
    dropout: float = 0.0,
    protocol: Protocol = "running",
    fused: bool = False,
) -> ConcatenatedConv4:
    torch.manual_seed(0)
    return ConcatenatedConv4((colours, size, size), channels, slope, dropout, protocol, fused)


def plainly(network: ConcatenatedConv4, images: Tensor) -> Tensor:
    """What the authors' code computes of the images of one task, without dropout."""
    blocks = []
    for convolution, own in zip(network.convolutions, network.normalisations, strict=True):
        normalisation = nn.BatchNorm2d(own.bias.numel(), track_running_stats=own.protocol == "running")
        normalisation.weight, normalisation.bias = own.weight, own.bias
        if own.protocol == "running":
            normalisation.running_mean, normalisation.running_var = own.running_mean.clone(), own.running_var.clone()
        layer = nn.Conv2d(convolution.in_channels, convolution.out_channels, 3, padding=1, bias=False)
        layer.weight = convolution.weight
        pool = nn.MaxPool2d(2, 2 if len(blocks) < 3 else 1)
        blocks.append(nn.Sequential(layer, normalisation, pool, nn.LeakyReLU(network.slope)).train(network.training))
    third = nn.Sequential(*blocks[:3])(images)
    return torch.cat([nn.MaxPool2d(2, 1)(third).flatten(1), blocks[3](third).flatten(1)], 1)


@pytest.mark.parametrize(
    ("size", "colours", "channels", "features"),
    [
        (28, 1, BERTINETTO, 3584),
        (32, 3, BERTINETTO, 8064),
        (84, 3, BERTINETTO, 72_576),
        (28, 1, 64, 512),
        (32, 3, 64, 1152),
        (16, 3, [3, 4, 5, 6], 11),
    ],
)
def test_features_are_as_many_as_in_the_paper(size: int, colours: int, channels: Any, features: int) -> None:
    network = made(size, colours, channels)
    assert network.features == features
    assert network(torch.rand(1, 2, colours, size, size), support=1).shape == (1, 2, features)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("protocol", ["running", "transductive"])
def test_features_and_gradients_are_those_of_the_authors_layers(protocol: Protocol, training: bool, fused: bool) -> None:
    network = made(20, channels=[4, 5, 6, 7], protocol=protocol, fused=fused).train(training)
    for own in network.normalisations:
        own.weight.data.uniform_(0.5, 1.5)
        own.bias.data.normal_()
    images = torch.randn(2, 3, 3, 20, 20)
    expected = torch.stack([plainly(network, task) for task in images])
    weights = torch.randn_like(expected)
    (weights * expected).sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    network.zero_grad()
    found = network(images, support=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    (weights * found).sum().backward()
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-4)


def test_dropout_is_that_of_training_alone_and_of_the_last_two_blocks() -> None:
    network, images = made(16, channels=[4, 5, 60, 70], dropout=0.5), torch.randn(1, 50, 3, 16, 16)
    assert network.draws
    assert not made().draws
    with torch.no_grad():
        first, second = network.train()(images, support=1), network(images, support=1)
        assert not torch.equal(first, second)
        # One value of the last block; of the third one, the largest of four, of which all are dropped more rarely.
        zeros = (first[0, :, 60:] == 0).float().mean().item()
        assert zeros == pytest.approx(0.5, abs=0.05)
        network.eval()
        torch.testing.assert_close(network(images, support=1), network(images, support=1), rtol=0, atol=0)
        assert (network(images, support=1) == 0).float().mean() < 0.01


def test_images_that_are_too_small_are_refused() -> None:
    made(16)
    with pytest.raises(BadInput, match=r"images of 15x15 are too small for backbone=conv4_concatenated.*at least 16x16"):
        made(15)


@pytest.mark.parametrize("protocol", ["running", "transductive", "support"])
@pytest.mark.parametrize("fused", [False, True])
def test_both_engines_adapt_it_alike(protocol: Protocol, fused: bool) -> None:
    of_engine = [
        learner("maml", made(16, 1, 3, protocol=protocol, fused=fused), engine=one, steps=2) for one in ENGINES.values()
    ]
    gradients = [outer_gradient(one, random_episode()) for one in of_engine]
    assert_same(*gradients, rtol=1e-6, atol=1e-9)


def test_inputs_that_are_no_images_are_refused_by_its_own_name() -> None:
    with pytest.raises(BadInput, match=r"backbone=conv4_concatenated is for images, .*\[6\].*backbone=mlp"):
        ConcatenatedConv4((6,), 4, 0.1, 0.0, "running")


def test_an_inner_loop_refuses_its_dropout() -> None:
    with pytest.raises(BadInput, match=r"random numbers: give backbone\.dropout=0"):
        learner("maml", made(16, dropout=0.4))
