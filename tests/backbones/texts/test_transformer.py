"""The transformer on texts against torch's own attention and layers, and its positions."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.backbones.texts.tokens import hashed
from metashot.backbones.texts.transformer import Block, LayerNormalisation, turned
from metashot.bad_input import BadInput

from .networks import inputs, transformer

TEXTS = ["hello world", "a", "abc", "0123456789abcdef"]


def rotated(x: Tensor) -> Tensor:
    """RoFormer, with complex numbers: [heads, L, numbers]."""
    half = x.shape[2] // 2
    pairs = torch.complex(x[..., :half], x[..., half:])
    speeds = torch.tensor([10_000 ** (-2 * pair / x.shape[2]) for pair in range(half)], dtype=torch.float64)
    angles = torch.outer(torch.arange(x.shape[1], dtype=torch.float64), speeds)
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], dim=2)


def by_torch(block: Block, x: Tensor) -> Tensor:
    """A block on the tokens [L, dimensions] of one text without padding."""
    length, dimensions = x.shape

    def normal(layer: LayerNormalisation, x: Tensor) -> Tensor:
        return F.layer_norm(x, (dimensions,), layer.weight, layer.bias)

    query, key, value = block.to_all(normal(block.before_attention, x)).chunk(3, dim=1)
    heads = [part.view(length, block.heads, -1).transpose(0, 1) for part in (query, key, value)]
    found = F.scaled_dot_product_attention(rotated(heads[0]), rotated(heads[1]), heads[2])
    x = x + block.from_heads(found.transpose(0, 1).reshape(length, dimensions))
    return x + block.from_hidden(F.gelu(block.to_hidden(normal(block.before_network, x))))


def test_features_are_means_of_what_torchs_own_attention_finds() -> None:
    torch.manual_seed(0)
    network = transformer("none").double()
    torch.nn.init.normal_(network.table.weight)  # large enough that attention looks somewhere
    features = network(inputs(TEXTS), support=2)[0]
    for text, own in zip(TEXTS, features, strict=True):
        x = network.table.weight[hashed(torch.tensor(list(map(ord, text))), 32)]
        for block in network.blocks:
            assert isinstance(block, Block)
            x = by_torch(block, x)
        expected = F.layer_norm(x, (8,)).mean(0)
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-11)


def test_turned_products_depend_on_distances_alone() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 8, dtype=torch.float64)
    x, y = (turned(vector.expand(1, 1, 12, 8)) for vector in (one, other))
    products = (x @ y.transpose(2, 3))[0, 0]
    for distance in range(-11, 12):
        own = products.diagonal(distance)
        torch.testing.assert_close(own, own[:1].expand_as(own))
    assert products.unique().numel() > 12
    torch.testing.assert_close(x[0, 0, 0], one)


def test_order_counts() -> None:
    network = transformer("none").double()
    x = network(inputs(["abcd", "dcba"]), support=1)[0]
    assert (x[0] - x[1]).abs().max() > 1e-5


def test_layers_are_normalised_as_by_torch() -> None:
    torch.manual_seed(0)
    own, x = LayerNormalisation(6).double(), torch.randn(3, 5, 6, dtype=torch.float64)
    torch.nn.init.normal_(own.weight)
    torch.nn.init.normal_(own.bias)
    torch.testing.assert_close(own(x), F.layer_norm(x, (6,), own.weight, own.bias))


@pytest.mark.parametrize(
    ("own", "said"),
    [({"dimensions": 10, "heads": 4}, r"backbone\.dimensions=10.*heads=4.*multiple of 8"), ({"parts": 2}, "square")],
)
def test_settings_that_do_not_fit_are_refused(own: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        transformer(**own)
