"""R2-D2: Bertinetto, Henriques, Torr, Vedaldi 2019, "Meta-learning with differentiable closed-form solvers",
arXiv:1805.08136.

For each task a linear layer is fitted to the features of the support set by ridge regression onto one-hot labels.
The solution has a closed form, through which the loss of the queries is differentiated: training learns features, and a
regularisation lambda, with which such a layer generalises. The logits are its predictions times a learned scale alpha plus a
learned bias beta, and training minimises their cross-entropy. Regression works in the same way: the layer is fitted to the
targets themselves, and training minimises the squared error of the predictions.

As in the authors' code (bertinetto/r2d2, `r2d2.py`), features and targets are divided by the square root of the number of
support examples, a constant 1 is appended to the features for the layer's bias, and the smaller one of the two equivalent
linear systems is solved.

Where this departs from the paper: lambda is learned as its logarithm, so that it stays positive (the authors' code keeps it
at 50 by default, which is `learned_regularisation=false`); beta, which changes no probability of a class, is learned in
regression only; the linear system is formed and solved in double precision, since single precision loses all digits where
lambda is small and features are collinear; the default backbone is conv4, where the paper has
`backbone=conv4_concatenated` with 96, 192, 384 and 512 channels.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import memberships
from metashot.arguments import AtLeast, AtMost, Positive
from metashot.backbones.base import Backbone
from metashot.episodes import Examples
from metashot.problems import Classification, Problem, Regression


class R2D2(FeatureLearner):
    """Ridge regression on features; `regularisation` and `scale` are the initial lambda and alpha."""

    solves = (Classification, Regression)

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        regularisation: Annotated[float, AtLeast(1e-8), AtMost(1e8)],
        learned_regularisation: bool,
        scale: Positive,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.log_lambda = nn.Parameter(torch.tensor(math.log(regularisation)), requires_grad=learned_regularisation)
        self.alpha = nn.Parameter(torch.tensor(float(scale)))
        # A constant added to all logits changes no probability: its gradient is a rounding error, which Adam would amplify.
        self.beta = nn.Parameter(torch.zeros([]), requires_grad=not problem.has_classes)

    def summary(self, support: Examples) -> Tensor:
        has_classes = self.problem.has_classes
        y = memberships(support.y, support.x) if has_classes else support.y.to(support.x.dtype)
        return ridge_regression(with_ones(support.x), y, self.log_lambda.exp())  # W [T, features + 1, outputs]

    def answer(self, weights: Tensor, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            return self.alpha * (with_ones(query) @ weights) + self.beta


def with_ones(features: Tensor) -> Tensor:
    """Append a constant 1, whose weight is the bias: [T, N, features + 1]."""
    return F.pad(features, (0, 1), value=1.0)


def ridge_regression(x: Tensor, y: Tensor, regularisation: Tensor) -> Tensor:
    """The weights W that minimise the mean over the examples of |x W - y|^2, plus lambda |W|^2.

    Args:
        x: [T, S, features].
        y: [T, S, outputs].
        regularisation: lambda, above 0.

    Returns:
        [T, features, outputs]; not finite where `x` or `y` is not.
    """
    with torch.autocast(x.device.type, enabled=False):
        _, count, features = x.shape
        dtype, root = x.dtype, math.sqrt(count)
        x, y, regularisation = x.double() / root, y.double() / root, regularisation.double()
        if count > features:
            weights = _solution(x.mT @ x, x.mT @ y, regularisation)  # (X'X + lambda I)^-1 X'Y
        else:
            weights = x.mT @ _solution(
                x @ x.mT, y, regularisation
            )  # X'(XX' + lambda I)^-1 Y, the same by Woodbury's identity
        return weights.to(dtype)


def _solution(gram: Tensor, target: Tensor, regularisation: Tensor) -> Tensor:
    # Unchecked: non-finite features give non-finite answers, which training and evaluation know how to handle.
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    solution: Tensor = torch.linalg.solve_ex(gram + regularisation * identity, target).result
    return solution
