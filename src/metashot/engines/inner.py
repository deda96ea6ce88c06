"""The interface between gradient-based algorithms and engines: the description of an inner loop, and its result."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from metashot.episodes import Examples

Parameters = dict[str, Tensor]  # by their names in the network
OptimizerState = dict[str, Tensor]  # of an inner optimiser, carried from step to step
# (parameters, gradients, state, number of the step, support loss before it) -> (new parameters, new state)
Update = Callable[[Parameters, Parameters, OptimizerState, int, Tensor], tuple[Parameters, OptimizerState]]
# (parameters [C, ...] of a chunk of tasks, number of the inner step, position of the chunk among all T tasks) -> the
# examples [C, N, ...] of this step. An engine calls it for the tasks that it computes together. The gradient of the inner
# loss treats the examples as constants; the outer gradient flows through them unless they are detached.
Collect = Callable[[Parameters, int, slice], Examples]
Support = Examples | Collect  # fixed support sets, or a function that collects the examples of each step


class Adaptable(nn.Module):
    """The interface of a network that engines can adapt; it need not have a backbone, a head or a number of classes.

    While one of the two methods runs, the adapted parameters are replaced by those of a task. `step` is the number of the
    inner step that the pass belongs to, for layers with separate parameters for each step. A pass must not modify the
    network or draw random numbers, since it is repeated where activations are recomputed to save memory.
    """

    @property
    def fused(self) -> bool:
        """Whether kernels compute its passes on a CPU, and all of its parameters may have a leading task dimension."""
        return False

    @abstractmethod
    def forward(self, x: Tensor, step: int) -> Tensor:
        """Outputs [T, S, ...] for support inputs [T, S, ...], from which the inner loss is computed."""

    @abstractmethod
    def answer(self, support_x: Tensor, query_x: Tensor, step: int) -> Tensor:
        """Answers [T, ...] to queries [T, Q, ...], of any shape that is the same for all tasks."""


@dataclass(frozen=True)
class InnerLoop:
    """How a network adapts to a task."""

    network: Adaptable
    adapted_names: tuple[str, ...]  # of the parameters that adapt
    outer_parameters: tuple[Tensor, ...]  # that receive an outer gradient: the network's and the algorithm's own
    loss: Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) of a support set -> scalar
    initial_state: Callable[[Parameters], OptimizerState]  # before the first step
    update: Update
    steps: int
    first_order: bool  # the outer gradient treats inner gradients, and losses that an update reads, as constants
    answer_after: tuple[int, ...]  # the numbers of steps after which queries are answered
    least_fall: float | None = None  # a task whose support loss falls by less in a step undoes the step and stops
    recompute: bool = False  # recompute activations of steps, and of answers if there are several, in the backward pass


class InnerLoopResult(NamedTuple):
    """The outcome of an inner loop for T tasks."""

    answers: Tensor  # [T, len(answer_after), ...], where [T, ...] is the shape of the network's answers
    losses: Tensor  # [T, steps], the support loss before each step; a task that stopped repeats its last one
    parameters: Parameters  # [T, ...] after the last step
    state: OptimizerState  # [T, ...] after the last step


class Engine(Protocol):
    """Runs the inner loops of a batch of tasks."""

    def __call__(
        self,
        inner: InnerLoop,
        support: Support,
        query_x: Tensor,
        batches: Tensor | None = None,
        start: Parameters | None = None,
    ) -> InnerLoopResult:
        """Adapt a network to each task.

        Args:
            inner: The inner loop.
            support: The support sets, or a function that collects the examples of each step with the current parameters.
                Queries are then answered together with the examples of the last step taken, or of step 0 before any step.
            query_x: Query inputs [T, Q, ...]; Q may be 0.
            batches: The positions [T, steps, B] of the support examples in each step; None for all of them.
            start: Each task's own initial parameters [T, ...], for all `adapted_names`; None for the network's own. The
                outer gradient flows through them.

        Raises:
            BadInput: Examples are collected, but `least_fall` compares losses on a fixed support set.
            ValueError: Examples are collected but `batches` are given, or `start` does not match the adapted parameters.
        """

    def answer(self, inner: InnerLoop, theta: Parameters, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Answer queries with parameters that were adapted before.

        Args:
            inner: The inner loop that adapted them.
            theta: The parameters [T, ...] after the last step.
            support_x: Support inputs [T, S, ...].
            query_x: Query inputs [T, Q, ...].

        Returns:
            Answers [T, Q, ...].
        """

    def tasks_at_once(self, network: Adaptable, query_x: Tensor) -> int:
        """The number of tasks with queries [T, Q, ...] that are computed together."""

    def description(self, device_type: str, input_shape: tuple[int, ...], fused: bool = False) -> str:
        """How inner loops run on this type of device with inputs of this shape, in a few words.

        Args:
            device_type: The type of the device, such as cpu.
            input_shape: The shape of an input.
            fused: Whether the network is `fused`.
        """
