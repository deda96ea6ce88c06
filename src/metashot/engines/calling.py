"""Calls of a network's methods with other parameters than its own."""

from torch import Tensor, nn
from torch.func import functional_call

from metashot.engines.inner import Adaptable, Parameters


class Methods(nn.Module):
    """A network whose forward pass calls a method by name, since `functional_call` reaches only `forward`."""

    def __init__(self, network: Adaptable) -> None:
        super().__init__()
        self.network = network

    def forward(self, method: str, number: int, *x: Tensor) -> Tensor:
        outputs: Tensor = getattr(self.network, method)(*x, number)
        return outputs

    def with_parameters(self, theta: Parameters, method: str, number: int, *x: Tensor) -> Tensor:
        """Call a method of the network in inner step `number`, with these parameters in the place of its own."""
        fixed = {name: value for name, value in self.network.named_parameters() if name not in theta}
        parameters = {f"network.{name}": value for name, value in (fixed | theta).items()}
        outputs: Tensor = functional_call(self, parameters, (method, number, *x))
        return outputs
