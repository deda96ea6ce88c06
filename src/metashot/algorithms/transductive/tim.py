"""TIM: Boudiaf, Masud, Rony, Dolz, Piantanida, Ben Ayed 2020, "Transductive information maximization for few-shot learning",
arXiv:2008.11297.

The backbone and a linear layer are trained to classify all training classes, on shuffled images. For each task the features
are divided by their lengths, and class weights start at the class means of the support set. Logits are -temperature / 2
times the squared distances of features to weights. Adam minimises the cross-entropy of the support set, plus the conditional
entropy of the queries' classes given their features, minus the entropy of their marginal distribution (TIM-GD).

The loss has each query answered with confidence, and all classes equally often: the fewer queries a class has, or the fewer
there are, the less that is so.

The gradient is written out instead of recorded, and tasks are optimised in parts that fit a processor's cache. The
features are not reduced to their span, since Adam depends on the axes. Where this departs from the authors' code
(mboudiaf/TIM, `src/tim.py`): logarithms of probabilities are computed without the 1e-12 that it adds to them.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.transductive.together import AnswersTogether
from metashot.arguments import Above, AtMost, NotNegative, Positive, Steps
from metashot.backbones.base import Backbone
from metashot.problems import Problem

_DECAY, _SQUARED_DECAY, _EPSILON = 0.9, 0.999, 1e-8  # of Adam


class TIM(AnswersTogether):
    """TIM-GD.

    Args:
        temperature: What distances are multiplied by.
        steps: The number of steps of Adam.
        lr: Its learning rate.
        cross_entropy: The weight of the mean cross-entropy of the support set.
        marginal_entropy: The weight of the entropy of the queries' mean probabilities.
        conditional_entropy: The weight of the mean entropy of each query's probabilities.
    """

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        temperature: Annotated[float, Above(0), AtMost(1e6)],
        steps: Steps,
        lr: Positive,
        cross_entropy: NotNegative,
        marginal_entropy: NotNegative,
        conditional_entropy: NotNegative,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.temperature = temperature
        self.steps = steps
        self.lr = lr
        self.cross_entropy = cross_entropy
        self.marginal_entropy = marginal_entropy
        self.conditional_entropy = conditional_entropy

    @property
    def task_steps(self) -> int:
        return self.steps

    @property
    def worth_alone(self) -> str:
        return "it is about that of the nearest class mean"

    def assign(self, support: Tensor, members: Tensor, query: Tensor) -> Tensor:
        support, query = F.normalize(support, dim=-1), F.normalize(query, dim=-1)
        x, members = torch.cat([support, query], dim=1), members.mT.contiguous()  # [T, S + Q, features], [T, ways, S]
        weights = members @ support / members.sum(2, keepdim=True)  # [T, ways, features]
        mean, square = torch.zeros_like(weights), torch.zeros_like(weights)  # of the gradient
        for step in range(1, self.steps + 1):
            slope = self._slope(self._logits(weights, x), members)  # [T, ways, S + Q]
            gradient = self.temperature * (slope @ x - slope.sum(2, keepdim=True) * weights)
            mean.lerp_(gradient, 1 - _DECAY)
            square.mul_(_SQUARED_DECAY).addcmul_(gradient, gradient, value=1 - _SQUARED_DECAY)
            size = (square.sqrt() / (1 - _SQUARED_DECAY**step) ** 0.5).add_(_EPSILON)
            weights.addcdiv_(mean, size, value=-self.lr / (1 - _DECAY**step))
        return self._logits(weights, query).log_softmax(1).mT

    def _logits(self, weights: Tensor, x: Tensor) -> Tensor:
        """The logits [T, ways, N] without the squared lengths of `x`, which are the same for all classes."""
        # This order of the product is several times faster than the other.
        return self.temperature * (weights @ x.mT - weights.square().sum(-1, keepdim=True) / 2)

    def _slope(self, logits: Tensor, members: Tensor) -> Tensor:
        """The gradient of the loss to the logits of support set and queries: [T, ways, S + Q]."""
        support = members.shape[2]
        logarithms = logits.log_softmax(1)
        p, of_queries = logarithms.exp(), logarithms[:, :, support:]
        queries = of_queries.shape[2]
        marginal = of_queries.logsumexp(2, keepdim=True) - math.log(queries)
        entropies = self.marginal_entropy * marginal - self.conditional_entropy * of_queries  # to probabilities
        asked = p[:, :, support:]
        return torch.cat(
            [
                (p[:, :, :support] - members) * (self.cross_entropy / support),
                asked * (entropies - (asked * entropies).sum(1, keepdim=True)) / queries,
            ],
            dim=2,
        )
