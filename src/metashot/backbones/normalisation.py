"""Batch normalisation as part of the few-shot protocol: whose statistics normalise which images.

- `transductive`: the statistics of all images of the task that are passed together; queries can see each other.
- `running`: in training as above, while averages are learned; afterwards the learned averages.
- `support`: every image is normalised by the statistics of the task's support set.
- `none`: nothing is normalised, and each layer has a bias of its own.

Statistics never mix tasks, so that a task's answer depends on neither its batch nor the number of devices.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

Protocol = Literal["transductive", "running", "support", "none"]


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

    def forward(self, x: Tensor, tasks: int, support: int) -> Tensor:
        if self.protocol == "none":
            return x + self.bias.view([1, -1] + [1] * (x.dim() - 2))
        if self.protocol == "running" and not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.epsilon)
        per_task = x.chunk(tasks)  # one call a task is faster than reductions over a [T, N, ...] view (benchmarks/)
        if self.protocol == "support" and support < len(per_task[0]):
            normalised = [self._by_support(task, support) for task in per_task]
        else:
            # native_batch_norm is F.batch_norm that also returns the statistics it used.
            calls = [
                torch.native_batch_norm(t, self.weight, self.bias, None, None, True, 0.0, self.epsilon) for t in per_task
            ]
            normalised = [call[0] for call in calls]
            if self.protocol == "running":
                self._learn_averages(torch.stack([call[1] for call in calls]), torch.stack([call[2] for call in calls]))
        return normalised[0] if tasks == 1 else torch.cat(normalised)

    def _by_support(self, task: Tensor, support: int) -> Tensor:
        dimensions = [d for d in range(task.dim()) if d != 1]
        variance, mean = torch.var_mean(task[:support], dimensions, correction=0)
        # batch_norm in evaluation mode would do the same, but without a gradient towards the statistics.
        scale = self.weight * torch.rsqrt(variance + self.epsilon)
        shape = [1, -1] + [1] * (task.dim() - 2)
        return task * scale.view(shape) + (self.bias - mean * scale).view(shape)

    @torch.no_grad()
    def _learn_averages(self, means: Tensor, inverse_deviations: Tensor) -> None:
        """Move the averages towards the mean of the tasks' statistics [T, channels], over the tasks of all devices."""
        variances = inverse_deviations.pow(-2) - self.epsilon
        statistics = torch.stack([means.mean(0), variances.mean(0)]).to(self.running_mean.dtype)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(statistics)
            statistics /= distributed.get_world_size()
        self.running_mean.lerp_(statistics[0], self.momentum)
        self.running_var.lerp_(statistics[1], self.momentum)
