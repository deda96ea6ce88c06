"""PT-MAP: Hu, Gripon, Pateux 2021, "Leveraging the feature distribution in transfer-based few-shot learning",
arXiv:2006.03806.

The backbone and a linear layer are trained to classify all training classes, on shuffled images. For each task a power
transform makes the features more like samples of Gaussians, and they are divided by their lengths, centred, and divided by
their lengths again, support and queries separately. From the class means of the support set on, two steps alternate: optimal
transport with an entropy (Sinkhorn) assigns the queries to the centres, and each centre moves by a share alpha to the mean
of its support examples and of what is assigned to it. The answers are the last assignment.

The transport assumes that a task has equally many queries of each class. Where it has not, queries are forced into the wrong
classes, and a single query has the same probability for all classes.

Where this departs from the paper: negative features, which the paper's backbones do not have, keep their signs in the power
transform; the Sinkhorn iterations of a task stop when it has converged, and in the authors' code (yhu01/PT-MAP,
`test_standard.py`) when all tasks have.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import squared_distances
from metashot.algorithms.transductive.together import AnswersTogether
from metashot.arguments import Above, AtMost, Steps
from metashot.backbones.base import Backbone
from metashot.problems import Problem

_EPSILON = 1e-6  # added to features, as in the authors' code
_ITERATIONS, _CONVERGED = 1000, 1e-6  # of Sinkhorn; the largest change of a row's sum


class PTMAP(AnswersTogether):
    """PT-MAP.

    Args:
        power: beta, the exponent of the power transform.
        transport: lambda, the weight of the distances against the entropy of the assignment.
        rate: alpha, the share of the way that a centre moves in an epoch.
        epochs: The number of times that the centres move.
    """

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        power: Annotated[float, Above(0), AtMost(2)],
        transport: Annotated[float, Above(0), AtMost(100)],
        rate: Annotated[float, Above(0), AtMost(1)],
        epochs: Steps,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.power = power
        self.transport = transport
        self.rate = rate
        self.epochs = epochs

    @property
    def worth_alone(self) -> str:
        return "it is worth nothing, since all classes have the same probability, whatever the query shows"

    def assign(self, support: Tensor, members: Tensor, query: Tensor) -> Tensor:
        support, query = (self._transformed(part.double()) for part in (support, query))
        x = _in_span(torch.cat([support, query], dim=1))
        members, query = members.double(), x[:, support.shape[1] :]
        centres = members.mT @ x[:, : support.shape[1]] / members.sum(1).unsqueeze(-1)  # [T, ways, dimensions]
        for _ in range(self.epochs):
            assigned = torch.cat([members, self._assignment(query, centres)], dim=1)  # [T, S + Q, ways]
            centres = centres.lerp(assigned.mT @ x / assigned.sum(1).unsqueeze(-1), self.rate)
        return self._assignment(query, centres).clamp_min(torch.finfo(torch.double).tiny).log().log_softmax(-1)

    def _transformed(self, features: Tensor) -> Tensor:
        powers = (features.abs() + _EPSILON) ** self.power
        unit = F.normalize(torch.where(features < 0, -powers, powers), dim=-1)
        return F.normalize(unit - unit.mean(1, keepdim=True), dim=-1)

    def _assignment(self, query: Tensor, centres: Tensor) -> Tensor:
        return transport_plan(squared_distances(query, centres), self.transport)


def _in_span(x: Tensor) -> Tensor:
    """Coordinates [T, N, at most N] with the inner products of the rows of x [T, N, features]."""
    return torch.linalg.qr(x.mT, mode="r").R.mT if x.shape[1] < x.shape[2] else x


def transport_plan(costs: Tensor, strength: float) -> Tensor:
    """The optimal transport of one unit from each row to the columns, of which each receives the same, by Sinkhorn.

    Args:
        costs: [T, Q, ways], of any finite values.
        strength: lambda, the weight of the costs against the entropy of the plan.

    Returns:
        The plans [T, Q, ways], whose columns sum to Q / ways.
    """
    plan = (-strength * (costs - costs.amin(-1, keepdim=True))).exp()  # a row's factor does not change its result
    share = costs.shape[1] / costs.shape[2]
    before = torch.zeros_like(plan[:, :, :1])
    for _ in range(_ITERATIONS):
        sums = plan.sum(2, keepdim=True)
        active = (sums - before).abs().amax(1, keepdim=True) > _CONVERGED  # [T, 1, 1]
        if not active.any():
            break
        rows = plan / sums
        plan = torch.where(active, rows * (share / rows.sum(1, keepdim=True)), plan)
        before = sums
    return plan
