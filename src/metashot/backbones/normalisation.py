"""Batch normalisation as part of the few-shot protocol: the statistics that normalise the images of a task.

- `transductive`: statistics of all images of the task in the forward pass; queries affect each other.
- `running`: in training as `transductive`, while running averages are accumulated; afterwards the running averages.
- `support`: statistics of the task's support set for all images.
- `support_later`: in training as `transductive`, where more images give more stable statistics; afterwards as `support`.
- `none`: no normalisation; each layer has a bias instead.

If a network adapts in steps, weights, biases and running averages can be separate for each step (`separate_steps`).
Statistics never mix tasks, so the answers to a task depend neither on its batch nor on the number of devices.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from metashot.kernels.normalised_pool import normalised_pool

Protocol = Literal["transductive", "running", "support", "support_later", "none"]


class Normalisation(nn.Module):
    """Batch normalisation of [T * N, channels, ...]: T tasks of N images, of which the first `support` are the support set.

    Args:
        channels: The number of channels.
        protocol: The statistics that normalise images.
        epsilon: Added to variances.
        momentum: The weight of new statistics in the running averages.
    """

    takes_tasks = True  # weights and biases may have a leading task dimension
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
        self.separate_affine = False  # whether weights and biases are separate for each inner step
        self.step = 0  # the number of the inner step that a forward pass belongs to
        self.pending: list[tuple[int, Tensor]] | None = None  # steps and statistics of deferred updates of the averages
        self.recorded: list[Tensor] | None = None  # statistics that are recorded instead of updating the averages
        self.in_batches = False  # whether vmap hides a batch dimension from this module

    @property
    def by_support(self) -> bool:
        """Whether the statistics of the support set normalise all images in the current mode."""
        return self.protocol == "support" or (self.protocol == "support_later" and not self.training)

    def separate_steps(self, steps: int, averages: bool, affine: bool) -> None:
        """Use separate values for each inner step; steps beyond the last one share its values.

        Args:
            steps: The number of inner steps.
            averages: Whether running averages are separate.
            affine: Whether weights and biases are separate.
        """
        if averages:
            self.running_mean, self.running_var = self.running_mean.repeat(steps, 1), self.running_var.repeat(steps, 1)
        if affine:
            self.separate_affine = True
            self.bias = nn.Parameter(self.bias.detach().repeat(steps, 1))
            if self.protocol != "none":
                self.weight = nn.Parameter(self.weight.detach().repeat(steps, 1))

    def forward(self, x: Tensor, tasks: int, support: int) -> Tensor:
        bias = self._of_own_step(self.bias)
        if self.protocol == "none":
            return x + bias.view([1, -1] + [1] * (x.dim() - 2))
        weight = self._of_own_step(self.weight)
        if self.is_known:
            mean, variance = _of_step(self.running_mean, self.step), _of_step(self.running_var, self.step)
            return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, self.epsilon)
        per_task = x.chunk(tasks)  # one call per task is faster than reductions over a [T, N, ...] view (benchmarks/)
        if self.by_support and support < len(per_task[0]):
            normalised = [self._by_support(task, support, weight, bias) for task in per_task]
        elif self.in_batches:
            normalised = [self._by_support(task, len(task), weight, bias) for task in per_task]
            if self.protocol == "running":
                variances, means = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
                self._record(means[None], variances[None])
        else:
            # native_batch_norm is F.batch_norm, but also returns the statistics.
            calls = [torch.native_batch_norm(t, weight, bias, None, None, True, 0.0, self.epsilon) for t in per_task]
            normalised = [call[0] for call in calls]
            if self.protocol == "running":
                means, inverse_deviations = (torch.stack([call[k] for call in calls]) for k in (1, 2))
                self._record(means, inverse_deviations.pow(-2) - self.epsilon)
        return normalised[0] if tasks == 1 else torch.cat(normalised)

    @property
    def is_known(self) -> bool:
        """Whether the statistics are the running averages, whatever the images are."""
        return self.protocol == "running" and not self.training

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What a normalisation that `is_known` multiplies channels by and adds to them: [channels], or [T, channels]."""
        scale = self._of_own_step(self.weight) * torch.rsqrt(_of_step(self.running_var, self.step) + self.epsilon)
        return scale, self._of_own_step(self.bias) - _of_step(self.running_mean, self.step) * scale

    def activate(self, x: Tensor, tasks: int, support: int, pool: int, fused: bool) -> Tensor:
        """Batch normalisation, ReLU and max pooling.

        Args:
            x: Activations [T * N, channels, height, width].
            tasks: The number T of tasks.
            support: The size of a support set.
            pool: 2 for max pooling of 2x2 values, 1 for none.
            fused: Whether to use the fused kernel, for which `x` has to be usable; weights and biases may be those of each
                task.
        """
        if not fused:
            return _pooled(self(x, tasks, support), pool)
        bias = self._of_own_step(self.bias)
        if self.protocol == "none":
            return _pooled(x + _for_images(bias, x), pool)
        weight = self._of_own_step(self.weight)
        if self.is_known:
            scale, shift = self.scale_and_shift()
            return _pooled(x * _for_images(scale, x) + _for_images(shift, x), pool)
        counted = support if self.by_support else len(x)
        normalised = normalised_pool(x, weight, bias, self.epsilon, tasks, counted, pool)
        if self.protocol == "running":
            self._record(normalised.means, normalised.variances)
        return normalised.values

    def _of_own_step(self, values: Tensor) -> Tensor:
        """The weights or biases [channels], or [T, channels], of the step."""
        return values[..., min(self.step, values.shape[-2] - 1), :] if self.separate_affine else values

    def _by_support(self, task: Tensor, support: int, weight: Tensor, bias: Tensor) -> Tensor:
        dimensions = [d for d in range(task.dim()) if d != 1]
        variance, mean = torch.var_mean(task[:support], dimensions, correction=0)
        # batch_norm in evaluation mode would compute the same, but without gradients through the statistics.
        scale = weight * torch.rsqrt(variance + self.epsilon)
        shape = [1, -1] + [1] * (task.dim() - 2)
        return task * scale.view(shape) + (bias - mean * scale).view(shape)

    def _record(self, means: Tensor, variances: Tensor) -> None:
        statistics = torch.stack([means, variances], dim=1).detach()  # [T, 2, channels]
        if self.recorded is None:
            self.update_averages(statistics, self.step)
        else:
            self.recorded.append(statistics)

    def update_averages(self, statistics: Tensor, step: int) -> None:
        """Update the running averages with the mean statistics of the tasks, or defer it (`deferred_average_updates`).

        Args:
            statistics: Means and variances [T, 2, channels] of T tasks.
            step: The number of the inner step.
        """
        if self.pending is None:
            self._update_now(statistics, step)
        else:
            self.pending.append((step, statistics))

    @torch.no_grad()
    def _update_now(self, statistics: Tensor, step: int) -> None:
        mean = statistics.mean(0).to(self.running_mean.dtype)  # [2, channels]
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(mean)
            mean /= distributed.get_world_size()
        _of_step(self.running_mean, step).lerp_(mean[0], self.momentum)
        _of_step(self.running_var, step).lerp_(mean[1], self.momentum)


def _pooled(x: Tensor, pool: int) -> Tensor:
    x = F.relu(x)
    return F.max_pool2d(x, pool) if pool > 1 else x


def _for_images(values: Tensor, x: Tensor) -> Tensor:
    """Values [channels], or of each task [T, channels], for images [T * N, channels, height, width]."""
    if values.dim() == 2:
        values = values.repeat_interleave(len(x) // len(values), 0)
    return values.view(-1, x.shape[1], 1, 1)


def _of_step(values: Tensor, step: int) -> Tensor:
    """The statistics [channels] of a step, from [channels] shared by all steps or [steps, channels]."""
    return values if values.dim() == 1 else values[min(step, len(values) - 1)]


def normalisations(network: nn.Module) -> list[Normalisation]:
    """All normalisation layers of a network, in the order of its modules."""
    return [module for module in network.modules() if isinstance(module, Normalisation)]


def averaging_layers(network: nn.Module) -> list[Normalisation]:
    """The layers whose running averages are updated by a forward pass."""
    return [layer for layer in normalisations(network) if layer.protocol == "running" and layer.training]


@contextlib.contextmanager
def recording_statistics(layers: list[Normalisation]) -> Iterator[None]:
    """Record the statistics of forward passes instead of updating the running averages with them."""
    for layer in layers:
        layer.recorded = []
    try:
        yield
    finally:
        for layer in layers:
            layer.recorded = None


def recorded_statistics(layers: list[Normalisation]) -> list[Tensor]:
    """Take the recorded statistics of one forward pass: [T, 2, channels] for each layer."""
    statistics = []
    for layer in layers:
        assert layer.recorded is not None
        statistics.append(layer.recorded.pop())
    return statistics


@contextlib.contextmanager
def deferred_average_updates(network: nn.Module) -> Iterator[Callable[[], None]]:
    """Defer updates of running averages, and apply one for each forward pass with the statistics of all groups of tasks.

    Groups are tasks of the same shape. Devices may have different numbers of groups, but must take part in the same number
    of reductions.

    Yields:
        A function to call at the end of each group.
    """
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
    for layer, *by_group in zip(layers, *groups, strict=True):
        for same_pass in zip(*by_group, strict=True):
            layer.update_averages(torch.cat([statistics for _, statistics in same_pass]), same_pass[0][0])


@contextlib.contextmanager
def in_batches(network: nn.Module) -> Iterator[None]:
    """Use formulas that `torch.func` differentiates twice: with vmap the second derivative of batch_norm is wrong."""
    layers = normalisations(network)
    for layer in layers:
        layer.in_batches = True
    try:
        yield
    finally:
        for layer in layers:
            layer.in_batches = False
