"""Fine-tuning: Chen et al. 2019, "A closer look at few-shot classification", arXiv:1904.04232.

A network that was trained before, with supervision or by meta-training (`init_from`), is adapted to each task by gradient
steps on its support set: all of it, or its head alone (`adapts`). Nothing is learned from training episodes, so
`trainer.max_steps` is 0. With `head=new` the head starts at zero, which favours no class; `kept` starts from the head of the
checkpoint, which meta-training has optimised as a starting point. The paper trains a new linear layer on a frozen network
for 100 steps, which is `adapts=[head.*]`. The settings are the same for drawings and photographs.
"""

from typing import Any, Literal

from torch import nn

from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.gradient.network import Network
from metashot.engines.inner import Parameters


class Finetune(GradientLearner):
    trains = False
    network: Network

    def __init__(self, head: Literal["new", "kept"], **learner: Any) -> None:
        super().__init__(**learner)
        self.takes_head = self.needs_head = head == "kept"
        nn.init.zeros_(self.network.head.weight)
        nn.init.zeros_(self.network.head.bias)

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha * gradient"""
        return descended(theta, self.alpha, directions)
