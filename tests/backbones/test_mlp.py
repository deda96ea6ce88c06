"""The multi-layer perceptron against a recomputation with matrices."""

import pytest
import torch

from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol

SHAPE = (2, 3, 4)


def mlp(protocol: Protocol, hidden: tuple[int, ...] = (7, 5)) -> MLP:
    torch.manual_seed(0)
    return MLP(SHAPE, list(hidden), protocol).double()


@pytest.mark.parametrize("protocol", ["transductive", "support"])
def test_a_layer_is_linear_normalisation_and_relu(protocol: Protocol) -> None:
    network = mlp(protocol)
    images = torch.rand(3, 6, *SHAPE, dtype=torch.float64)
    answer = network(images, support=4)
    assert answer.shape == (3, 6, 5)
    for task in range(3):
        x = images[task].reshape(6, 24)
        for linear in network.linears:
            x = x @ linear.weight.T
            known = x[:4] if protocol == "support" else x
            variance = ((known - known.mean(0)) ** 2).mean(0)
            x = ((x - known.mean(0)) / torch.sqrt(variance + 1e-5)).clamp(min=0)
        torch.testing.assert_close(answer[task], x, atol=1e-9, rtol=0)


def test_parameters_and_features_are_as_many_as_counted_by_hand() -> None:
    network = MLP((1, 28, 28), [256, 128, 64, 64], "running")
    assert network.feature_shape == (64,)
    assert network.features == 64
    weights = 784 * 256 + 256 * 128 + 128 * 64 + 64 * 64
    assert sum(parameter.numel() for parameter in network.parameters()) == weights + 2 * (256 + 128 + 64 + 64)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("protocol", ["transductive", "running", "support"])
def test_features_of_a_task_are_the_same_alone_and_in_a_batch(protocol: Protocol, training: bool) -> None:
    network = mlp(protocol).train(training)
    images = torch.rand(3, 6, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(network(images, support=4)[2:], network(images[2:], support=4), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("protocol", "transductive"), [("transductive", True), ("running", False), ("support", False)])
def test_backbone_says_whether_queries_see_each_other(protocol: Protocol, transductive: bool) -> None:
    network = mlp(protocol).eval()
    images = torch.rand(1, 6, *SHAPE, dtype=torch.float64)
    changed = images.clone()
    changed[0, 5] = 0
    before, after = network(images, support=4), network(changed, support=4)
    assert network.transductive is transductive
    assert bool(((before - after)[0, :5].abs() > 1e-12).any()) is transductive
