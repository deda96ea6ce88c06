"""`engine=auto`: which engine suits the device."""

from torch import Tensor

from metashot.engines.batched import Batched
from metashot.engines.inner import Engine, InnerLoop
from metashot.engines.learn2learn import Learn2Learn
from metashot.episodes import Examples


class Auto:
    """All tasks at once on a GPU, where starting kernels is what single tasks wait for; one by one on a CPU, where batching
    turns convolutions into slow grouped ones."""

    def __init__(self) -> None:
        self.batched = Batched(chunk=None)
        self.one_by_one = Learn2Learn()

    def chosen(self, device_type: str) -> Engine:
        return self.one_by_one if device_type == "cpu" else self.batched

    def __call__(self, inner: InnerLoop, support: Examples, query_x: Tensor) -> Tensor:
        return self.chosen(query_x.device.type)(inner, support, query_x)
