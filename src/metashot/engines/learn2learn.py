"""The reference: the inner loop task by task, with learn2learn's clone and update. The only place that imports it."""

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
from metashot.engines.inner import InnerLoop, InnerLoopResult, OptimizerState, Parameters, Support
from metashot.episodes import Examples


def is_installed() -> bool:
    """Whether learn2learn, which is an extra of metashot, can be found; it is not imported for it."""
    return importlib.util.find_spec("learn2learn") is not None


class Learn2Learn:
    """`engine=learn2learn`.

    Raises:
        BadInput: if learn2learn is not installed.
    """

    def __init__(self) -> None:
        if not is_installed():
            raise BadInput(
                "engine=learn2learn needs learn2learn, which is not installed: pip install 'metashot[learn2learn]' (it "
                "needs a C compiler and numpy 1), or give engine=batched, which computes the same numbers"
            )

    def description(self, device_type: str, input_shape: tuple[int, ...]) -> str:
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

    def answer(self, inner: InnerLoop, theta: Parameters, support_x: Tensor, query_x: Tensor) -> Tensor:
        answers = []
        for k in range(len(query_x)):
            own = slice(k, k + 1)
            of_task = {name: value[own] for name, value in theta.items()}
            answers.append(_OneTask(inner).answer(of_task, support_x[own], query_x[own], max(inner.steps - 1, 0))[0])
        return torch.cat(answers)


class _OneTask:
    """A task and a copy of the network, which goes with it from step to step."""

    def __init__(self, inner: InnerLoop) -> None:
        self.inner = inner
        self.adapted: Any = None
        self.theta: Parameters = {}  # that the copy has

    def step(self, theta: Parameters, memory: OptimizerState, examples: Examples, number: int) -> course.StepResult:
        second_order = torch.is_grad_enabled() and not self.inner.first_order
        with torch.enable_grad():  # adapting needs gradients, in validation and testing too
            adapted = self._network(theta)
            layers = averaging_layers(adapted)
            with recording_statistics(layers):
                answers, statistics = adapted(examples.x, number), recorded_statistics(layers)
            loss = self.inner.loss(answers, examples.y)
            own = {name: value for name, value in adapted.named_parameters() if name in theta}
            gradients = torch.autograd.grad(loss, list(own.values()), create_graph=second_order)
        remembered = {name: value[0] for name, value in memory.items()}
        changed, remembered = self.inner.update(own, dict(zip(own, gradients, strict=True)), remembered, number)
        self.theta = _leading(changed)
        with torch.enable_grad():  # so that the next step can be derived
            self._move(adapted, {name: value - own[name] for name, value in changed.items()})
        return course.StepResult(self.theta, _leading(remembered), loss.unsqueeze(0), statistics)

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, course.Statistics]:
        adapted = self._network(theta)
        layers = averaging_layers(adapted)
        with recording_statistics(layers):
            answers = adapted.answer(support_x, query_x, number)
            return answers, recorded_statistics(layers)

    def _network(self, theta: Parameters) -> Any:
        """The copy of the network, with these parameters.

        Whoever asks first makes it for all: a copy made without gradients, to answer in a test, could not take a step later.
        """
        if self.adapted is None or theta is not self.theta:
            with torch.enable_grad():
                self.adapted, self.theta = _library().clone_module(self.inner.network), theta
                own = dict(self.adapted.named_parameters())
                self._move(self.adapted, {name: _from_there(value[0], own[name]) for name, value in theta.items()})
        return self.adapted

    def _move(self, adapted: Any, differences: Parameters) -> None:
        _library().update_module(adapted, [differences.get(name) for name, _ in adapted.named_parameters()])


def _from_there(value: Tensor, own: Tensor) -> Tensor:
    """How far a parameter moves to have this value, which a step can be derived by in any case: a network whose parameters
    are frozen, because tasks bring their own, has nothing else to derive by without an outer gradient."""
    return (value if value.requires_grad or own.requires_grad else value.detach().requires_grad_()) - own


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
