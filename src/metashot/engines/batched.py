"""The inner loop of all tasks at once, with torch.func: one kernel where the reference launches one for each task."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from metashot.arguments import Count
from metashot.backbones.normalisation import (
    in_batches,
    learn_averages,
    learning_layers,
    noting_statistics,
    taken_statistics,
)
from metashot.engines.inner import InnerLoop, Parameters
from metashot.episodes import Examples


class Batched:
    """`engine=batched`; `chunk` tasks at once, all of them where it is null. Fewer take less memory."""

    def __init__(self, chunk: Count | None) -> None:
        self.chunk = chunk

    def __call__(self, inner: InnerLoop, support: Examples, query_x: Tensor) -> Tensor:
        whole = _Methods(inner.network)
        parameters: Parameters = dict(inner.network.named_parameters())
        fixed = {name: value for name, value in parameters.items() if name not in inner.adapting}
        start = {name: parameters[name] for name in inner.adapting}
        first_order = inner.first_order or not torch.is_grad_enabled()

        def call(theta: Parameters, method: str, *x: Tensor) -> Tensor:
            named = {f"network.{name}": value for name, value in (fixed | theta).items()}
            answers: Tensor = functional_call(whole, named, (method, *(values.unsqueeze(0) for values in x)))
            return answers

        def answers_of_one(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> tuple[Tensor, list[Tensor]]:
            def support_loss(theta: Parameters) -> Tensor:
                return inner.loss(call(theta, "forward", support_x), support_y.unsqueeze(0))

            theta = start
            for step in range(inner.steps):
                gradients = grad(support_loss)(theta)
                if first_order:
                    gradients = {name: value.detach() for name, value in gradients.items()}
                theta = inner.update(theta, gradients, step)
            return call(theta, "answer", support_x, query_x)[0], [passes[0] for passes in taken_statistics(layers, 1)]

        layers = learning_layers(inner.network)
        with noting_statistics(layers), in_batches(inner.network):
            answers: Tensor
            answers, statistics = vmap(answers_of_one, chunk_size=self.chunk)(support.x, support.y, query_x)
        learn_averages(layers, statistics)
        return answers


class _Methods(nn.Module):
    """A network whose methods can be named, which `functional_call` needs to reach more than `forward`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, method: str, *x: Tensor) -> Tensor:
        answers: Tensor = getattr(self.network, method)(*x)
        return answers
