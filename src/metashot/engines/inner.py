"""What engines run: the inner loop of gradient-based algorithms, described without knowing who runs it."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from metashot.episodes import Examples

Parameters = dict[str, Tensor]  # by their names in the network
OptimizerState = dict[str, Tensor]  # what an inner optimiser remembers from step to step
# Parameters, their gradients, what is remembered and the number of the step give new parameters and a new memory.
Update = Callable[[Parameters, Parameters, OptimizerState, int], tuple[Parameters, OptimizerState]]
# The parameters [C, ...] of some tasks, the number of the inner step and the place of these tasks among all T tasks give
# the examples [C, N, ...] of this step. An engine asks for as many tasks at once as it computes together. To the gradient
# of the inner loss the examples are constants; an outer gradient flows back through them unless they are detached.
Collect = Callable[[Parameters, int, slice], Examples]
Support = Examples | Collect  # the support sets, or what collects them step by step


class Adaptable(nn.Module):
    """All that engines ask of a network, besides having its parameters by name: no backbone, no head, no number of classes.

    Parameters that adapt are replaced by those of a task while one of the two methods runs. `step` is the number of the
    inner step that a pass belongs to, for layers that have something of their own for each step. Nothing may be written to
    the network, and nothing may be drawn at random: a pass is repeated where memory is saved.
    """

    @abstractmethod
    def forward(self, x: Tensor, step: int) -> Tensor:
        """Outputs [T, S, ...] for the support inputs [T, S, ...], for the inner loss."""

    @abstractmethod
    def answer(self, support_x: Tensor, query_x: Tensor, step: int) -> Tensor:
        """Answers [T, ...] to the queries [T, Q, ...], of any shape that is the same for every task."""


@dataclass(frozen=True)
class InnerLoop:
    """How a network adapts to a task."""

    network: Adaptable
    adapted_names: tuple[str, ...]  # the names of the parameters that change
    outer_parameters: tuple[Tensor, ...]  # that receive an outer gradient: the network's and the algorithm's own
    loss: Callable[[Tensor, Tensor], Tensor]  # of the outputs for a support set
    initial_state: Callable[[Parameters], OptimizerState]  # what an inner optimiser remembers before the first step
    update: Update
    steps: int
    first_order: bool  # gradients of the inner loss count as constants
    answer_after: tuple[int, ...]  # after how many steps the queries are answered
    least_fall: float | None = None  # of the support loss in a step; with less, a task takes the step back and stops
    recompute: bool = False  # the inside of each step, and of all answers but one alone, instead of keeping it


class InnerLoopResult(NamedTuple):
    """What became of the tasks."""

    answers: Tensor  # [T, number of times answered, Q, ...], or whatever shape the network's answers have
    losses: Tensor  # [T, steps]: of the support set, before each step; a task that stopped keeps its last one
    parameters: Parameters  # [T, ...]: after the last step


class Engine(Protocol):
    """Runs the inner loop over the tasks of a step."""

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
            inner: What an inner step does.
            support: The support sets, or a function that collects the examples of each step with the parameters at hand.
                Queries are then answered beside the examples of the step before, or of step 0 where none was taken.
            query_x: Inputs [T, Q, ...] of the queries; Q may be 0.
            batches: The places [T, steps, B] of the support examples that each step takes; None for all of them.
            start: Each task's own initial parameters [T, ...], by the names of all that adapt; None for the network's own.
                Gradients flow back into what made them.

        Raises:
            BadInput: Examples are collected, and tasks are to stop by their losses (`least_fall`).
            ValueError: Examples are collected and there are `batches`, or `start` does not fit the parameters that adapt.
        """

    def answer(self, inner: InnerLoop, theta: Parameters, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Answers [T, Q, ...] of networks that have these parameters [T, ...] after all steps."""

    def description(self, device_type: str, input_shape: tuple[int, ...]) -> str:
        """How inner loops on such inputs are run there, in a few words."""
