"""Settings of proximal policy optimisation: Schulman, Wolski, Dhariwal, Radford, Klimov 2017, arXiv:1707.06347."""

from typing import Annotated

import torch
from torch import Tensor

from metashot.arguments import Above, AtLeast, AtMost, Below, NotNegative


class ProximalPolicy:
    """How clipped steps are taken.

    Args:
        epochs: How many steps are taken on the same trajectories.
        clip: How far the ratio of probabilities may be from 1 before its gradient ends.
        penalty: The weight of the divergence of each policy before an update from the one that played.
    """

    def __init__(
        self,
        epochs: Annotated[int, AtLeast(1), AtMost(1000)],
        clip: Annotated[float, Above(0), Below(1)],
        penalty: NotNegative,
    ) -> None:
        self.epochs = epochs
        self.clip = clip
        self.penalty = penalty

    def clipped(self, ratios: Tensor, advantages: Tensor) -> Tensor:
        """The pessimistic one of two gains: with the ratios of probabilities, and with these clipped."""
        return torch.minimum(ratios * advantages, ratios.clamp(1 - self.clip, 1 + self.clip) * advantages)
