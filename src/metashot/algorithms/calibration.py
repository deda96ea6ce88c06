"""Temperature scaling: Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks", arXiv:1706.04599.

Logits are divided by a temperature before they become probabilities. The temperature minimises the cross-entropy of the
validation episodes, whose classes were not trained on. It changes no predicted class, no loss and no score.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from metashot.algorithms.optional_state import OptionalState

_HOTTEST = 1e4  # the largest temperature, and the inverse of the smallest
_HALVINGS = 40  # of the interval in which it lies
_DIGITS = 4  # that are kept, so that it does not depend on the order of sums

Answered = tuple[Tensor, Tensor]  # logits [T, Q, ways] with labels [T, Q]


class Calibration(OptionalState):
    """The temperature of an algorithm."""

    NAMES: ClassVar = ("temperature",)

    temperature: Tensor | None

    def forward(self, logits: Tensor) -> Tensor:
        """Logits whose softmax is calibrated."""
        return logits if self.temperature is None else logits / self.temperature.to(logits)

    def choose(self, answered: Sequence[Answered], total: Callable[[Tensor], Tensor]) -> None:
        """Choose the temperature; non-finite logits leave it as it is.

        Args:
            answered: The answers to the validation episodes of this device.
            total: Adds up a tensor over all devices.
        """
        finite = torch.stack([logits.isfinite().all() for logits, _ in answered]).all()
        if float(total((~finite).double())) > 0:
            return
        # The cross-entropy is convex in the inverse of the temperature, so that its slope has one sign change.
        low, high = 1 / _HOTTEST, _HOTTEST
        for _ in range(_HALVINGS):
            middle = (low * high) ** 0.5
            if float(total(_slope(answered, middle))) < 0:
                low = middle
            else:
                high = middle
        logits, _ = answered[0]
        dtype = torch.promote_types(logits.dtype, torch.float32)
        self.temperature = torch.tensor(float(f"{1 / middle:.{_DIGITS - 1}e}"), dtype=dtype, device=logits.device)

    def broken(self, found: Mapping[str, Tensor]) -> str | None:
        value = found.get("temperature")
        if value is None or (not value.dim() and (value.is_meta or 0 < float(value) < float("inf"))):
            return None
        return "temperature is not a positive number"


def _slope(answered: Sequence[Answered], inverse: float) -> Tensor:
    """The derivative of the summed cross-entropy with respect to the inverse of the temperature."""
    found = torch.zeros([], dtype=torch.float64, device=answered[0][0].device)
    for logits, y in answered:
        values = logits.double()
        probable = (values * (inverse * values).softmax(-1)).sum(-1)
        found += (probable - values.gather(-1, y.unsqueeze(-1)).squeeze(-1)).sum()
    return found
