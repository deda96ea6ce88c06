"""MetaOptNet-SVM: Lee, Maji, Ravichandran, Soatto 2019, "Meta-learning with differentiable convex optimization",
arXiv:1904.03758.

For each task a multi-class support vector machine (Crammer and Singer 2001) is fitted to the features of the support set,
and the loss of the queries is differentiated through its solution: training learns features with which such a machine
generalises. The logits are its scores w_k . f times a learned scale, and training minimises their cross-entropy.

The machine is the solution of a quadratic programme over the dual variables alpha [S, ways] of the support examples x_i with
labels y_i, of which the weights are w_k = sum_i alpha_ik x_i:

    minimise    1/2 sum_k |w_k|^2 + 1/2 |alpha|^2 - sum_i alpha_(i, y_i)
    subject to  alpha_ik <= C [k = y_i]  and  sum_k alpha_ik = 0  for every i.

As in the authors' code (kjunelee/MetaOptNet, `classification_heads.py`) C is 0.1, and |alpha|^2 / 2, which the paper does
not have, makes the solution unique and a differentiable function of the features.

Where this departs from the paper: the programme is solved to convergence in double precision, where the authors limit a
general solver to 15 steps; the default backbone is conv4 with 64 channels, where the paper has ResNet-12.
"""

import torch
from torch import Tensor, nn

from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import memberships
from metashot.arguments import Positive
from metashot.backbones.base import Backbone
from metashot.episodes import Examples
from metashot.problems import Problem

_STEPS = 60  # of the interior-point method: it takes ten to twenty
_CONVERGED = 1e-12  # the residuals, relative to the largest numbers of the programme
_TO_BOUNDARY = 0.99  # the share of the way to the boundary that a step may go


class SVM(FeatureLearner):
    """Support vector machines on features; `penalty` is C, and `scale` the initial scale of the logits."""

    def __init__(
        self, backbone: Backbone, problem: Problem, penalty: Positive, scale: Positive, optimizer: Optimization
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.penalty = penalty
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def summary(self, support: Examples) -> Tensor:
        return support_vector_machine(support.x, memberships(support.y, support.x), self.penalty)

    def answer(self, weights: Tensor, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            return self.scale * (query @ weights)


def support_vector_machine(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """The weights of Crammer and Singer's support vector machine, as a differentiable function of the features.

    Args:
        x: [T, S, features].
        y: One-hot labels [T, S, ways].
        penalty: C, above 0.

    Returns:
        [T, features, ways]; not finite where `x` is not.
    """
    with torch.autocast(x.device.type, enabled=False):
        dtype, x, y = x.dtype, x.double(), y.double()
        return (x.mT @ dual_variables(x @ x.mT, y, penalty)).to(dtype)


def dual_variables(gram: Tensor, y: Tensor, penalty: float) -> Tensor:
    """The solution alpha [T, S, ways] of the quadratic programme, as a differentiable function of the inner products.

    In the variables beta = C y - alpha, the programme is to minimise 1/2 <beta, K beta> - <C K y - y, beta> with beta >= 0
    and sum_k beta_ik = C, where K = X X' + I. A primal-dual interior-point method (Mehrotra's) solves it.

    Args:
        gram: The inner products X X' [T, S, S] of the support features, in double precision.
        y: One-hot labels [T, S, ways].
        penalty: C, above 0.
    """
    kernel = gram + torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    with torch.no_grad():
        beta, z, nu = _solution(kernel, y, penalty)
        system = _NewtonSystem(kernel, z / beta)
    # The gradient of a solution by the implicit function theorem is that of one more Newton step, of which only the
    # residual depends on the inner products.
    step, _ = system.solve(-_residual(kernel, y, penalty, beta, z, nu))
    return penalty * y - (beta + step)


def _residual(kernel: Tensor, y: Tensor, penalty: float, beta: Tensor, z: Tensor, nu: Tensor) -> Tensor:
    """What is left of the stationarity condition K (beta - C y) + y - z + nu = 0: [T, S, ways]."""
    return kernel @ (beta - penalty * y) + y - z + nu


def _solution(kernel: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    """beta and its multipliers z >= 0 [T, S, ways], and the multipliers nu [T, S, 1] of the sums.

    A task that has converged stays as it is while others go on.
    """
    ways = y.shape[-1]
    beta = torch.full_like(y, penalty / ways)
    nu = torch.zeros_like(y[..., :1])
    slope = _residual(kernel, y, penalty, beta, torch.zeros_like(y), nu)
    size = slope.abs().amax((1, 2), keepdim=True) + 1  # [T, 1, 1]
    z = size.expand_as(y).clone()
    for _ in range(_STEPS):
        residual = _residual(kernel, y, penalty, beta, z, nu)
        products = beta * z
        gap = products.mean((1, 2), keepdim=True)
        converged = (residual.abs().amax((1, 2), keepdim=True) <= _CONVERGED * size) & (gap <= _CONVERGED * size * penalty)
        active = ~converged & gap.isfinite()
        if not active.any():
            break
        system = _NewtonSystem(kernel, z / beta)
        # The predictor aims at products of zero; how far it gets decides what the corrector aims at.
        step, _ = system.solve(-residual - z)
        z_step = -z - z / beta * step
        ahead = (beta + _largest(beta, step) * step) * (z + _largest(z, z_step) * z_step)
        aim = gap * (ahead.mean((1, 2), keepdim=True) / gap).clamp(0, 1) ** 3
        products = products + step * z_step - aim
        step, nu_step = system.solve(-residual - products / beta)
        z_step = -products / beta - z / beta * step
        length = torch.minimum(_largest(beta, step), _largest(z, z_step))
        length = torch.where(active, length, 0.0)
        beta, z, nu = beta + length * step, z + length * z_step, nu + length * nu_step
    return beta, z, nu


def _largest(values: Tensor, step: Tensor) -> Tensor:
    """The largest share of a step, at most 1, with which positive values stay positive: [T, 1, 1]."""
    until = torch.where(step < 0, -values / step, torch.inf).amin((1, 2), keepdim=True)
    return (_TO_BOUNDARY * until).clamp(max=1)


class _NewtonSystem:
    """The linear systems K d_k + D_k d_k + nu = r_k for each class k, with sum_k d_k = 0 and diagonal D_k.

    Classes have nothing in common but nu: each is a system of its own, and so is nu.
    """

    def __init__(self, kernel: Tensor, diagonal: Tensor) -> None:
        matrices = kernel.unsqueeze(1) + torch.diag_embed(diagonal.mT)  # [T, ways, S, S]
        factors = torch.linalg.cholesky_ex(matrices).L  # unchecked: features that are not finite give such answers
        self.inverses = torch.cholesky_inverse(factors)
        self.of_nu = torch.linalg.cholesky_ex(self.inverses.sum(1)).L  # [T, S, S]

    def solve(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """d [T, S, ways] and nu [T, S, 1] for the targets r [T, S, ways]."""
        by_class = target.mT.unsqueeze(-1)  # [T, ways, S, 1]
        nu = torch.cholesky_solve((self.inverses @ by_class).sum(1), self.of_nu)
        d = self.inverses @ (by_class - nu.unsqueeze(1))
        return d.squeeze(-1).mT, nu
