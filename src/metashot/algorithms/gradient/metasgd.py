"""Meta-SGD: Li, Zhou, Chen, Li 2017, "Meta-SGD: learning to learn quickly for few-shot learning", arXiv:1707.09835.

As MAML, but every single parameter has a step size of its own, which the outer optimiser learns together with the
parameter. A step size may become negative, as in the paper, so the direction of a step is learned as well.

In the paper all step sizes begin at random between 0.005 and 0.1 (`inner_lr_until=0.1`), which photographs have here too
(conf/paper/photographs/metasgd.yaml). Where this departs from the paper: on drawings all of them begin at MAML's 0.4.
"""

from typing import Any

import torch
from torch import nn

from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.arguments import Positive
from metashot.bad_input import BadInput
from metashot.engines.inner import Parameters


class MetaSGD(GradientLearner):
    # Checkpoints from before `inner_lr_until` had one step size to begin with.
    def __init__(self, inner_lr_until: Positive | None = None, **learner: Any) -> None:
        if inner_lr_until is not None and inner_lr_until < learner["inner_lr"]:
            raise BadInput(
                f"algo.inner_lr_until={inner_lr_until} is below algo.inner_lr={learner['inner_lr']}: step sizes begin at "
                "random between the two, so give a larger one, or null for the same step size everywhere"
            )
        self.inner_lr_until = inner_lr_until
        super().__init__(**learner)

    def step_sizes(self, inner_lr: float) -> nn.ParameterList:
        parameters = dict(self.network.named_parameters())
        self.positions = {name: position for position, name in enumerate(self.adapted_names)}  # in the list
        sizes = [torch.full_like(parameters[name], inner_lr) for name in self.adapted_names]
        if self.inner_lr_until is not None:
            sizes = [size.uniform_(inner_lr, self.inner_lr_until) for size in sizes]
        return nn.ParameterList(sizes)

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha o gradient, element by element"""
        return descended(theta, {name: self.alpha[self.positions[name]] for name in theta}, directions)
