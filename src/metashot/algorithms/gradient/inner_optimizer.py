"""The inner optimiser: how a task's gradients become the directions of its steps. All of them can be differentiated."""

from typing import Annotated, Literal

import torch

from metashot.arguments import AtLeast, Below
from metashot.engines.inner import OptimizerState, Parameters

_BETA2, _EPSILON = 0.999, 1e-8  # as in Adam's paper


class InnerOptimizer:
    """`sgd` goes along the gradient, `momentum` along a decaying sum of gradients, `adam` as Kingma and Ba 2015.

    Adam's root is taken of v + epsilon^2 and not of v, because at v = 0, where a unit is dead, it has no derivative.
    """

    def __init__(self, name: Literal["sgd", "momentum", "adam"], momentum: Annotated[float, AtLeast(0), Below(1)]) -> None:
        self.name = name
        self.momentum = momentum

    def initial_state(self, theta: Parameters) -> OptimizerState:
        """The sums of gradients, and of their squares, before the first step."""
        kinds = {"sgd": (), "momentum": ("m",), "adam": ("m", "v")}[self.name]
        return {f"{kind} {name}": torch.zeros_like(value) for kind in kinds for name, value in theta.items()}

    def directions(self, gradients: Parameters, state: OptimizerState, step: int) -> tuple[Parameters, OptimizerState]:
        """In which direction each parameter goes in this step, and what to remember."""
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
        mean_share, square_share = 1 - decay ** (step + 1), 1 - _BETA2 ** (step + 1)  # what the sums miss at the beginning
        directions = {
            name: first[f"m {name}"] / mean_share / (second[f"v {name}"] / square_share + _EPSILON**2).sqrt()
            for name in gradients
        }
        return directions, first | second
