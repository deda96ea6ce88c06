"""Prototypical networks: Snell, Swersky, Zemel 2017, "Prototypical networks for few-shot learning", arXiv:1703.05175.

Each class is represented by its prototype, the mean of its support features. A query belongs to the class of the nearest
prototype: its scores are the negative squared distances, and training minimises their cross-entropy. The paper's batch
normalisation learns averages over whole episodes and uses them at test time, which is `normalisation: running`.
"""

import torch
from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.episodes import Examples
from metashot.problems import Problem


class ProtoNet(Algorithm):
    def __init__(self, name: str, backbone: Backbone, problem: Problem, optimizer: Optimization) -> None:
        super().__init__(optimizer, backbone.transductive, problem)
        self.backbone = backbone

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        count = support.x.shape[1]
        features = self.backbone(torch.cat([support.x, query_x], dim=1), support=count)  # [T, S + Q, features]
        prototypes = class_means(features[:, :count], support.y)  # [T, ways, features]
        return -squared_distances(features[:, count:], prototypes)


def class_means(features: Tensor, y: Tensor) -> Tensor:
    """The mean feature of each class: [T, ways, features]."""
    members = torch.nn.functional.one_hot(y).to(features.dtype)  # [T, S, ways]
    return members.transpose(1, 2) @ features / members.sum(1).unsqueeze(-1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Between each row of `a` [T, N, features] and of `b` [T, M, features]: [T, N, M]."""
    return a.square().sum(-1, keepdim=True) - 2 * a @ b.transpose(1, 2) + b.square().sum(-1).unsqueeze(1)
