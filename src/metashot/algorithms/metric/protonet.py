"""Prototypical networks: Snell, Swersky, Zemel 2017, "Prototypical networks for few-shot learning", arXiv:1703.05175.

Each class is represented by its prototype, the mean of its support features. A query is assigned to the class of the nearest
prototype: its logits are the negative squared distances, and training minimises their cross-entropy. The paper's batch
normalisation accumulates running averages over whole episodes and uses them at test time, which is `normalisation: running`.

The paper compares the squared Euclidean distance with the cosine distance. Logits are divided by a temperature, which can be
learned and which the paper does not have (it is 1): cosines, which lie between -1 and 1, need one well below 1.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import class_means, cosines, squared_distances
from metashot.arguments import Positive
from metashot.backbones.base import Backbone
from metashot.episodes import Examples
from metashot.problems import Problem


class ProtoNet(FeatureLearner):
    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        distance: Literal["euclidean", "cosine"],
        temperature: Positive,
        learned_temperature: bool,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.distance = distance
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learned_temperature)

    def summary(self, support: Examples) -> Tensor:
        return class_means(support.x, support.y)  # prototypes [T, ways, features]

    def answer(self, prototypes: Tensor, query: Tensor) -> Tensor:
        similarities = cosines(query, prototypes) if self.distance == "cosine" else -squared_distances(query, prototypes)
        return similarities / self.log_temperature.exp()
