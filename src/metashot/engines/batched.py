"""The inner loop of all tasks at once, with torch.func: one kernel where the reference launches one for each task."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from metashot.arguments import Count
from metashot.backbones.normalisation import averaging_layers, in_batches, recorded_statistics, recording_statistics
from metashot.engines import course
from metashot.engines.compilation import Compiler
from metashot.engines.inner import InnerLoop, InnerLoopResult, OptimizerState, Parameters, Support
from metashot.episodes import Examples

Answered = tuple[Tensor, course.Statistics]


class Batched:
    """`engine=batched`; `chunk` tasks at once, all of them where it is null. Fewer take less state.

    With `compile` the work on them is compiled, which takes a minute or more at the beginning; with `cuda_graph` it is also
    recorded, so that a GPU starts all kernels of an inner step at once.
    """

    def __init__(self, chunk: Count | None, compile: bool, cuda_graph: bool) -> None:
        self.chunk = chunk
        self.compiler = Compiler(cuda_graph) if compile or cuda_graph else None

    def description(self, device_type: str, input_shape: tuple[int, ...]) -> str:
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
        shared_start = start is None
        tasks: course.Tasks = _TasksAtOnce(inner, _Methods(inner.network), shared_start)
        if self.compiler is not None:
            tasks = self.compiler.compiled(inner, tasks, query_x.device.type, shared_start)
        return course.run_in_chunks(inner, lambda: tasks, self.chunk or len(query_x), support, query_x, batches, start)

    def answer(self, inner: InnerLoop, theta: Parameters, support_x: Tensor, query_x: Tensor) -> Tensor:
        tasks = _TasksAtOnce(inner, _Methods(inner.network), shared_start=False)
        return tasks.answer(theta, support_x, query_x, max(inner.steps - 1, 0))[0]


@dataclass(frozen=True)
class _TasksAtOnce:
    inner: InnerLoop
    methods: nn.Module
    shared_start: bool  # whether all tasks have the same parameters before step 0, the network's own

    def step(self, theta: Parameters, state: OptimizerState, examples: Examples, number: int) -> course.StepResult:
        inner = self.inner
        layers = averaging_layers(inner.network)
        first_order = inner.first_order or not torch.is_grad_enabled()

        def of_one(theta: Parameters, state: OptimizerState, x: Tensor, y: Tensor) -> course.StepResult:
            def support_loss(theta: Parameters) -> Tensor:
                return inner.loss(self._call(theta, "forward", number, x), y.unsqueeze(0))

            gradients, loss = grad_and_value(support_loss)(theta)
            statistics = [of_tasks[0] for of_tasks in recorded_statistics(layers)]
            if first_order:
                gradients = {name: value.detach() for name, value in gradients.items()}
            return course.StepResult(*inner.update(theta, gradients, state, number), loss, statistics)

        shared = number == 0 and self.shared_start
        if shared:  # a convolution with the same weights for all tasks is one, and not a grouped one
            theta = {name: value[0] for name, value in theta.items()}
        with recording_statistics(layers), in_batches(inner.network):
            stepped: course.StepResult = vmap(of_one, in_dims=(None if shared else 0, 0, 0, 0))(
                theta, state, examples.x, examples.y
            )
        return stepped

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, course.Statistics]:
        layers = averaging_layers(self.inner.network)

        def of_one(theta: Parameters, support_x: Tensor, query_x: Tensor) -> Answered:
            answers = self._call(theta, "answer", number, support_x, query_x)[0]
            return answers, [of_tasks[0] for of_tasks in recorded_statistics(layers)]

        with recording_statistics(layers), in_batches(self.inner.network):
            answered: tuple[Tensor, course.Statistics] = vmap(of_one)(theta, support_x, query_x)
        return answered

    def _call(self, theta: Parameters, method: str, number: int, *x: Tensor) -> Tensor:
        """A method of the network with these parameters, on inputs of one task."""
        network = self.inner.network
        fixed = {name: value for name, value in network.named_parameters() if name not in theta}
        named = {f"network.{name}": value for name, value in (fixed | theta).items()}
        inputs = (method, number, *(values.unsqueeze(0) for values in x))
        answers: Tensor = functional_call(self.methods, named, inputs)
        return answers


class _Methods(nn.Module):
    """A network whose methods can be named, which `functional_call` needs to reach more than `forward`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, method: str, number: int, *x: Tensor) -> Tensor:
        answers: Tensor = getattr(self.network, method)(*x, number)
        return answers
