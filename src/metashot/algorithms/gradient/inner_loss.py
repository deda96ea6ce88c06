"""What a task minimises on its support set."""

from typing import Literal

from metashot.bad_input import BadInput
from metashot.problems import Loss, Problem

InnerLossName = Literal["auto", "cross_entropy", "hinge", "mse", "l1", "huber"]


def loss_named(name: InnerLossName, problem: Problem) -> Loss:
    """The loss of that name; `auto` is the one by which the problem judges answers.

    Raises:
        BadInput: The problem has no loss of that name.
    """
    if name == "auto":
        return problem.loss
    losses = problem.inner_losses
    if name not in losses:
        raise BadInput(
            f"algo.inner_loss={name} cannot judge answers of a {problem.kind} problem; allowed: auto, {', '.join(losses)}"
        )
    return losses[name]
