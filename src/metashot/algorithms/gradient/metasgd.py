"""Meta-SGD: Li, Zhou, Chen, Li 2017, "Meta-SGD: learning to learn quickly for few-shot learning", arXiv:1707.09835.

As MAML, but every single parameter has a step size of its own, which the outer optimiser learns together with the
parameter. A step size may become negative, as in the paper, so the direction of a step is learned as well.
"""

import torch
from torch import nn

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.engines.inner import Parameters


class MetaSGD(GradientLearner):
    def step_sizes(self, inner_lr: float) -> nn.ParameterList:
        parameters = dict(self.network.named_parameters())
        self.positions = {name: position for position, name in enumerate(self.adapting)}  # in the list
        return nn.ParameterList(torch.full_like(parameters[name], inner_lr) for name in self.adapting)

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha o gradient, element by element"""
        return {name: theta[name] - self.alpha[self.positions[name]] * directions[name] for name in theta}
