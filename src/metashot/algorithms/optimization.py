"""The outer optimiser and its learning-rate schedule."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from metashot.arguments import AtLeast, Below, Count, NotNegative, Positive


class Optimization:
    """The outer optimiser with its learning-rate schedule.

    Args:
        name: The optimiser.
        lr: The initial learning rate.
        momentum: The momentum of SGD, or beta1 of Adam and AdamW.
        weight_decay: The weight decay.
        schedule: `constant` keeps the rate, `cosine` and `linear` decay it to zero at the last step, `step` multiplies it by
            `step_factor` every `step_size` steps.
        step_size: The number of steps between two changes of the rate.
        step_factor: The factor of each change.
    """

    def __init__(
        self,
        name: Literal["adam", "adamw", "sgd"],
        lr: Positive,
        momentum: Annotated[float, AtLeast(0), Below(1)],
        weight_decay: NotNegative,
        schedule: Literal["constant", "cosine", "linear", "step"],
        step_size: Count,
        step_factor: Positive,
    ) -> None:
        self.name = name
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.step_size = step_size
        self.step_factor = step_factor

    def build(self, parameters: Iterable[nn.Parameter], last_step: int) -> dict[str, Any]:
        """The optimiser and schedule in the form that Lightning's `configure_optimizers` returns."""
        optimizer: torch.optim.Optimizer
        if self.name == "sgd":
            optimizer = torch.optim.SGD(parameters, self.lr, self.momentum, weight_decay=self.weight_decay)
        else:
            kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
            optimizer = kind(parameters, self.lr, (float(self.momentum), 0.999), weight_decay=self.weight_decay)
        schedule = LambdaLR(optimizer, lambda step: self.factor(step, last_step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def factor(self, step: int, last_step: int) -> float:
        """The factor on the initial learning rate in this step."""
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(step / last_step, 1)))
        if self.schedule == "linear":
            return 1 - min(step / last_step, 1)
        if self.schedule == "step":
            return float(self.step_factor ** (step // self.step_size))
        return 1.0
