"""What engines run: the inner loop of gradient-based algorithms, described without knowing who runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from metashot.episodes import Examples

Parameters = dict[str, Tensor]  # by their names in the network
Memory = dict[str, Tensor]  # what an inner optimiser remembers from step to step
# Parameters, their gradients, what is remembered and the number of the step give new parameters and a new memory.
Update = Callable[[Parameters, Parameters, Memory, int], tuple[Parameters, Memory]]


@dataclass(frozen=True)
class InnerLoop:
    """How a network adapts to a task."""

    network: nn.Module  # with `forward(x, step)` for a support set and `answer(support_x, query_x, step)` for queries
    adapting: tuple[str, ...]  # the names of the parameters that change
    learned: tuple[Tensor, ...]  # all that an outer gradient may reach: the network's parameters and the algorithm's own
    loss: Callable[[Tensor, Tensor], Tensor]  # of the answers to a support set
    remember: Callable[[Parameters], Memory]  # what an inner optimiser remembers before the first step
    update: Update
    steps: int
    first_order: bool  # gradients of the inner loss count as constants
    answered: tuple[int, ...]  # after how many steps the queries are answered
    least_fall: float | None = None  # of the support loss in a step; with less, a task takes the step back and stops
    recompute: bool = False  # the inside of each step, and of all answers but one alone, instead of keeping it


class Adapted(NamedTuple):
    """What became of the tasks."""

    answers: Tensor  # [T, number of times answered, Q, ...]
    losses: Tensor  # [T, steps]: of the support set, before each step; a task that stopped keeps its last one
    parameters: Parameters  # [T, ...]: after the last step


class Engine(Protocol):
    """Runs the inner loop over the tasks of a step."""

    def __call__(self, inner: InnerLoop, support: Examples, query_x: Tensor, batches: Tensor | None = None) -> Adapted:
        """Adapt a network to each task's support set, or in each step to the examples `batches` [T, steps, B] of it."""

    def answer(self, inner: InnerLoop, theta: Parameters, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Answers [T, Q, ...] of networks that have these parameters [T, ...] after all steps."""

    def described(self, device_type: str, input_shape: tuple[int, ...]) -> str:
        """How inner loops on such inputs are run there, in a few words."""
