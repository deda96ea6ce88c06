"""`engine=auto`: which engine suits the device and the inputs."""

import math

from torch import Tensor

from metashot.engines.batched import Batched
from metashot.engines.inner import Engine, InnerLoop, InnerLoopResult, Parameters, Support
from metashot.engines.learn2learn import Learn2Learn, is_installed

LARGE = 28 * 28  # pixels


class Auto:
    """All tasks at once, because on a GPU and for small inputs starting kernels is what single tasks wait for; one by one
    for larger images on a CPU, where batching turns convolutions into slow grouped ones.

    Measured on two CPU cores with conv4, times of all at once against one by one: 0.7 to 0.9 on images of 28x28, 1.2 to 1.3
    on 32x32, 1.5 on 64x64 (`python -m benchmarks engines-conv4-pool`). Where learn2learn is not installed,
    always all at once.
    """

    def __init__(self) -> None:
        self.batched = Batched(chunk=None, compile=False, cuda_graph=False)
        self.one_by_one = Learn2Learn() if is_installed() else None

    def chosen(self, device_type: str, input_shape: tuple[int, ...]) -> Engine:
        return self.one_by_one if self.one_by_one and _suits_one_by_one(device_type, input_shape) else self.batched

    def description(self, device_type: str, input_shape: tuple[int, ...]) -> str:
        is_missed = self.one_by_one is None and _suits_one_by_one(device_type, input_shape)
        reason = ", since learn2learn is not installed, which is faster here" if is_missed else ""
        return f"{self.chosen(device_type, input_shape).description(device_type, input_shape)} (chosen by auto{reason})"

    def __call__(
        self,
        inner: InnerLoop,
        support: Support,
        query_x: Tensor,
        batches: Tensor | None = None,
        start: Parameters | None = None,
    ) -> InnerLoopResult:
        return self.chosen(query_x.device.type, tuple(query_x.shape[2:]))(inner, support, query_x, batches, start)

    def answer(self, inner: InnerLoop, theta: Parameters, support_x: Tensor, query_x: Tensor) -> Tensor:
        return self.chosen(query_x.device.type, tuple(query_x.shape[2:])).answer(inner, theta, support_x, query_x)


def _suits_one_by_one(device_type: str, input_shape: tuple[int, ...]) -> bool:
    return device_type == "cpu" and len(input_shape) == 3 and math.prod(input_shape[1:]) > LARGE
