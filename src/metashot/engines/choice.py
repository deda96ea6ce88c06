"""`engine=auto`: choose the engine by the device, the inputs and the network."""

import math

from torch import Tensor

from metashot.engines.batched import Batched
from metashot.engines.inner import Adaptable, Engine, InnerLoop, InnerLoopResult, Parameters, Support
from metashot.engines.learn2learn import Learn2Learn, is_installed

LARGE = 28 * 28  # pixels
AT_ONCE = 4  # tasks of such images that kernels compute together: more need more memory and are hardly faster


class Auto:
    """All tasks at once on a GPU and for small inputs, where kernel launches dominate; task by task for larger images on a
    CPU, where batching turns convolutions into slow grouped ones. With fused blocks, a few tasks at once for any size.

    Time of all tasks at once relative to task by task, measured on two CPU cores with conv4: 0.7 to 0.9 for images of 28x28,
    1.2 to 1.3 for 32x32, 1.5 for 64x64 (`python -m benchmarks engines-conv4-pool`). Without learn2learn, always all at once.
    """

    def __init__(self) -> None:
        self.batched = Batched(chunk=None, compile=False, cuda_graph=False)
        self.one_by_one = Learn2Learn() if is_installed() else None

    def chosen(self, device_type: str, input_shape: tuple[int, ...], fused: bool = False) -> Engine:
        if fused and device_type == "cpu":
            small = LARGE // math.prod(input_shape[1:])  # smaller images fill less memory, and more of them the processor
            return Batched(chunk=AT_ONCE * max(1, small), compile=False, cuda_graph=False)
        return self.one_by_one if self.one_by_one and _suits_one_by_one(device_type, input_shape) else self.batched

    def description(self, device_type: str, input_shape: tuple[int, ...], fused: bool = False) -> str:
        chosen = self.chosen(device_type, input_shape, fused)
        is_missing = chosen is self.batched and _suits_one_by_one(device_type, input_shape)
        reason = ", since learn2learn is not installed, which would be faster here" if is_missing else ""
        return f"{chosen.description(device_type, input_shape, fused)} (chosen by auto{reason})"

    def __call__(
        self,
        inner: InnerLoop,
        support: Support,
        query_x: Tensor,
        batches: Tensor | None = None,
        start: Parameters | None = None,
    ) -> InnerLoopResult:
        return self._for(inner.network, query_x)(inner, support, query_x, batches, start)

    def tasks_at_once(self, network: Adaptable, query_x: Tensor) -> int:
        return self._for(network, query_x).tasks_at_once(network, query_x)

    def answer(self, inner: InnerLoop, theta: Parameters, support_x: Tensor, query_x: Tensor) -> Tensor:
        return self._for(inner.network, query_x).answer(inner, theta, support_x, query_x)

    def _for(self, network: Adaptable, query_x: Tensor) -> Engine:
        return self.chosen(query_x.device.type, tuple(query_x.shape[2:]), network.fused)


def _suits_one_by_one(device_type: str, input_shape: tuple[int, ...]) -> bool:
    return device_type == "cpu" and len(input_shape) == 3 and math.prod(input_shape[1:]) > LARGE
