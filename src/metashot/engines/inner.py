"""What engines run: the inner loop of gradient-based algorithms, described without knowing who runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from metashot.episodes import Examples

Parameters = dict[str, Tensor]  # by their names in the network


@dataclass(frozen=True)
class InnerLoop:
    """How a network adapts to a task."""

    network: nn.Module  # with `forward(x)` for a support set and `answer(support_x, query_x)` for queries
    adapting: tuple[str, ...]  # the names of the parameters that change
    loss: Callable[[Tensor, Tensor], Tensor]  # of the answers to a support set
    update: Callable[[Parameters, Parameters, int], Parameters]  # parameters, their gradients and the step's number
    steps: int
    first_order: bool  # gradients of the inner loss count as constants


class Engine(Protocol):
    """Runs the inner loop over the tasks of a step."""

    def __call__(self, inner: InnerLoop, support: Examples, query_x: Tensor) -> Tensor:
        """The answers [T, Q, ...] to each task's queries, by a network adapted to its support set."""
