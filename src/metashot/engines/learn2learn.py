"""The reference: the inner loop task by task, with learn2learn's clone and update. The only place that imports it."""

import contextlib
import io
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from metashot.backbones.normalisation import learn_averages, learning_layers, noting_statistics, taken_statistics
from metashot.engines.inner import InnerLoop
from metashot.episodes import Examples


class Learn2Learn:
    """`engine=learn2learn`."""

    def __call__(self, inner: InnerLoop, support: Examples, query_x: Tensor) -> Tensor:
        library = _library()
        second_order = torch.is_grad_enabled() and not inner.first_order
        layers = learning_layers(inner.network)
        answers = []
        with noting_statistics(layers):
            for task in range(len(query_x)):
                support_x, support_y = support.x[task : task + 1], support.y[task : task + 1]
                with torch.enable_grad():  # adapting needs gradients, in validation and testing too
                    adapted = library.clone_module(inner.network)
                    for step in range(inner.steps):
                        theta = {name: value for name, value in adapted.named_parameters() if name in inner.adapting}
                        loss = inner.loss(adapted(support_x), support_y)
                        gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=second_order)
                        changed = inner.update(theta, dict(zip(theta, gradients, strict=True)), step)
                        differences = {name: changed[name] - value for name, value in theta.items()}
                        library.update_module(adapted, [differences.get(name) for name, _ in adapted.named_parameters()])
                answers.append(adapted.answer(support_x, query_x[task : task + 1]))
            statistics = taken_statistics(layers, len(query_x))
        learn_averages(layers, statistics)
        return torch.cat(answers)


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
