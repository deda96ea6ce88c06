"""The loss that the inner loop minimises on a support set."""

from typing import Literal

from metashot.bad_input import BadInput
from metashot.problems import Loss, Problem

InnerLossName = Literal["auto", "cross_entropy", "hinge", "mse", "l1", "huber"]


def loss_named(name: InnerLossName, problem: Problem) -> Loss:
    """Find an inner loss by its name.

    Args:
        name: `auto` for the loss of the problem, which queries are scored with too, or one of `problem.inner_losses`.
        problem: The problem to solve.

    Raises:
        BadInput: The problem has no inner loss of that name.
    """
    if name == "auto":
        return problem.loss
    losses = problem.inner_losses
    if name not in losses:
        raise BadInput(
            f"algo.inner_loss={name} cannot be used for a {problem.kind} problem; allowed: auto, {', '.join(losses)}"
        )
    return losses[name]
