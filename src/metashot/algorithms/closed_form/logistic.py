"""RFS: Tian, Wang, Krishnan, Tenenbaum, Isola 2020, "Rethinking few-shot image classification: a good embedding is all you
need?", arXiv:2003.11539.

The backbone and a linear layer are trained to classify all training classes, on shuffled images. For each task the backbone
is frozen, and a multinomial logistic regression is fitted to the L2-normalised features of the support set: it minimises the
sum of the cross-entropies plus lambda / 2 times the squared norm of its weights, without its biases. lambda is 1 / C of
scikit-learn, which is 1 in the authors' code (WangYueFt/rfs, `eval/meta_eval.py`).

All tasks are solved at once by Newton's method, whose linear systems conjugate gradients solve, until the gradient vanishes.
The weights of a solution are sums of support features, W = X' A, so that the coefficients A [S, ways] and the inner products
of the support features are all that is needed: no step depends on the number of features.

Where this departs from the paper: lambda is chosen on validation episodes unless it is given; the support set is not
enlarged by augmented copies of its images; the backbone is not distilled into another one.
"""

from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.choosing import Choice, ChoosesOnValidation
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import memberships
from metashot.algorithms.transfer.supervised import SupervisedFeatures
from metashot.arguments import AtLeast, AtMost
from metashot.backbones.base import Backbone
from metashot.episodes import Examples
from metashot.problems import Problem

CANDIDATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # lambda
_STEPS = 100  # Newton's method: it takes five to fifteen
_DIRECTIONS = 200  # conjugate gradients in a step
_HALVINGS = 40  # of a step that goes too far
_VANISHED = 1e-10  # the norm of the gradient


class Line(NamedTuple):
    """The classifiers of T tasks."""

    weights: Tensor  # [T, features, ways]
    biases: Tensor  # [T, 1, ways]


class LogisticRegression(SupervisedFeatures, ChoosesOnValidation):
    """Logistic regression on normalised features; `regularisation` is lambda, None to choose it on validation episodes."""

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        regularisation: Annotated[float, AtLeast(1e-6), AtMost(1e6)] | None,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.regularisation = Choice(regularisation, CANDIDATES)

    def summary(self, support: Examples) -> Line:
        x = F.normalize(support.x.detach(), dim=-1)
        return logistic_regression(x, memberships(support.y, x), self.regularisation.value)

    def answer(self, line: Line, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            return F.normalize(query, dim=-1) @ line.weights + line.biases


class _Point(NamedTuple):
    """Weights W = X' A and biases b, or a direction or a gradient of theirs."""

    a: Tensor  # [T, S, ways]
    b: Tensor  # [T, 1, ways]
    projections: Tensor  # X W [T, S, ways]

    def plus(self, size: Tensor, other: "_Point") -> "_Point":
        return _Point(*(own + size * theirs for own, theirs in zip(self, other, strict=True)))

    def dot(self, other: "_Point") -> Tensor:
        """The inner product of the weights and biases: [T, 1, 1]."""
        return (self.a * other.projections).sum((1, 2), keepdim=True) + (self.b * other.b).sum((1, 2), keepdim=True)


@torch.no_grad()
def logistic_regression(x: Tensor, y: Tensor, regularisation: float) -> Line:
    """The weights W and biases b that minimise the summed cross-entropy of X W + b, plus lambda / 2 times |W|^2.

    Args:
        x: [T, S, features], of norms around 1.
        y: One-hot labels [T, S, ways].
        regularisation: lambda, above 0.

    Returns:
        The classifiers of the tasks, each of which depends on its own examples only; not finite where `x` is not.
    """
    with torch.autocast(x.device.type, enabled=False):
        dtype, x, y = x.dtype, x.double(), y.double()
        found = _Regression(x, y, regularisation).minimum()
        return Line((x.mT @ found.a).to(dtype), found.b.to(dtype))


class _Regression:
    """The logistic regressions of T tasks with examples `x` and one-hot labels `y`."""

    def __init__(self, x: Tensor, y: Tensor, regularisation: float) -> None:
        self.x, self.y, self.regularisation = x, y, regularisation
        self.gram = x @ x.mT if x.shape[1] <= x.shape[2] else None  # [T, S, S]; many examples have few features

    def minimum(self) -> _Point:
        """Newton's method: a task that has converged, or has no finite gradient, stays as it is while others go on."""
        point = _Point(torch.zeros_like(self.y), torch.zeros_like(self.y[:, :1]), torch.zeros_like(self.y))
        active = torch.ones_like(self.y[:, :1, :1], dtype=torch.bool)  # [T, 1, 1]
        for _ in range(_STEPS):
            p = (point.projections + point.b).softmax(-1)
            gradient = self._point(p - self.y + self.regularisation * point.a, (p - self.y).sum(1, keepdim=True))
            active = active & (gradient.dot(gradient).sqrt() > _VANISHED)
            if not active.any():
                break
            step = self._newton_step(p, gradient, active)
            moved = self._point(*point.plus(self._size(point, step, gradient.dot(step), active), step)[:2])
            point = _Point(*(torch.where(active, new, old) for new, old in zip(moved, point, strict=True)))
        return point

    def _point(self, a: Tensor, b: Tensor) -> _Point:
        return _Point(a, b, self.x @ (self.x.mT @ a) if self.gram is None else self.gram @ a)

    def _newton_step(self, p: Tensor, gradient: _Point, active: Tensor) -> _Point:
        """The step to the minimum of the quadratic approximation, by conjugate gradients."""
        zero = torch.zeros_like(active, dtype=p.dtype)
        residual = _Point(*(-part for part in gradient))
        step, direction, squared = _Point(*map(torch.zeros_like, gradient)), residual, residual.dot(residual)
        # Solved more exactly towards the minimum, so that Newton's method converges quadratically.
        enough = squared * squared.clamp(1e-8, 1e-2)
        for _ in range(_DIRECTIONS):
            active = active & (squared > enough)
            if not active.any():
                break
            change = p * (direction.projections + direction.b)
            change = change - p * change.sum(-1, keepdim=True)
            curved = self._point(change + self.regularisation * direction.a, change.sum(1, keepdim=True))
            size = torch.where(active, squared / direction.dot(curved), zero)
            step, residual = step.plus(size, direction), residual.plus(-size, curved)
            before, squared = squared, residual.dot(residual)
            direction = residual.plus(torch.where(active, squared / before, zero), direction)
        return step

    def _size(self, point: _Point, step: _Point, slope: Tensor, active: Tensor) -> Tensor:
        """The largest of 1, 1/2, 1/4, ... with which a step lowers the objective enough: [T, 1, 1]."""
        size = torch.ones_like(slope)
        start = self._objective(point)
        for _ in range(_HALVINGS):
            rounding = 1e-13 * (1 + start)
            enough = self._objective(point.plus(size, step)) <= start + 1e-4 * size * slope + rounding
            if (enough | ~active).all():
                break
            size = torch.where(enough, size, size / 2)
        return size

    def _objective(self, point: _Point) -> Tensor:
        """[T, 1, 1]"""
        logits = point.projections + point.b
        entropies = logits.logsumexp(-1) - (logits * self.y).sum(-1)  # [T, S]
        norm = (point.a * point.projections).sum((1, 2), keepdim=True)
        return entropies.sum(1)[:, None, None] + self.regularisation / 2 * norm
