"""ResNet12 against torch's own layers, the sizes that the papers give, and the geometry of what DropBlock drops."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from metashot.backbones import resnet12
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.backbones.resnet12 import ResNet12, drop_squares
from metashot.bad_input import BadInput
from tests.algorithms.gradient_learners import ENGINES, assert_same, learner, outer_gradient, random_episode

PROTOCOLS: tuple[Protocol, ...] = ("transductive", "running", "support", "support_later", "none")
PAPER = [64, 160, 320, 640]


def network(
    shape: tuple[int, ...] = (1, 16, 16),
    widths: tuple[int, ...] = (2, 3, 4, 5),
    pooling: Any = "average",
    drop_block: float = 0.0,
    protocol: Protocol = "running",
) -> ResNet12:
    """With averages, weights and biases as training might have left them."""
    torch.manual_seed(0)
    made = ResNet12(shape, list(widths), pooling, drop_block, 5, protocol).double()
    with torch.no_grad():
        for name, values in (*made.named_parameters(), *made.named_buffers()):
            if "normalisations" in name:
                values.uniform_(0.5, 1.5)
    return made


def plain_normalisation(own: Normalisation, support: int) -> nn.Module:
    """What a protocol means for the images of one task, by torch's own layers."""
    if own.protocol == "none":
        identity = nn.Conv2d(len(own.bias), len(own.bias), 1, groups=len(own.bias)).double()
        nn.init.ones_(identity.weight)
        identity.bias = own.bias
        return identity
    layer = nn.BatchNorm2d(len(own.bias), track_running_stats=own.protocol == "running").double()
    layer.weight, layer.bias = own.weight, own.bias
    if own.protocol == "running":
        layer.running_mean, layer.running_var = own.running_mean.clone(), own.running_var.clone()
    by_support = own.protocol == "support" or (own.protocol == "support_later" and not own.training)
    return BySupport(layer, support) if by_support else layer.train(own.training or own.protocol == "support_later")


class BySupport(nn.Module):
    """Batch normalisation by given statistics, those of the support set."""

    def __init__(self, layer: nn.BatchNorm2d, support: int) -> None:
        super().__init__()
        self.layer, self.support = layer, support

    def forward(self, x: Tensor) -> Tensor:
        known = x[: self.support].transpose(0, 1).flatten(1)  # [channels, values]
        return F.batch_norm(x, known.mean(1), known.var(1, correction=0), self.layer.weight, self.layer.bias, False)


class PlainBlock(nn.Module):
    """As in the code of MetaOptNet: three times convolution and normalisation beside a shortcut."""

    def __init__(self, own: nn.Module, support: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for weights, normalisation in zip(own.convolutions, own.normalisations, strict=True):
            outputs, inputs, size, _ = weights.weight.shape
            convolution = nn.Conv2d(inputs, outputs, size, padding=(size - 1) // 2, bias=False).double()
            convolution.weight = weights.weight
            layers.append(nn.Sequential(convolution, plain_normalisation(normalisation, support)))
        first, second, third, self.shortcut = layers
        self.path = nn.Sequential(first, nn.LeakyReLU(0.1), second, nn.LeakyReLU(0.1), third)
        self.end = nn.Sequential(nn.LeakyReLU(0.1), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.end(self.path(x) + self.shortcut(x))
        return summed


def plain(own: ResNet12, support: int) -> nn.Sequential:
    """The network for one task at a time."""
    end = [nn.AdaptiveAvgPool2d(1)] if own.pooling == "average" else []
    return nn.Sequential(*(PlainBlock(block, support) for block in own.blocks), *end, nn.Flatten())


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pooling", ["average", "none"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_features_are_those_of_plain_layers_with_the_same_parameters(
    protocol: Protocol, pooling: str, training: bool
) -> None:
    made = network((3, 35, 38), pooling=pooling, protocol=protocol).train(training)
    images = torch.rand(2, 5, 3, 35, 38, dtype=torch.float64)
    before = copy.deepcopy(made)
    features = made(images, support=3)
    for task in range(2):
        torch.testing.assert_close(features[task], plain(before, 3)(images[task]), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_features_of_a_task_are_the_same_alone_and_in_a_batch(protocol: Protocol, training: bool) -> None:
    made = network(protocol=protocol).train(training)
    images = torch.rand(3, 5, 1, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(made(images, support=3)[2:], made(images[2:], support=3), atol=1e-12, rtol=0)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize(("size", "side"), [(84, 5), (32, 2), (28, 1), (16, 1)])
def test_features_have_the_announced_shape(size: int, side: int, colours: int) -> None:
    images = torch.rand(1, 2, colours, size, size, dtype=torch.float64)
    for pooling, shape in (("average", (5,)), ("none", (5, side, side))):
        made = network((colours, size, size), pooling=pooling)
        assert made.feature_shape == shape
        assert made(images, support=1).shape == (1, 2, made.features)
    with torch.device("meta"):
        assert ResNet12((colours, size, size), PAPER, "none", 0.0, 5, "none").feature_shape == (640, side, side)


def test_features_without_pooling_are_the_maps_whose_means_are_those_with_it() -> None:
    images = torch.rand(1, 2, 1, 48, 32, dtype=torch.float64)
    maps = network((1, 48, 32), pooling="none").eval()(images, support=1).unflatten(2, (5, 3, 2))
    torch.testing.assert_close(network((1, 48, 32)).eval()(images, support=1), maps.mean((3, 4)))


# In each block a 3x3 convolution from the inputs, two more, a 1x1 convolution from the inputs, and a weight and a bias for
# each channel of the four. Papers give 12.4 million; 12,424,320 is what others measure of this network without a head.
@pytest.mark.parametrize(("colours", "published"), [(3, 12_424_320), (1, 12_424_320 - 2 * 64 * (9 + 1))])
def test_parameters_are_as_many_as_counted_by_hand_and_published(colours: int, published: int) -> None:
    with torch.device("meta"):
        made = ResNet12((colours, 84, 84), PAPER, "average", 0.1, 5, "running")
    inputs = [colours, 64, 160, 320]
    by_hand = sum(9 * a * b + 2 * 9 * b * b + a * b + 4 * 2 * b for a, b in zip(inputs, PAPER, strict=True))
    assert sum(parameter.numel() for parameter in made.parameters()) == by_hand == published


def test_every_parameter_takes_part_and_is_named_after_what_it_is() -> None:
    made = network(protocol="running")
    made(torch.rand(1, 5, 1, 16, 16, dtype=torch.float64), support=3).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in made.parameters())
    # Patterns such as -*.normalisations.* take all of these out of an inner loop.
    assert {name.split(".")[2] for name, values in made.named_parameters() if values.dim() == 1} == {"normalisations"}
    assert {name.split(".")[2] for name, values in made.named_parameters() if values.dim() == 4} == {"convolutions"}


def test_convolutions_begin_with_the_variance_that_leaky_rectifiers_need() -> None:
    made = ResNet12((3, 16, 16), [32, 32, 32, 32], "average", 0.0, 5, "none")
    for block in made.blocks:
        for convolution in block.convolutions:
            outputs, _, height, width = convolution.weight.shape
            expected = (2 / (1 + 0.1**2) / (outputs * height * width)) ** 0.5
            assert convolution.weight.std().item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("size", [(15, 15), (84, 15), (15, 84), (1, 1)])
def test_images_too_small_to_halve_four_times_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match=rf"{size[0]}x{size[1]} are too small .*backbone=resnet12.*16x16.*backbone=mlp"):
        network((1, *size))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(BadInput, match=r"backbone=resnet12 is for images, .*backbone=mlp.*experiment=sinusoid"):
        network((1,))


@pytest.mark.parametrize("widths", [(4, 4, 4), (4, 4, 4, 4, 4), ()])
def test_widths_of_other_than_four_blocks_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=r"backbone\.widths=\[.*\] cannot be used; allowed: a list of 4"):
        network(widths=widths)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_engines_agree_on_the_answers_and_gradients_of_maml(protocol: Protocol) -> None:
    torch.manual_seed(0)
    episode = random_episode(tasks=2, shape=(1, 16, 16), ways=2, shots=2, queries=2)
    backbone = ResNet12((1, 16, 16), [4, 4, 4, 4], "average", 0.0, 5, protocol)
    one, other = (
        learner("maml", copy.deepcopy(backbone), engine=engine, steps=2, inner_lr=0.05) for engine in ENGINES.values()
    )
    other.load_state_dict(one.state_dict())
    answers, other_answers = (made.eval()(episode.support, episode.query.x) for made in (one, other))
    torch.testing.assert_close(other_answers, answers, rtol=1e-8, atol=1e-10)
    assert_same(outer_gradient(other, episode), outer_gradient(one, episode), rtol=1e-6, atol=1e-10)
    for name, values in one.named_buffers():
        torch.testing.assert_close(dict(other.named_buffers())[name], values, rtol=1e-8, atol=1e-11)


def test_gradient_steps_within_a_task_refuse_a_backbone_that_draws() -> None:
    with pytest.raises(BadInput, match=r"random numbers: give backbone\.drop_block=0$"):
        learner("maml", ResNet12((1, 16, 16), [4, 4, 4, 4], "average", 0.1, 5, "running"))


def lies_in_a_square(zeros: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Of each number of a map, whether it belongs to a square that is zero all over."""
    found = np.zeros_like(zeros)
    for row in range(zeros.shape[0] - size + 1):
        for column in range(zeros.shape[1] - size + 1):
            if zeros[row : row + size, column : column + size].all():
                found[row : row + size, column : column + size] = True
    return found


@pytest.mark.parametrize("shape", [(7, 7), (6, 9), (3, 3), (5, 2), (1, 1)])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_what_is_dropped_are_squares_of_that_size_or_of_the_maps(shape: tuple[int, int], size: int) -> None:
    torch.manual_seed(0)
    zeros = (drop_squares(torch.ones(8, 8, *shape), 0.2, size) == 0).flatten(0, 1).numpy()
    assert zeros.any()
    assert not zeros.all()
    for of_map in zeros:
        np.testing.assert_array_equal(lies_in_a_square(of_map, min(size, *shape)), of_map)


def test_squares_lie_everywhere_in_the_map() -> None:
    torch.manual_seed(0)
    zeros = (drop_squares(torch.ones(200, 10, 5, 6), 0.1, 3) == 0).flatten(0, 1)
    assert zeros.any(0).all()


@pytest.mark.parametrize(
    ("side", "size", "rate"), [(10, 5, 0.1), (5, 5, 0.1), (2, 5, 0.3), (8, 1, 0.3), (1, 5, 0.1), (4, 2, 0.1)]
)
def test_the_dropped_share_is_near_the_rate(side: int, size: int, rate: float) -> None:
    torch.manual_seed(0)
    share = (drop_squares(torch.ones(400, 100, side, side), rate, size) == 0).double().mean().item()
    # By hand: a number is kept if none of the squares that would cover it is there.
    size = min(size, side)
    gamma = rate / size**2 * side**2 / (side - size + 1) ** 2
    reach = [sum(first <= place < first + size for first in range(side - size + 1)) for place in range(side)]
    expected = np.mean([1 - (1 - gamma) ** (rows * columns) for rows in reach for columns in reach])
    assert share == pytest.approx(expected, abs=0.005)
    assert 0.9 * rate <= share <= 1.05 * rate


def test_the_mean_of_an_images_mask_stays_one_whatever_becomes_of_others() -> None:
    torch.manual_seed(0)
    x = torch.ones(50, 16, 10, 10, dtype=torch.float64)
    dropped = drop_squares(x, 0.3, 3)
    torch.testing.assert_close(dropped.mean((1, 2, 3)), torch.ones(50, dtype=torch.float64))
    for of_image in dropped:
        (kept,) = of_image[of_image > 0].unique()
        assert kept.item() == pytest.approx(of_image.numel() / (of_image > 0).sum().item())


def test_what_is_kept_is_only_scaled_and_so_is_its_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    dropped = drop_squares(x, 0.3, 2)
    (gradient,) = torch.autograd.grad(dropped.sum(), x)
    torch.testing.assert_close(dropped, x * gradient)
    assert (gradient == 0).any()


def test_images_and_channels_lose_other_squares() -> None:
    torch.manual_seed(0)
    zeros = (drop_squares(torch.ones(3, 3, 12, 12), 0.3, 3) == 0).flatten(0, 1)
    assert not any(torch.equal(zeros[a], zeros[b]) for a in range(9) for b in range(a))


def test_an_image_that_loses_everything_is_zero_and_not_nothing() -> None:
    torch.manual_seed(0)
    dropped = drop_squares(torch.ones(100, 1, 2, 2), 0.9, 2)
    assert set(dropped.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_dropping_keeps_the_type_of_the_features(kind: torch.dtype) -> None:
    assert drop_squares(torch.ones(2, 2, 4, 4, dtype=kind), 0.1, 2).dtype == kind


def test_only_the_last_two_blocks_drop_after_halving(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def noted(x: Tensor, rate: float, size: int) -> Tensor:
        seen.append((tuple(x.shape), rate, size))
        return x

    monkeypatch.setattr(resnet12, "drop_squares", noted)
    network((1, 84, 84), drop_block=0.2).train()(torch.rand(2, 1, 1, 84, 84, dtype=torch.float64), support=1)
    assert seen == [((2, 4, 10, 10), 0.2, 5), ((2, 5, 5, 5), 0.2, 5)]


def drawn(made: ResNet12) -> bool:
    """Whether a pass takes numbers from the generator that checkpoints keep."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    made(torch.ones(1, 2, 1, 32, 32, dtype=torch.float64), support=1)
    return not torch.equal(torch.get_rng_state(), before)


def test_random_numbers_are_drawn_in_training_alone_and_only_to_drop() -> None:
    assert drawn(network((1, 32, 32), drop_block=0.1).train())
    assert not drawn(network((1, 32, 32), drop_block=0.0).train())
    assert not drawn(network((1, 32, 32), drop_block=0.1).eval())


def test_dropping_is_repeated_from_a_state_of_the_generator_and_absent_from_evaluation() -> None:
    made, images = network((1, 32, 32), drop_block=0.3, protocol="none"), torch.rand(1, 4, 1, 32, 32, dtype=torch.float64)
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(made.train()(images, support=1))
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    evaluated = made.eval()(images, support=1)
    assert torch.equal(evaluated, made(images, support=1))
    assert torch.equal(evaluated, network((1, 32, 32), drop_block=0.0, protocol="none").train()(images, support=1))
