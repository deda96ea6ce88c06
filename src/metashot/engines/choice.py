"""`engine=auto`: which engine suits the device and the network."""

from torch import Tensor, nn

from metashot.engines.batched import Batched
from metashot.engines.inner import Adapted, Engine, InnerLoop
from metashot.engines.learn2learn import Learn2Learn
from metashot.episodes import Examples


class Auto:
    """All tasks at once on a GPU, where starting kernels is what single tasks wait for, and for networks without
    convolutions; one by one on a CPU otherwise, where batching turns convolutions into grouped ones. Those are slow on large
    images: with one thread, conv4 took 0.7 to 1.0 of the time of one by one on 28x28, and 1.2 on 84x84 (benchmarks/)."""

    def __init__(self) -> None:
        self.batched = Batched(chunk=None, compile=False, cuda_graph=False)
        self.one_by_one = Learn2Learn()

    def chosen(self, device_type: str, network: nn.Module) -> Engine:
        convolves = any(isinstance(module, nn.Conv2d) for module in network.modules())
        return self.one_by_one if device_type == "cpu" and convolves else self.batched

    def described(self, device_type: str, network: nn.Module) -> str:
        return f"{self.chosen(device_type, network).described(device_type, network)} (chosen by auto)"

    def __call__(self, inner: InnerLoop, support: Examples, query_x: Tensor, batches: Tensor | None = None) -> Adapted:
        return self.chosen(query_x.device.type, inner.network)(inner, support, query_x, batches)
