"""MAML: Finn, Abbeel, Levine 2017, "Model-agnostic meta-learning for fast adaptation of deep networks", arXiv:1703.03400.

The network starts every task from the same meta-parameters theta and takes a few gradient steps of size alpha on the
support set. The loss of the adapted parameters theta' on the queries is then differentiated through those steps, back to
theta, which the outer optimiser moves. As in the paper, batch normalisation uses the statistics of the batch at hand, so
its results are transductive unless another protocol is chosen.
"""

from typing import Annotated

from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.algorithms.gradient.network import Network
from metashot.algorithms.optimization import Optimization
from metashot.arguments import AtLeast, Count, Positive
from metashot.backbones.base import Backbone
from metashot.engines.learn2learn import adapt_and_answer
from metashot.episodes import Examples
from metashot.problems import Classification, Problem, Regression


class MAML(Algorithm):
    solves = (Classification, Regression)

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        problem: Problem,
        inner_lr: Positive,
        inner_steps: Count,
        test_inner_steps: Annotated[int, AtLeast(0)],
        first_order: bool,
        optimizer: Optimization,
    ) -> None:
        super().__init__(optimizer, backbone.transductive, problem)
        self.network = Network(backbone, problem.outputs)
        self.fixed_ways = problem.outputs if isinstance(problem, Classification) else None
        self.alpha = inner_lr
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.first_order = first_order

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        steps = self.inner_steps if self.training else self.test_inner_steps
        return adapt_and_answer(self.network, support, query_x, self.problem.loss, self.alpha, steps, self.first_order)
