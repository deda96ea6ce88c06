"""The aggregating meta-learner, a variant of Reptile that serves as a baseline and has no paper of its own.

A copy of the network is trained on every task, each copy's update is normalised to unit length, and the meta-parameters move
along the mean of these directions: phi <- phi + epsilon * mean((phi_task - phi) / |phi_task - phi|). Every task has the same
influence, whereas in Reptile a task on which the copy moves far outweighs the others. The outer optimiser is Adam, and on
drawings the inner loop takes plain gradient steps.
"""

import torch

from metashot.algorithms.gradient.reptile import Reptile
from metashot.engines.inner import Parameters


class Average(Reptile):
    def outer_gradient(self, differences: Parameters) -> Parameters:
        """mean((phi - phi_task) / |phi - phi_task|) over the differences [T, ...] of all tasks"""
        squares = torch.stack([difference.flatten(1).square().sum(1) for difference in differences.values()])
        length = squares.sum(0).sqrt()  # [T]
        moved = length > torch.finfo(length.dtype).tiny ** 0.5  # a shorter update underflows when squared
        pull = torch.where(moved, 1 / length, 0)
        return {
            name: (difference * pull.view(-1, *[1] * (difference.dim() - 1))).mean(0)
            for name, difference in differences.items()
        }
