"""What tasks do at once, compiled: fused kernels for an inner step and for an answer, made once and used ever after.

An inner loop is described anew for every batch of tasks, so what was compiled is kept under all that decides what a step
computes. torch itself compiles again for what it sees while it runs: other shapes, training or not, gradients or none.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from metashot.bad_input import BadInput
from metashot.engines import course
from metashot.engines.inner import InnerLoop, OptimizerState, Parameters
from metashot.episodes import Examples

BACKEND = "inductor"
VARIANTS = 64  # of one function, mostly for shapes; with more of them than that, a run would do little but compile


class Compiler:
    """Keeps what it compiled. With `cuda_graph` the kernels of a step are also recorded, and started together."""

    def __init__(self, cuda_graph: bool) -> None:
        self.cuda_graph = cuda_graph
        self.made: dict[Hashable, _Compiled] = {}

    def check_device(self, device_type: str) -> None:
        if self.cuda_graph and device_type != "cuda":
            raise BadInput(f"engine.cuda_graph=true needs an NVIDIA GPU, and this runs on {device_type}: leave it out")

    def compiled(self, inner: InnerLoop, tasks: course.Tasks, device_type: str, shared_start: bool) -> course.Tasks:
        """Compiled tasks that compute the same: those of the first inner loop of its kind, kept for all others."""
        self.check_device(device_type)
        if self.cuda_graph and inner.recompute:
            raise BadInput(
                "engine.cuda_graph=true cannot record the steps that algo.checkpoint_inner_steps=true computes again: "
                "leave out one of them; engine.compile=true goes with both"
            )
        # All of `inner` that a step or an answer reads. Methods are equal where they belong to the same object.
        key = (inner.network, inner.adapted_names, inner.loss, inner.update, inner.first_order, shared_start)
        if key not in self.made:
            self.made[key] = _Compiled(tasks, self.cuda_graph)
        return self.made[key]


class _Compiled:
    def __init__(self, tasks: course.Tasks, cuda_graph: bool) -> None:
        def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
            made: Callable[..., Any] = torch.compile(  # type: ignore[call-overload]  # torch's overloads lack the last two
                function,
                fullgraph=True,  # all of it or an error, never parts of it without a word
                backend=BACKEND,
                mode="reduce-overhead" if cuda_graph else None,
                recompile_limit=VARIANTS,
                isolate_recompiles=True,
            )
            return made

        # The parameters of step 0 have other strides than those of later steps, for which only their number is different.
        self.first, self.later, self.answering = compiled(tasks.step), compiled(tasks.step), compiled(tasks.answer)
        self.cuda_graph = cuda_graph

    def step(self, theta: Parameters, state: OptimizerState, examples: Examples, number: int) -> course.StepResult:
        with _refusing_what_cannot_be_compiled():
            stepped: course.StepResult = (self.later if number else self.first)(theta, state, examples, number)
        if not self.cuda_graph:
            return stepped
        return course.StepResult(
            {name: value.clone() for name, value in stepped.theta.items()},
            {name: value.clone() for name, value in stepped.state.items()},
            stepped.losses.clone(),
            _cloned(stepped.statistics),
        )

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, course.Statistics]:
        with _refusing_what_cannot_be_compiled():
            answers, statistics = self.answering(theta, support_x, query_x, number)
        return (answers.clone(), _cloned(statistics)) if self.cuda_graph else (answers, statistics)


def _cloned(values: list[Tensor]) -> list[Tensor]:
    """What a CUDA graph returned, before its next run overwrites it.

    What it keeps for the derivative stays by itself until that is taken, for all chunks and episodes of a training step:
    `cudagraph_mark_step_begin` would give it up before, so it is not called.
    """
    return [value.clone() for value in values]


@contextmanager
def _refusing_what_cannot_be_compiled() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise BadInput(f"engine.compile=true {reason}: leave it out") from error


def _reason(error: Exception) -> str | None:
    # Imported when something was compiled, which has imported them: alone, they take seconds.
    from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit, Unsupported
    from torch._inductor.exc import InvalidCxxCompiler

    if isinstance(error, BackendCompilerFailed) and isinstance(error.inner_exception, InvalidCxxCompiler):
        return "needs a C++ compiler such as g++, and found none"
    if isinstance(error, FailOnRecompileLimitHit):
        return f"compiles for each shape of episodes, and met more than {VARIANTS}"
    if isinstance(error, Unsupported):
        return f"cannot compile this inner loop ({str(error).splitlines()[0]})"
    return None
