"""The inner loops of all tasks at once with kernels that take the parameters of several tasks, without torch.func."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from metashot.backbones.normalisation import averaging_layers, recorded_statistics, recording_statistics
from metashot.engines import course
from metashot.engines.calling import Methods
from metashot.engines.inner import Adaptable, InnerLoop, OptimizerState, Parameters
from metashot.episodes import Examples


def suits_kernels(network: Adaptable, x: Tensor) -> bool:
    """Whether kernels compute passes of this network, for inputs such as these."""
    return network.fused and x.device.type == "cpu" and x.dtype is torch.float32


@dataclass(frozen=True)
class FusedTasks:
    """Tasks whose parameters [T, ...] the network takes in one pass, for a network that `suits_kernels`."""

    inner: InnerLoop
    methods: Methods
    otherwise: course.Tasks  # answers queries where kernels cannot: in mixed precision, or if there are none

    def step(self, theta: Parameters, state: OptimizerState, examples: Examples, number: int) -> course.StepResult:
        inner, layers = self.inner, averaging_layers(self.inner.network)
        with_outer_gradient = torch.is_grad_enabled()
        second_order = with_outer_gradient and not inner.first_order
        with torch.enable_grad(), recording_statistics(layers):  # adapting needs gradients in validation and tests too
            theta = {
                # A view of a parameter that was created without gradients says that it requires one, but leads to none.
                name: value if value.requires_grad and with_outer_gradient else value.detach().requires_grad_()
                for name, value in theta.items()
            }
            outputs = self.methods.with_parameters(theta, "forward", number, examples.x)
            losses = vmap(inner.loss)(outputs.unsqueeze(1), examples.y.unsqueeze(1))
            gradients = torch.autograd.grad(losses.sum(), list(theta.values()), create_graph=second_order)
            statistics = recorded_statistics(layers)
        directions = dict(zip(theta, gradients, strict=True))

        def update(
            theta: Parameters, directions: Parameters, state: OptimizerState, loss: Tensor
        ) -> tuple[Parameters, OptimizerState]:
            return inner.update(theta, directions, state, number, loss)

        read = losses if second_order else losses.detach()
        return course.StepResult(*vmap(update)(theta, directions, state, read), losses, statistics)

    def answer(self, theta: Parameters, support_x: Tensor, query_x: Tensor, number: int) -> tuple[Tensor, course.Statistics]:
        if torch.is_autocast_enabled("cpu") or not query_x.numel():
            return self.otherwise.answer(theta, support_x, query_x, number)
        layers = averaging_layers(self.inner.network)
        with recording_statistics(layers):
            answers = self.methods.with_parameters(theta, "answer", number, support_x, query_x)
            return answers, recorded_statistics(layers)
