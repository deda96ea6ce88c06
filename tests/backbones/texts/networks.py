"""Every backbone of texts that is trained from scratch, small and in float64, and texts for it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Protocol
from metashot.backbones.texts.ngrams import Ngrams
from metashot.backbones.texts.textcnn import TextCNN
from metashot.backbones.texts.transformer import Transformer
from metashot.sources.texts.code_points import code_points

LENGTH = 16
_COMMON: dict[str, Any] = {"tokens": "characters", "buckets": 32, "length": LENGTH, "dropout": 0.0, "parts": 1}


def textcnn(protocol: Protocol = "running", **own: Any) -> TextCNN:
    settings: dict[str, Any] = {
        **_COMMON,
        "dimensions": 5,
        "widths": [1, 3, 4],
        "channels": 3,
    }
    return TextCNN((2, LENGTH), normalisation=protocol, **(settings | own))


def transformer(protocol: Protocol = "running", **own: Any) -> Transformer:
    settings: dict[str, Any] = {
        **_COMMON,
        "dimensions": 8,
        "heads": 2,
        "layers": 2,
        "hidden": 6,
    }
    return Transformer((2, LENGTH), normalisation=protocol, **(settings | own))


def ngrams(protocol: Protocol = "running", **own: Any) -> Ngrams:
    settings: dict[str, Any] = {"sizes": [1, 2, 3], "buckets": 64, "length": LENGTH, "lower": True, "features": 7}
    return Ngrams((2, LENGTH), normalisation=protocol, **(settings | own))


NETWORKS: dict[str, Callable[..., Backbone]] = {
    "textcnn": textcnn,
    "textcnn, maps": lambda protocol="running": textcnn(protocol, parts=4),
    "transformer": transformer,
    "transformer, maps": lambda protocol="running": transformer(protocol, parts=4),
    "ngrams": ngrams,
    "ngrams, buckets": lambda protocol="running": ngrams(protocol, features=None),
}


def made(name: str, protocol: Protocol = "running") -> Backbone:
    """With averages, weights and biases of normalisation as training might have left them."""
    torch.manual_seed(0)
    network = NETWORKS[name](protocol).double()
    with torch.no_grad():
        for key, values in (*network.named_parameters(), *network.named_buffers()):
            if "normalisation" in key:
                values.uniform_(0.5, 1.5)
    return network


def inputs(texts: list[str], length: int = LENGTH) -> Tensor:
    """Texts as one task: [1, N, 2, length]."""
    points, _ = code_points(texts, length)
    ids = torch.full((len(texts), length), -1)
    ids[:, : points.shape[1]] = torch.from_numpy(points).long()
    return torch.stack([ids.clamp(min=0), (ids >= 0).long()], dim=1)[None]


def random_texts(tasks: int, count: int, seed: int = 0, length: int = LENGTH) -> Tensor:
    """Of different lengths, one of them empty: [tasks, count, 2, length]."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(97, 123, (tasks, count, length), generator=generator)
    sizes = torch.randint(1, length + 1, (tasks, count, 1), generator=generator)
    sizes[0, 0] = 0
    mask = torch.arange(length) < sizes
    return torch.stack([ids * mask, mask.long()], dim=2)
