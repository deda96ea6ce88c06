"""LaplacianShot: Ziko, Dolz, Granger, Ben Ayed 2020, "Laplacian regularized few-shot learning", arXiv:2006.15486.

The backbone and a linear layer are trained to classify all training classes, on shuffled images. For each task the features
are divided by their lengths (`l2`), for `centre_l2` after the mean feature of the training classes is subtracted. A query is
assigned to the class of the nearest prototype, and to that of its nearest queries: bound updates minimise the sum of the
squared distances, of lambda times the disagreement of neighbours, and of a barrier, the negative entropy of the assignments.

Prototypes are rectified first, as in the authors' code (imtiazziko/LaplacianShot, `src/train_lshot.py`): queries are shifted
so that their mean is that of the support set, each example is assigned to the class whose mean has the highest cosine, and a
prototype is the mean of these examples, each weighted by the softmax of ten times its cosines.

lambda is chosen on validation episodes, from the values of the authors' code, unless it is given. Where this departs from
the paper: a class that no example is assigned to keeps the mean of its support examples; the support set is not enlarged.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.centring import CentresFeatures, FeatureNormalisation, Normalise
from metashot.algorithms.choosing import Choice, ChoosesOnValidation
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import cosines, squared_distances
from metashot.algorithms.transductive.together import AnswersTogether
from metashot.arguments import AtLeast, AtMost
from metashot.backbones.base import Backbone
from metashot.problems import Problem

_CANDIDATES = (0.1, 0.3, 0.5, 0.7, 0.8, 1.0, 1.2, 1.5)  # lambda
_SHARPNESS = 10.0  # of the softmax of cosines
_ITERATIONS, _CONVERGED = 20, 1e-6  # bound updates; the relative change of the energy


class LaplacianShot(AnswersTogether, ChoosesOnValidation, CentresFeatures):
    """LaplacianShot.

    Args:
        laplacian: lambda, the weight of neighbours that disagree; None to choose it on validation episodes.
        neighbours: The size of a query's neighbourhood, itself included.
        rectify: Whether queries take part in the prototypes.
        normalise: How features are normalised.
    """

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        laplacian: Annotated[float, AtLeast(0), AtMost(1000)] | None,
        neighbours: Annotated[int, AtLeast(1)],
        rectify: bool,
        normalise: Normalise,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.laplacian = Choice(laplacian, _CANDIDATES)
        self.neighbours = neighbours
        self.rectify = rectify
        self.normalised = FeatureNormalisation(normalise, backbone.features)

    @property
    def worth_alone(self) -> str:
        if self.rectify:
            return "it is worth nothing, since the query is shifted to the mean of the support set, whatever it shows"
        return "it is that of the nearest class mean"

    def assign(self, support: Tensor, members: Tensor, query: Tensor) -> Tensor:
        support, members, query = self.normalised(support).double(), members.double(), self.normalised(query).double()
        prototypes = members.mT @ support / members.sum(1).unsqueeze(-1)  # [T, ways, features]
        if self.rectify:
            query = query + (support.mean(1, keepdim=True) - query.mean(1, keepdim=True))
            prototypes = _rectified(prototypes, torch.cat([support, query], dim=1))
        return bound_updates(squared_distances(query, prototypes), _affinities(query, self.neighbours), self.laplacian.value)


def _rectified(prototypes: Tensor, x: Tensor) -> Tensor:
    """The weighted means of the examples x [T, S + Q, features] that are assigned to each class: [T, ways, features]."""
    similarities = cosines(x, prototypes)  # [T, S + Q, ways]
    assigned = F.one_hot(similarities.argmax(-1), prototypes.shape[1]).to(x.dtype)
    counts = assigned.sum(1).unsqueeze(-1)  # [T, ways, 1]
    sums = (assigned * (_SHARPNESS * similarities).softmax(-1)).mT @ x
    return torch.where(counts > 0, sums / counts.clamp_min(1), prototypes)


def _affinities(query: Tensor, neighbours: int) -> Tensor:
    """[T, Q, Q], of which a row is 1 at the other queries that are nearest to its own and 0 elsewhere."""
    count = query.shape[1]
    alone = torch.eye(count, dtype=query.dtype, device=query.device)
    others = squared_distances(query, query).masked_fill(alone.bool(), torch.inf)
    nearest = others.topk(min(neighbours, count) - 1, dim=-1, largest=False).indices
    return torch.zeros_like(others).scatter_(-1, nearest, 1.0)


def bound_updates(costs: Tensor, affinities: Tensor, strength: float) -> Tensor:
    """Minimise the energy of soft assignments, task by task.

    Args:
        costs: [T, Q, ways].
        affinities: [T, Q, Q].
        strength: lambda.

    Returns:
        The logarithms of the assignments [T, Q, ways].
    """
    logits = (-costs).log_softmax(-1)
    active = torch.ones_like(costs[:, :1, :1], dtype=torch.bool)  # [T, 1, 1]
    before = torch.full_like(costs[:, :1, :1], torch.inf)
    for iteration in range(_ITERATIONS):
        updated = (strength * affinities @ logits.exp() - costs).log_softmax(-1)
        logits = torch.where(active, updated, logits)
        assigned = logits.exp()
        energy = (assigned * (logits + costs - strength * affinities @ assigned)).sum((1, 2), keepdim=True)
        if iteration > 1:
            active = active & ((energy - before).abs() > _CONVERGED * before.abs())
            if not active.any():
                break
        before = energy
    return logits
