"""The reference engine: task by task, with learn2learn's `clone_module` and `update_module`. No other file imports it."""

import contextlib
import importlib.util
import io
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from metashot.backbones.normalisation import averaging_layers, recorded_statistics, recording_statistics
from metashot.bad_input import BadInput
from metashot.engines import course
from metashot.engines.inner import Adaptable, InnerLoop, InnerLoopResult, OptimizerState, Parameters, Support
from metashot.episodes import Examples


def is_installed() -> bool:
    """Whether learn2learn, an optional dependency, can be imported; checked without importing it."""
    return importlib.util.find_spec("learn2learn") is not None


class Learn2Learn:
    """`engine=learn2learn`.

    Raises:
        BadInput: learn2learn is not installed.
    """

    def __init__(self) -> None:
        if not is_installed():
            raise BadInput(
                "engine=learn2learn needs learn2learn, which is not installed: pip install 'metashot[learn2learn]' (it "
                "needs a C compiler and numpy 1), or give engine=batched, which computes the same numbers"
            )

    def description(self, device_type: str, input_shape: tuple[int, ...], fused: bool = False) -> str:
        return "learn2learn, task by task"

    def __call__(
        self,
        inner: InnerLoop,
        support: Support,
        query_x: Tensor,
        batches: Tensor | None = None,
        start: Parameters | None = None,
    ) -> InnerLoopResult:
        return course.run_in_chunks(inner, lambda: _OneTask(inner), 1, support, query_x, batches, start)

    def tasks_at_once(self, network: Adaptable, query_x: Tensor) -> int:
        return 1

    def answer(self, inner: InnerLoop, theta: Parameters, support_x: Tensor, query_x: Tensor) -> Tensor:
        answers = []
        for number in range(len(query_x)):
            task = slice(number, number + 1)
            parameters = {name: value[task] for name, value in theta.items()}
            answers.append(_OneTask(inner).answer(parameters, support_x[task], query_x[task], max(inner.steps - 1, 0))[0])
        return torch.cat(answers)


class _OneTask:
    """One task, with a copy of the network that is carried from step to step."""

    def __init__(self, inner: InnerLoop) -> None:
        self.inner = inner
        self.adapted: Any = None  # the copy
        self.theta: Parameters = {}  # the parameters of the copy

    def step(self, theta: Parameters, state: OptimizerState, examples: Examples, number: int) -> course.StepResult:
        second_order = torch.is_grad_enabled() and not self.inner.first_order
        with torch.enable_grad():  # adapting needs gradients in validation and tests too
            adapted = self._network(theta)
            layers = averaging_layers(adapted)
            with recording_statistics(layers):
                outputs, statistics = adapted(examples.x, number), recorded_statistics(layers)
            loss = self.inner.loss(outputs, examples.y)
            current = {name: value for name, value in adapted.named_parameters() if name in theta}
            gradients = torch.autograd.grad(loss, list(current.values()), create_graph=second_order)
        state = {name: value[0] for name, value in state.items()}
        read = loss if second_order else loss.detach()
        updated, state = self.inner.update(current, dict(zip(current, gradients, strict=True)), state, number, read)
        self.theta = _with_task_dimension(updated)
        with torch.enable_grad():  # so that the next step is differentiable
            self._move(adapted, {name: value - current[name] for name, value in updated.items()})
        return course.StepResult(self.theta, _with_task_dimension(state), loss.unsqueeze(0), statistics)

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, course.Statistics]:
        adapted = self._network(theta)
        layers = averaging_layers(adapted)
        with recording_statistics(layers):
            answers = adapted.answer(support_x, query_x, number)
            return answers, recorded_statistics(layers)

    def _network(self, theta: Parameters) -> Any:
        """The copy of the network, with these parameters.

        It is created with gradients enabled even if it only answers queries at first, since later steps differentiate it.
        """
        if self.adapted is None or theta is not self.theta:
            with torch.enable_grad():
                self.adapted, self.theta = _library().clone_module(self.inner.network), theta
                current = dict(self.adapted.named_parameters())
                self._move(self.adapted, {name: _difference(value[0], current[name]) for name, value in theta.items()})
        return self.adapted

    def _move(self, adapted: Any, differences: Parameters) -> None:
        _library().update_module(adapted, [differences.get(name) for name, _ in adapted.named_parameters()])


def _difference(target: Tensor, current: Tensor) -> Tensor:
    """The update from the current to the target value of a parameter, which always requires a gradient.

    If the network is frozen because tasks have their own initial parameters, and there is no outer gradient, nothing else
    requires one, and an inner step could not be differentiated.
    """
    return (target if target.requires_grad or current.requires_grad else target.detach().requires_grad_()) - current


def _with_task_dimension(values: Parameters) -> Parameters:
    """Prepend the task dimension, of size 1."""
    return {name: value.unsqueeze(0) for name, value in values.items()}


@cache
def _library() -> Any:
    # The import takes seconds, and prints advice about gym to both streams, which users of metashot cannot act on.
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        from learn2learn import utils
    return utils
