"""The reference: the inner loop task by task, with learn2learn's clone and update. The only place that imports it."""

import contextlib
import io
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from metashot.backbones.normalisation import learning_layers, noting_statistics, taken_statistics
from metashot.engines import course
from metashot.engines.inner import Adapted, InnerLoop, Memory, Parameters
from metashot.episodes import Examples


class Learn2Learn:
    """`engine=learn2learn`."""

    def described(self, device_type: str, network: nn.Module) -> str:
        return "learn2learn, task by task"

    def __call__(self, inner: InnerLoop, support: Examples, query_x: Tensor, batches: Tensor | None = None) -> Adapted:
        task = _OneTask(inner)
        courses = []
        for k in range(len(query_x)):
            own = slice(k, k + 1)
            examples = Examples(support.x[own], support.y[own])
            courses.append(course.run(inner, task, examples, query_x[own], None if batches is None else batches[own]))
        return course.together(inner, courses)


@dataclass(frozen=True)
class _OneTask:
    inner: InnerLoop

    def step(self, theta: Parameters, memory: Memory, examples: Examples, number: int) -> course.Stepped:
        second_order = torch.is_grad_enabled() and not self.inner.first_order
        layers = learning_layers(self.inner.network)
        with torch.enable_grad(), noting_statistics(layers):  # adapting needs gradients, in validation and testing too
            adapted = self._network(theta)
            loss = self.inner.loss(adapted(examples.x, number), examples.y)
            own = {name: value for name, value in adapted.named_parameters() if name in theta}
            gradients = torch.autograd.grad(loss, list(own.values()), create_graph=second_order)
            statistics = taken_statistics(layers)
        remembered = {name: value[0] for name, value in memory.items()}
        changed, remembered = self.inner.update(own, dict(zip(own, gradients, strict=True)), remembered, number)
        return course.Stepped(_leading(changed), _leading(remembered), loss.unsqueeze(0), statistics)

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, course.Statistics]:
        layers = learning_layers(self.inner.network)
        with noting_statistics(layers):
            answers = self._network(theta).answer(support_x, query_x, number)
            return answers, taken_statistics(layers)

    def _network(self, theta: Parameters) -> Any:
        """A copy of the network with these parameters."""
        library = _library()
        adapted = library.clone_module(self.inner.network)
        differences = {name: theta[name][0] - value for name, value in adapted.named_parameters() if name in theta}
        library.update_module(adapted, [differences.get(name) for name, _ in adapted.named_parameters()])
        return adapted


def _leading(values: Parameters) -> Parameters:
    """With the dimension of the tasks, of which there is one."""
    return {name: value.unsqueeze(0) for name, value in values.items()}


@cache
def _library() -> Any:
    # Its import takes seconds and prints advice about gym to both streams, which no user of ours can act on.
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        from learn2learn import utils
    return utils
