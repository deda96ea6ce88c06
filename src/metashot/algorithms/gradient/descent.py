"""The inner step theta' = theta - alpha * gradient of the papers; what alpha is, each algorithm says in its own file."""

from collections.abc import Mapping

from torch import Tensor

from metashot.engines.inner import Parameters

StepSize = float | Tensor  # one for all elements of a parameter, or one for each of them
StepSizes = StepSize | Mapping[str, StepSize]  # the same for all parameters, or one for each name


def descended(theta: Parameters, step_sizes: StepSizes, directions: Parameters) -> Parameters:
    """theta' = theta - alpha * gradient, name by name.

    Args:
        theta: The parameters before the step.
        step_sizes: The papers' alpha.
        directions: The gradients of the support loss, or what an inner optimiser makes of them.

    Returns:
        The parameters after the step, which can be differentiated with respect to all three.
    """
    if isinstance(step_sizes, Mapping):
        return {name: value - step_sizes[name] * directions[name] for name, value in theta.items()}
    return {name: value - step_sizes * directions[name] for name, value in theta.items()}
