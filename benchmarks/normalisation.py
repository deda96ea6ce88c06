"""Ways to compute per-task normalisation statistics in conv4's first block, forward and backward."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import Row, alternate
from metashot.backbones.normalisation import Normalisation

TASKS, IMAGES, CHANNELS = 4, 80, 64


def measure() -> list[Row]:
    x = torch.randn(TASKS * IMAGES, CHANNELS, 28, 28, requires_grad=True)
    layer = Normalisation(CHANNELS, "transductive")

    def of_a_view(x: Tensor) -> Tensor:
        """Reductions over [tasks, images, channels, height, width]."""
        tasks = x.view(TASKS, IMAGES, CHANNELS, 28, 28)
        variance, mean = torch.var_mean(tasks, (1, 3, 4), correction=0, keepdim=True)
        scale = layer.weight.view(1, 1, -1, 1, 1) * torch.rsqrt(variance + layer.epsilon)
        return (tasks * scale + (layer.bias.view(1, 1, -1, 1, 1) - mean * scale)).view_as(x)

    def of_all(x: Tensor) -> Tensor:
        """One set of statistics for all tasks, as in other libraries; the result differs."""
        return F.batch_norm(x, None, None, layer.weight, layer.bias, True)

    def timed(normalise: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        return lambda: normalise(x).sum().backward()

    return alternate(
        {
            "metashot: one call a task": timed(lambda x: layer(x, tasks=TASKS, support=IMAGES)),
            "one reduction over a view": timed(of_a_view),
            "statistics mixed over tasks": timed(of_all),
        },
        rounds=10,
    )
