"""A hypernetwork, as small as one can be: an algorithm from outside whose tasks begin with parameters of their own.

It sums up a support set by the mean product of each example's features with its target, and a linear layer turns that
into what each task adds to the network's own parameters before its first step. MAML's steps follow.
"""

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.engines.inner import Parameters
from metashot.episodes import Examples


class Hypernetwork(GradientLearner):
    def __init__(self, **learner: Any) -> None:
        super().__init__(**learner)
        self.shapes = {name: value.shape for name, value in self.network.named_parameters() if name in self.adapted_names}
        summary = self.network.backbone.features * self.problem.outputs
        self.maker = nn.Linear(summary, sum(map(prod, self.shapes.values())))

    def initial_parameters(self, support: Examples) -> Parameters:
        """theta_task = theta + h(support set)"""
        features = self.network.backbone(support.x, support=support.x.shape[1])  # [T, S, features]
        targets = F.one_hot(support.y, self.problem.outputs) if self.problem.has_classes else support.y
        summary = torch.einsum("tsf,tso->tfo", features, targets.to(features.dtype)) / support.x.shape[1]
        parts = self.maker(summary.flatten(1)).split([prod(shape) for shape in self.shapes.values()], dim=1)
        added = dict(zip(self.shapes, parts, strict=True))  # [T, elements]
        theta = dict(self.network.named_parameters())
        return {name: theta[name] + added[name].view(-1, *shape) for name, shape in self.shapes.items()}

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        return descended(theta, self.alpha, directions)
