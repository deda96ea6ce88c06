"""The inner step theta' = theta - alpha * gradient, shared by algorithms that differ in their step sizes alpha."""

from collections.abc import Mapping

from torch import Tensor

from metashot.engines.inner import Parameters

StepSize = float | Tensor  # a scalar, or one step size for each element of a parameter
StepSizes = StepSize | Mapping[str, StepSize]  # the same for all parameters, or by their names


def descended(theta: Parameters, step_sizes: StepSizes, directions: Parameters) -> Parameters:
    """theta' = theta - alpha * gradient, for each parameter.

    Args:
        theta: The parameters before the step.
        step_sizes: The papers' alpha.
        directions: The gradients of the support loss, or the update directions that an inner optimiser derives from them.

    Returns:
        The parameters after the step, differentiable with respect to all arguments.
    """
    if isinstance(step_sizes, Mapping):
        return {name: value - step_sizes[name] * directions[name] for name, value in theta.items()}
    return {name: value - step_sizes * directions[name] for name, value in theta.items()}
