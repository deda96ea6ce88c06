"""Trust region policy optimisation: Schulman, Levine, Moritz, Jordan, Abbeel 2015, arXiv:1502.05477.

The step maximises the gain of a policy to first order while its divergence from the old one, to second order, is at most
`max_divergence`. Conjugate gradients find its direction from products of the divergence's Hessian with vectors. It is then
shortened until the divergence itself is within the limit and the gain is better than before.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from metashot.arguments import Above, AtLeast, AtMost, Below, NotNegative, Positive, Tasks

Mean = Callable[[Tensor], Tensor]  # over all devices
_LEAST = 1e-10  # of the squared residual, at which conjugate gradients are done


class Objective(NamedTuple):
    """What a step is judged by."""

    gain: Tensor  # of the policy over the one that acted, a scalar
    divergence: Tensor  # from the policy that acted, a scalar


class Taken(NamedTuple):
    """The step that was taken."""

    difference: list[Tensor]  # to be added to each parameter; zero if no step was good enough
    gain: Tensor
    divergence: Tensor
    gradient_norm: Tensor


class TrustRegion:
    """The outer step of `algo.outer=trpo`.

    Args:
        max_divergence: The largest Kullback-Leibler divergence from the old policy, averaged over states and worlds.
        conjugate_gradients: The number of conjugate-gradient iterations.
        damping: What is added to the diagonal of the Hessian.
        backtracks: How often a step is shortened before it is given up.
        shrink: The factor of each shortening.
        curvature_every: The divergence is differentiated twice in every n-th world alone.
    """

    def __init__(
        self,
        max_divergence: Positive,
        conjugate_gradients: Annotated[int, AtLeast(1), AtMost(1000)],
        damping: NotNegative,
        backtracks: Annotated[int, AtLeast(1), AtMost(1000)],
        shrink: Annotated[float, Above(0), Below(1)],
        curvature_every: Tasks,
    ) -> None:
        self.max_divergence = max_divergence
        self.conjugate_gradients = conjugate_gradients
        self.damping = damping
        self.backtracks = backtracks
        self.shrink = shrink
        self.curvature_every = curvature_every

    def step(
        self,
        parameters: Sequence[Parameter],
        objective: Callable[[], Objective],
        divergence: Callable[[], Tensor],
        mean: Mean,
    ) -> Taken:
        """Find the step from the current parameters, which are left as they are.

        Args:
            parameters: What is optimised.
            objective: Computes the gain and the divergence at the parameters' values.
            divergence: Computes the divergence that is differentiated twice.
            mean: Averages over devices.
        """
        begin = objective()
        gradient = mean(_flat(torch.autograd.grad(begin.gain, parameters, materialize_grads=True)))
        gain = mean(begin.gain.detach())
        slope = _flat(torch.autograd.grad(divergence(), parameters, create_graph=True, materialize_grads=True))

        def curvature(vector: Tensor) -> Tensor:
            product = torch.autograd.grad(slope @ vector, parameters, retain_graph=True, materialize_grads=True)
            return mean(_flat(product)) + self.damping * vector

        direction = conjugate_gradient(curvature, gradient, self.conjugate_gradients)
        along = direction @ curvature(direction)
        length = (2 * self.max_divergence / along).sqrt()
        start = [parameter.detach().clone() for parameter in parameters]
        whole = _like(length * direction, parameters)
        nothing = [torch.zeros_like(value) for value in start]
        if not (along > 0) or not all(part.isfinite().all() for part in whole):
            # A gradient that is not finite is returned as it is, so that the step is reported and skipped.
            difference = nothing if gradient.isfinite().all() else _like(gradient, parameters)
            return Taken(difference, gain, torch.zeros_like(gain), gradient.norm())
        scale = 1.0
        try:
            for _ in range(self.backtracks):
                difference = [scale * part for part in whole]
                with torch.no_grad():
                    for parameter, value, part in zip(parameters, start, difference, strict=True):
                        parameter.copy_(value + part)
                    tried = Objective(*(mean(value.detach()) for value in objective()))
                if tried.gain > gain and tried.divergence <= self.max_divergence:
                    return Taken(difference, tried.gain, tried.divergence, gradient.norm())
                scale *= self.shrink
        finally:
            with torch.no_grad():
                for parameter, value in zip(parameters, start, strict=True):
                    parameter.copy_(value)
        return Taken(nothing, gain, torch.zeros_like(gain), gradient.norm())


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> Tensor:
    """Solve A x = target approximately, for a symmetric positive definite A.

    Args:
        product: A times a vector.
        target: The right-hand side.
        iterations: The largest number of iterations.
    """
    found, residual, direction = torch.zeros_like(target), target.clone(), target.clone()
    squares = residual @ residual
    for _ in range(iterations):
        if not squares > _LEAST:
            break
        image = product(direction)
        length = squares / (direction @ image)
        found = found + length * direction
        residual = residual - length * image
        before, squares = squares, residual @ residual
        direction = residual + squares / before * direction
    return found


def _flat(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.reshape(-1) for value in values])


def _like(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    sizes = [parameter.numel() for parameter in parameters]
    return [part.view_as(parameter) for part, parameter in zip(torch.split(flat, sizes), parameters, strict=True)]
