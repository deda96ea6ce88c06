"""The inner optimiser: it turns a task's gradients into the directions of its steps, differentiably."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from metashot.arguments import AtLeast, Below
from metashot.engines.inner import OptimizerState, Parameters

_BETA2, _EPSILON = 0.999, 1e-8  # as in Adam's paper
SHARE = "share"  # in a state that is carried over: the sum of the weights of all squares so far, for the bias correction


class InnerOptimizer:
    """The update directions of an inner step.

    Adam divides by sqrt(v + epsilon^2), because sqrt(v) has no derivative at v = 0, which dead units have.

    Args:
        name: `sgd` follows the gradient, `momentum` a decaying sum of gradients, `adam` Kingma and Ba 2015.
        momentum: The decay of that sum, or beta1 of Adam.
    """

    def __init__(self, name: Literal["sgd", "momentum", "adam"], momentum: Annotated[float, AtLeast(0), Below(1)]) -> None:
        self.name = name
        self.momentum = momentum

    @property
    def averages_squares(self) -> bool:
        """Whether its state has running averages of squared gradients."""
        return self.name == "adam"

    def initial_state(self, theta: Parameters) -> OptimizerState:
        """The running averages of gradients and of their squares, as far as they are needed, before the first step.

        A state with the `SHARE` of each task [T] and its averages of squares continues these.
        """
        kinds = {"sgd": (), "momentum": ("m",), "adam": ("m", "v")}[self.name]
        return {f"{kind} {name}": torch.zeros_like(value) for kind in kinds for name, value in theta.items()}

    def directions(self, gradients: Parameters, state: OptimizerState, step: int) -> tuple[Parameters, OptimizerState]:
        """The directions of a step.

        Args:
            gradients: The gradients of the support loss.
            state: The state after the step before.
            step: The number of the step, from 0.

        Returns:
            The direction that is subtracted from each parameter, and the new state.
        """
        if self.name == "sgd":
            return gradients, state
        decay = self.momentum
        if self.name == "momentum":
            first = {f"m {name}": decay * state[f"m {name}"] + gradient for name, gradient in gradients.items()}
            return {name: first[f"m {name}"] for name in gradients}, first
        first = {f"m {name}": decay * state[f"m {name}"] + (1 - decay) * gradient for name, gradient in gradients.items()}
        second = {
            f"v {name}": _BETA2 * state[f"v {name}"] + (1 - _BETA2) * gradient.square()
            for name, gradient in gradients.items()
        }
        # Adam's bias correction
        mean_share = 1 - decay ** (step + 1)
        square_share: Tensor | float = 1 - _BETA2 ** (step + 1)
        if SHARE in state:
            square_share = second[SHARE] = _BETA2 * state[SHARE] + (1 - _BETA2)
        directions = {
            name: first[f"m {name}"] / mean_share / (second[f"v {name}"] / square_share + _EPSILON**2).sqrt()
            for name in gradients
        }
        return directions, first | second
