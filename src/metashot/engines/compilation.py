"""Compiled inner steps and answers: fused kernels for all tasks of a batch, compiled once and reused.

Every batch of tasks brings a new `InnerLoop`, so compiled functions are cached by everything in it that determines what a
step computes. torch itself recompiles for new shapes and when training mode or gradients are switched.
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
VARIANTS = 64  # the most compilations of a function, mostly for shapes; with more, a run would do little but compile


class Compiler:
    """Compiles tasks and caches the result.

    Args:
        cuda_graph: Whether to also record the kernels of a step, so that they are launched together.
    """

    def __init__(self, cuda_graph: bool) -> None:
        self.cuda_graph = cuda_graph
        self.cache: dict[Hashable, _Compiled] = {}

    def check_device(self, device_type: str) -> None:
        """Raise `BadInput` if CUDA graphs are wanted on another type of device."""
        if self.cuda_graph and device_type != "cuda":
            raise BadInput(f"engine.cuda_graph=true needs an NVIDIA GPU, and this runs on {device_type}: leave it out")

    def compiled(self, inner: InnerLoop, tasks: course.Tasks, device_type: str, shared_start: bool) -> course.Tasks:
        """Compile tasks, or return the compiled tasks of an earlier inner loop that computes the same.

        Args:
            inner: The inner loop.
            tasks: The tasks to compile.
            device_type: The type of device that they run on.
            shared_start: Whether all tasks start from the network's own parameters.

        Raises:
            BadInput: CUDA graphs are wanted on another type of device, or together with recomputed steps.
        """
        self.check_device(device_type)
        if self.cuda_graph and inner.recompute:
            raise BadInput(
                "engine.cuda_graph=true cannot record the steps that algo.checkpoint_inner_steps=true computes again: "
                "leave out one of them; engine.compile=true goes with both"
            )
        # Everything in `inner` that a step or an answer reads. Bound methods of the same object are equal.
        key = (inner.network, inner.adapted_names, inner.loss, inner.update, inner.first_order, shared_start)
        if key not in self.cache:
            self.cache[key] = _Compiled(tasks, self.cuda_graph)
        return self.cache[key]


class _Compiled:
    def __init__(self, tasks: course.Tasks, cuda_graph: bool) -> None:
        def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
            result: Callable[..., Any] = torch.compile(  # type: ignore[call-overload]  # torch's overloads lack the last two
                function,
                fullgraph=True,  # an error instead of silently compiling only parts
                backend=BACKEND,
                mode="reduce-overhead" if cuda_graph else None,
                recompile_limit=VARIANTS,
                isolate_recompiles=True,
            )
            return result

        # The parameters of step 0 have different strides from those of later steps, which differ only in their number.
        self.first, self.later, self.answering = compiled(tasks.step), compiled(tasks.step), compiled(tasks.answer)
        self.cuda_graph = cuda_graph

    def step(self, theta: Parameters, state: OptimizerState, examples: Examples, number: int) -> course.StepResult:
        with _compile_errors_refused():
            result: course.StepResult = (self.later if number else self.first)(theta, state, examples, number)
        if not self.cuda_graph:
            return result
        return course.StepResult(
            {name: value.clone() for name, value in result.theta.items()},
            {name: value.clone() for name, value in result.state.items()},
            result.losses.clone(),
            _cloned(result.statistics),
        )

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, course.Statistics]:
        with _compile_errors_refused():
            answers, statistics = self.answering(theta, support_x, query_x, number)
        return (answers.clone(), _cloned(statistics)) if self.cuda_graph else (answers, statistics)


def _cloned(values: list[Tensor]) -> list[Tensor]:
    """Copy the outputs of a CUDA graph before its next run overwrites them.

    The tensors that it saves for the backward pass stay valid until then, for all chunks and episodes of a training step:
    `cudagraph_mark_step_begin` would release them earlier, so it is not called.
    """
    return [value.clone() for value in values]


@contextmanager
def _compile_errors_refused() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise BadInput(f"engine.compile=true {reason}: leave it out") from error


def _reason(error: Exception) -> str | None:
    # Imported here because they take seconds; when compiling has failed, they are already loaded.
    from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit, Unsupported
    from torch._inductor.exc import InvalidCxxCompiler

    if isinstance(error, BackendCompilerFailed) and isinstance(error.inner_exception, InvalidCxxCompiler):
        return "needs a C++ compiler such as g++, and found none"
    if isinstance(error, FailOnRecompileLimitHit):
        return f"compiles for each shape of episodes, and there are more than {VARIANTS}"
    if isinstance(error, Unsupported):
        return f"cannot compile this inner loop ({str(error).splitlines()[0]})"
    return None
