"""The inner loop of gradient-based algorithms, task by task with learn2learn. The only place that imports it."""

import contextlib
import io
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from metashot.episodes import Examples

if TYPE_CHECKING:
    from learn2learn.algorithms import MAML


def adapt_and_answer(
    network: nn.Module,
    support: Examples,
    query_x: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    lr: float,
    steps: int,
    first_order: bool,
) -> Tensor:
    """The answers [T, Q, ...] of `network` to each task's queries after `steps` gradient steps on its support set."""
    learner = _maml()(network, lr, first_order or not torch.is_grad_enabled())
    answers = []
    for task in range(len(query_x)):
        support_x, support_y = support.x[task : task + 1], support.y[task : task + 1]
        with torch.enable_grad():  # adapting needs gradients, in validation and testing too
            adapted = learner.clone()
            for _ in range(steps):
                adapted.adapt(loss(adapted(support_x), support_y))
        answers.append(adapted.module.answer(support_x, query_x[task : task + 1]))
    return torch.cat(answers)


@cache
def _maml() -> "type[MAML]":
    # Its import takes seconds and prints advice about gym to both streams, which no user of ours can act on.
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        from learn2learn.algorithms import MAML
    return MAML  # type: ignore[no-any-return]
