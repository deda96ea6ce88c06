"""The inner loops of all tasks at once with torch.func: one kernel launch where the reference needs one per task."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from metashot.arguments import Count
from metashot.backbones.normalisation import averaging_layers, in_batches, recorded_statistics, recording_statistics
from metashot.engines import course
from metashot.engines.calling import Methods
from metashot.engines.compilation import Compiler
from metashot.engines.fused import FusedTasks, suits_kernels
from metashot.engines.inner import Adaptable, InnerLoop, InnerLoopResult, OptimizerState, Parameters, Support
from metashot.episodes import Examples

Answered = tuple[Tensor, course.Statistics]


class Batched:
    """`engine=batched`.

    Args:
        chunk: The number of tasks to compute at once; None for all of them. Smaller chunks need less memory.
        compile: Whether to compile inner steps and answers, which takes a minute or more before the first step.
        cuda_graph: Whether to also record them, so that a GPU launches all kernels of an inner step at once.
    """

    def __init__(self, chunk: Count | None, compile: bool, cuda_graph: bool) -> None:
        self.chunk = chunk
        self.compiler = Compiler(cuda_graph) if compile or cuda_graph else None

    def description(self, device_type: str, input_shape: tuple[int, ...], fused: bool = False) -> str:
        words = ["batched", "all tasks of a step at once" if self.chunk is None else f"{self.chunk} tasks at once"]
        if self.compiler is not None:
            self.compiler.check_device(device_type)
            words.append("compiled and recorded in CUDA graphs" if self.compiler.cuda_graph else "compiled")
        return ", ".join(words)

    def __call__(
        self,
        inner: InnerLoop,
        support: Support,
        query_x: Tensor,
        batches: Tensor | None = None,
        start: Parameters | None = None,
    ) -> InnerLoopResult:
        tasks = self._tasks(inner, query_x, shared_start=start is None)
        size = self.tasks_at_once(inner.network, query_x)
        return course.run_in_chunks(inner, lambda: tasks, size, support, query_x, batches, start)

    def tasks_at_once(self, network: Adaptable, query_x: Tensor) -> int:
        return self.chunk or len(query_x)

    def answer(self, inner: InnerLoop, theta: Parameters, support_x: Tensor, query_x: Tensor) -> Tensor:
        tasks = self._tasks(inner, query_x, shared_start=False, compiled=False)
        return tasks.answer(theta, support_x, query_x, max(inner.steps - 1, 0))[0]

    def _tasks(self, inner: InnerLoop, query_x: Tensor, shared_start: bool, compiled: bool = True) -> course.Tasks:
        methods = Methods(inner.network)
        tasks = _TasksAtOnce(inner, methods, shared_start)
        if self.compiler is not None and compiled:
            return self.compiler.compiled(inner, tasks, query_x.device.type, shared_start)
        if self.compiler is None and suits_kernels(inner.network, query_x):
            return FusedTasks(inner, methods, otherwise=tasks)
        return tasks


@dataclass(frozen=True)
class _TasksAtOnce:
    inner: InnerLoop
    methods: Methods
    shared_start: bool  # whether all tasks start from the network's own parameters

    def step(self, theta: Parameters, state: OptimizerState, examples: Examples, number: int) -> course.StepResult:
        inner = self.inner
        layers = averaging_layers(inner.network)
        first_order = inner.first_order or not torch.is_grad_enabled()

        def step_of_task(theta: Parameters, state: OptimizerState, x: Tensor, y: Tensor) -> course.StepResult:
            def support_loss(theta: Parameters) -> Tensor:
                return inner.loss(self._call(theta, "forward", number, x), y.unsqueeze(0))

            gradients, loss = grad_and_value(support_loss)(theta)
            statistics = [values[0] for values in recorded_statistics(layers)]
            if first_order:
                gradients = {name: value.detach() for name, value in gradients.items()}
            read = loss.detach() if first_order else loss
            return course.StepResult(*inner.update(theta, gradients, state, number, read), loss, statistics)

        shared = number == 0 and self.shared_start
        if shared:  # with the same weights for all tasks, vmap needs no grouped convolution
            theta = {name: value[0] for name, value in theta.items()}
        with recording_statistics(layers), in_batches(inner.network):
            result: course.StepResult = vmap(step_of_task, in_dims=(None if shared else 0, 0, 0, 0))(
                theta, state, examples.x, examples.y
            )
        return result

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, course.Statistics]:
        layers = averaging_layers(self.inner.network)

        def answer_of_task(theta: Parameters, support_x: Tensor, query_x: Tensor) -> Answered:
            answers = self._call(theta, "answer", number, support_x, query_x)[0]
            return answers, [values[0] for values in recorded_statistics(layers)]

        with recording_statistics(layers), in_batches(self.inner.network):
            answered: Answered = vmap(answer_of_task)(theta, support_x, query_x)
        return answered

    def _call(self, theta: Parameters, method: str, number: int, *x: Tensor) -> Tensor:
        """Call a method of the network with these parameters on the inputs of one task."""
        return self.methods.with_parameters(theta, method, number, *(values.unsqueeze(0) for values in x))
