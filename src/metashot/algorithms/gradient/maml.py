"""MAML: Finn, Abbeel, Levine 2017, "Model-agnostic meta-learning for fast adaptation of deep networks", arXiv:1703.03400.

The network starts every task from the same meta-parameters theta and takes a few gradient steps of size alpha on the
support set. The loss of the adapted parameters theta' on the queries is then differentiated through those steps, back to
theta, which the outer optimiser moves. As in the paper, batch normalisation uses the statistics of the batch at hand, so
its results are transductive unless another protocol is chosen.
"""

import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.algorithms.gradient.classifier import Classifier
from metashot.algorithms.optimization import Optimization
from metashot.arguments import Count, Positive
from metashot.backbones.base import Backbone
from metashot.engines.learn2learn import adapt_and_answer
from metashot.episodes import Examples


class MAML(Algorithm):
    def __init__(
        self,
        name: str,
        backbone: Backbone,
        ways: int,
        inner_lr: Positive,
        inner_steps: Count,
        test_inner_steps: Count,
        first_order: bool,
        optimizer: Optimization,
    ) -> None:
        super().__init__(optimizer, transductive=backbone.transductive)
        self.network = Classifier(backbone, ways)
        self.fixed_ways = ways
        self.alpha = inner_lr
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.first_order = first_order

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        steps = self.inner_steps if self.training else self.test_inner_steps
        return adapt_and_answer(self.network, support, query_x, F.cross_entropy, self.alpha, steps, self.first_order)
