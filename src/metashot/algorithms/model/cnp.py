"""CNP: Garnelo, Rosenbaum, Maddison, Ramalho, Saxton, Shanahan, Teh, Rezende, Eslami 2018, "Conditional neural processes",
arXiv:1807.01613.

A network h encodes each support point (x_i, y_i) as r_i, and their mean r represents the support set. A network g maps a
query x and r to the mean and the standard deviation of a normal distribution. Both are trained on the log-likelihood of the
queries. Nothing else adapts to a task, so that adapting costs one forward pass.

Where this departs from the paper: training minimises the loss of the queries of an episode, where the paper's targets
include the support points; episodes have the number of support points that the data are configured to have, where the paper
draws it anew in each step. As in the authors' code (google-deepmind/neural-processes), sigma is bounded from below, there by
0.1 and here by `least_deviation`, since 0.1 is far more than the error on curves without noise.
"""

from typing import Annotated

import torch
from torch import Tensor

from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.model.networks import normal_answers, perceptron
from metashot.algorithms.optimization import Optimization
from metashot.arguments import Above, Below, Units
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.problems import Problem, Regression


class CNP(FeatureLearner):
    """A conditional neural process.

    Args:
        backbone: Embeds the inputs x; with `backbone=identity`, as in the paper, h and g read x itself.
        problem: The regression problem.
        encoder: The units of each layer of h, the last of which is the size of r.
        decoder: The units of each hidden layer of g.
        least_deviation: The lower limit of sigma.
        optimizer: The outer optimiser and its schedule.

    Raises:
        BadInput: The encoder has no layers.
    """

    solves = (Regression,)
    gives_deviations = True

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        encoder: list[Units],
        decoder: list[Units],
        least_deviation: Annotated[float, Above(0), Below(1)],
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        if not encoder:
            raise BadInput("algo.encoder=[] cannot be used; allowed: the units of at least one layer, as in [128,128]")
        self.h = perceptron(backbone.features + problem.outputs, *encoder)
        self.g = perceptron(backbone.features + encoder[-1], *decoder, 2 * problem.outputs)
        self.least_deviation = least_deviation

    def summary(self, support: Examples) -> Tensor:
        r_i = self.h(torch.cat([support.x, support.y.to(support.x.dtype)], dim=-1))  # [T, S, size of r]
        r: Tensor = r_i.to(self.dtype).mean(1, keepdim=True)  # [T, 1, size of r]
        return r

    def answer(self, r: Tensor, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):  # lower precision would round the means
            raw = self.g(torch.cat([query, r.expand(-1, query.shape[1], -1)], dim=-1))  # [T, Q, 2 * outputs]
            return normal_answers(raw, self.least_deviation)
