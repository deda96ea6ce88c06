"""Batch normalisation as part of the few-shot protocol: whose statistics normalise which images.

- `transductive`: the statistics of all images of the task that are passed together; queries can see each other.
- `running`: in training as above, while averages are learned; afterwards the learned averages.
- `support`: every image is normalised by the statistics of the task's support set.
- `support_later`: in training as `transductive`, where more images give steadier statistics; afterwards as `support`.
- `none`: nothing is normalised, and each layer has a bias of its own.

Where a network adapts in steps, weights, biases and averages can be separate ones for each step (`separate_steps`).
Statistics never mix tasks, so that a task's answer depends on neither its batch nor the number of devices.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

Protocol = Literal["transductive", "running", "support", "support_later", "none"]


class Normalisation(nn.Module):
    """Batch normalisation [T * N, channels, ...] of T tasks, each with its first `support` of N images as support set."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, protocol: Protocol, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.protocol = protocol
        self.epsilon = epsilon
        self.momentum = momentum
        if protocol != "none":
            self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        if protocol == "running":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))
        self.step = 0  # which step of adapting a pass belongs to
        self.pending: list[tuple[int, Tensor]] | None = None  # steps and statistics to learn from at the end
        self.recorded: list[Tensor] | None = None  # the statistics of a pass, where the averages learn from them later
        self.in_batches = False  # whether tasks are a dimension that this module does not see

    @property
    def by_support(self) -> bool:
        """Whether the support set's statistics are those of all images, now."""
        return self.protocol == "support" or (self.protocol == "support_later" and not self.training)

    def separate_steps(self, steps: int, averages: bool, affine: bool) -> None:
        """Give each of so many steps of adapting averages, or a weight and a bias, of its own; later ones share the last."""
        if averages:
            self.running_mean, self.running_var = self.running_mean.repeat(steps, 1), self.running_var.repeat(steps, 1)
        if affine:
            self.bias = nn.Parameter(self.bias.detach().repeat(steps, 1))
            if self.protocol != "none":
                self.weight = nn.Parameter(self.weight.detach().repeat(steps, 1))

    def forward(self, x: Tensor, tasks: int, support: int) -> Tensor:
        bias = _of_step(self.bias, self.step)
        if self.protocol == "none":
            return x + bias.view([1, -1] + [1] * (x.dim() - 2))
        weight = _of_step(self.weight, self.step)
        if self.protocol == "running" and not self.training:
            mean, variance = _of_step(self.running_mean, self.step), _of_step(self.running_var, self.step)
            return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, self.epsilon)
        per_task = x.chunk(tasks)  # one call a task is faster than reductions over a [T, N, ...] view (benchmarks/)
        if self.by_support and support < len(per_task[0]):
            normalised = [self._by_support(task, support, weight, bias) for task in per_task]
        elif self.in_batches:
            normalised = [self._by_support(task, len(task), weight, bias) for task in per_task]
            if self.protocol == "running":
                variances, means = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
                self._record(means[None], variances[None])
        else:
            # native_batch_norm is F.batch_norm that also returns the statistics it used.
            calls = [torch.native_batch_norm(t, weight, bias, None, None, True, 0.0, self.epsilon) for t in per_task]
            normalised = [call[0] for call in calls]
            if self.protocol == "running":
                means, inverse_deviations = (torch.stack([call[k] for call in calls]) for k in (1, 2))
                self._record(means, inverse_deviations.pow(-2) - self.epsilon)
        return normalised[0] if tasks == 1 else torch.cat(normalised)

    def _by_support(self, task: Tensor, support: int, weight: Tensor, bias: Tensor) -> Tensor:
        dimensions = [d for d in range(task.dim()) if d != 1]
        variance, mean = torch.var_mean(task[:support], dimensions, correction=0)
        # batch_norm in evaluation mode would do the same, but without a gradient towards the statistics.
        scale = weight * torch.rsqrt(variance + self.epsilon)
        shape = [1, -1] + [1] * (task.dim() - 2)
        return task * scale.view(shape) + (bias - mean * scale).view(shape)

    def _record(self, means: Tensor, variances: Tensor) -> None:
        statistics = torch.stack([means, variances], dim=1).detach()  # [T, 2, channels]
        if self.recorded is None:
            self.update_averages(statistics, self.step)
        else:
            self.recorded.append(statistics)

    def update_averages(self, of_tasks: Tensor, step: int) -> None:
        """Move the averages towards the mean of the tasks' statistics [T, 2, channels], or wait for those of other tasks."""
        if self.pending is None:
            self._update_now(of_tasks, step)
        else:
            self.pending.append((step, of_tasks))

    @torch.no_grad()
    def _update_now(self, of_tasks: Tensor, step: int) -> None:
        statistics = of_tasks.mean(0).to(self.running_mean.dtype)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(statistics)
            statistics /= distributed.get_world_size()
        _of_step(self.running_mean, step).lerp_(statistics[0], self.momentum)
        _of_step(self.running_var, step).lerp_(statistics[1], self.momentum)


def _of_step(values: Tensor, step: int) -> Tensor:
    """Those of a step, of values [channels] for all steps or [steps, channels]."""
    return values if values.dim() == 1 else values[min(step, len(values) - 1)]


def normalisations(network: nn.Module) -> list[Normalisation]:
    return [module for module in network.modules() if isinstance(module, Normalisation)]


def averaging_layers(network: nn.Module) -> list[Normalisation]:
    """The layers whose averages learn from what passes through them."""
    return [layer for layer in normalisations(network) if layer.protocol == "running" and layer.training]


@contextlib.contextmanager
def recording_statistics(layers: list[Normalisation]) -> Iterator[None]:
    """Let layers note the statistics of a pass instead of learning from it."""
    for layer in layers:
        layer.recorded = []
    try:
        yield
    finally:
        for layer in layers:
            layer.recorded = None


def recorded_statistics(layers: list[Normalisation]) -> list[Tensor]:
    """What was noted of one pass: of each layer [T, 2, channels]."""
    taken = []
    for layer in layers:
        assert layer.recorded is not None
        taken.append(layer.recorded.pop())
    return taken


@contextlib.contextmanager
def deferred_average_updates(network: nn.Module) -> Iterator[Callable[[], None]]:
    """Let layers learn from all groups of tasks at once at the end, pass by pass: devices share tasks of different shapes
    unevenly, and all of them have to bring their averages together as often. What is yielded ends a group."""
    layers = averaging_layers(network)
    groups: list[list[list[tuple[int, Tensor]]]] = []  # group by group, layer by layer, pass by pass

    def end_group() -> None:
        groups.append([layer.pending or [] for layer in layers])
        for layer in layers:
            layer.pending = []

    for layer in layers:
        layer.pending = []
    try:
        yield end_group
    finally:
        for layer in layers:
            layer.pending = None
    for layer, *of_groups in zip(layers, *groups, strict=True):
        for same_pass in zip(*of_groups, strict=True):
            layer.update_averages(torch.cat([of_tasks for _, of_tasks in same_pass]), same_pass[0][0])


@contextlib.contextmanager
def in_batches(network: nn.Module) -> Iterator[None]:
    """Let layers use formulas that `torch.func` derives twice: vmap gets the second derivative of batch_norm wrong."""
    layers = normalisations(network)
    for layer in layers:
        layer.in_batches = True
    try:
        yield
    finally:
        for layer in layers:
            layer.in_batches = False
