"""Meta-SGD: Li, Zhou, Chen, Li 2017, "Meta-SGD: learning to learn quickly for few-shot learning", arXiv:1707.09835.

As MAML, but every single parameter has a step size of its own, which the outer optimiser learns together with the
parameter. A step size may become negative, as in the paper, so the direction of a step is learned as well.
"""

import torch
from torch import nn

from metashot.algorithms.gradient.learner import GradientLearner, Steps
from metashot.algorithms.optimization import Optimization
from metashot.arguments import Count, Positive
from metashot.backbones.base import Backbone
from metashot.engines.inner import Engine, Parameters
from metashot.problems import Problem


class MetaSGD(GradientLearner):
    def __init__(
        self,
        name: str,
        backbone: Backbone,
        problem: Problem,
        engine: Engine,
        adapts: list[str],
        inner_lr: Positive,
        inner_steps: Count,
        test_inner_steps: Steps,
        first_order: bool,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, engine, adapts, inner_steps, test_inner_steps, first_order, optimizer)
        adapting = {name: value for name, value in self.network.named_parameters() if name in self.adapting}
        self.positions = {name: position for position, name in enumerate(adapting)}
        self.alpha = nn.ParameterList(torch.full_like(value, inner_lr) for value in adapting.values())

    def update(self, theta: Parameters, gradients: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha o gradient, element by element"""
        return {name: theta[name] - self.alpha[self.positions[name]] * gradients[name] for name in theta}
