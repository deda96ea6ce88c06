"""The aggregating meta-learner, a baseline beside Reptile and a relative of it without a paper of its own.

A copy of the network is trained on every task, the update that each copy made is divided by its length, and the copies are
averaged into the meta-parameters: phi <- phi + epsilon * mean((phi_task - phi) / |phi_task - phi|). So every task pulls with
the same force, whereas in Reptile one on which the copy moved far outweighs the others. The outer step is Adam's, and on
drawings the inner loop takes plain gradient steps.
"""

import torch

from metashot.algorithms.gradient.reptile import Reptile
from metashot.engines.inner import Parameters


class Average(Reptile):
    def outer_gradient(self, differences: Parameters) -> Parameters:
        """mean((phi - phi_task) / |phi - phi_task|), of the differences [T, ...] of all tasks"""
        squares = torch.stack([difference.flatten(1).square().sum(1) for difference in differences.values()])
        length = squares.sum(0).sqrt()  # [T]
        moved = length > torch.finfo(length.dtype).tiny ** 0.5  # less cannot be squared, and has no direction worth a step
        pull = torch.where(moved, 1 / length, 0)
        return {
            name: (difference * pull.view(-1, *[1] * (difference.dim() - 1))).mean(0)
            for name, difference in differences.items()
        }
