"""Policies: networks from observations to the outputs that actions are drawn from."""

import math

import torch
from torch import Tensor, nn
from torch.func import vmap

from metashot.backbones.base import Backbone
from metashot.backbones.layers import Linear
from metashot.engines.calling import Methods
from metashot.engines.inner import Adaptable, Parameters
from metashot.problems import Returns


class PolicyNetwork(Adaptable):
    """A backbone with a linear head, and for actions that are numbers the logarithms of their standard deviations.

    Args:
        backbone: The network from observations to features.
        problem: The problem, which knows the outputs of a policy.
        deviation: The initial standard deviation of actions, of which -1 and 1 are the bounds.
    """

    def __init__(self, backbone: Backbone, problem: Returns, deviation: float) -> None:
        super().__init__()
        continuous = problem.actions == "continuous"
        self.backbone = backbone
        self.head = Linear(backbone.features, problem.outputs // 2 if continuous else problem.outputs)
        self.log_deviation: nn.Parameter | None = None
        if continuous:
            self.log_deviation = nn.Parameter(torch.full((problem.outputs // 2,), math.log(deviation)))

    def forward(self, x: Tensor, step: int = 0) -> Tensor:
        """Outputs [T, N, outputs] for observations [T, N, inputs]."""
        outputs: Tensor = self.head(self.backbone(x, support=x.shape[1]))
        if self.log_deviation is None:
            return outputs
        return torch.cat([outputs, self.log_deviation.expand_as(outputs)], dim=-1)

    def answer(self, support_x: Tensor, query_x: Tensor, step: int = 0) -> Tensor:
        return self.forward(query_x, step)


class PolicyActor:
    """Acts by a policy network.

    Args:
        network: The network.
        problem: How actions are drawn.
        theta: The parameters of each of T worlds [T, ...]; None for the network's own in all of them.
    """

    def __init__(self, network: PolicyNetwork, problem: Returns, theta: Parameters | None) -> None:
        self.network = network
        self.methods = Methods(network)
        self.problem = problem
        self.theta = theta

    def outputs(self, observations: Tensor) -> Tensor:
        """[T, N, outputs] for observations [T, N, inputs]."""
        if self.theta is None:
            outputs: Tensor = self.network(observations)
            return outputs

        def of_world(theta: Parameters, x: Tensor) -> Tensor:
            return self.methods.with_parameters(theta, "forward", 0, x[None])[0]

        answered: Tensor = vmap(of_world)(self.theta, observations)
        return answered

    def act(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        return self.problem.sample(self.outputs(observations), noise)

    def begin(self) -> None:
        """It has no memory."""

    def saw(self, actions: Tensor, rewards: Tensor, ended: Tensor) -> None:
        """It has no memory."""
