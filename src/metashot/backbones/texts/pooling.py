"""How the features of tokens become those of a text, or of its parts."""

import math
from typing import Annotated

import torch
from torch import Tensor

from metashot.arguments import AtLeast, AtMost
from metashot.bad_input import BadInput

Parts = Annotated[int, AtLeast(1), AtMost(64)]  # of a text


def shape_of_parts(parts: int, channels: int) -> tuple[int, ...]:
    """The shape of the features of a text: [channels], or those of its parts as a square map.

    Args:
        parts: The number of parts.
        channels: The number of features of a part.

    Raises:
        BadInput: The parts make no square.
    """
    side = math.isqrt(parts)
    if side**2 != parts:
        raise BadInput(f"backbone.parts={parts} cannot be used; allowed: a square number, such as 1 or 16")
    return (channels,) if parts == 1 else (channels, side, side)


def means(x: Tensor, mask: Tensor, parts: int) -> Tensor:
    """Means over the tokens of each part of a text; 0 for a part without tokens.

    Args:
        x: The features of tokens [N, L, channels].
        mask: Which of them are tokens [N, L]; the others follow these.
        parts: The parts, of equal length, that a text is divided into.

    Returns:
        [N, parts, channels]
    """
    tokens = mask.sum(1, keepdim=True).clamp(min=1)
    part = torch.arange(mask.shape[1], device=mask.device) * parts // tokens  # [N, L]
    members = (part.unsqueeze(1) == torch.arange(parts, device=mask.device)[:, None]) & mask.unsqueeze(1)
    weights = members.to(x.dtype)  # [N, parts, L]
    return (weights @ x) / weights.sum(2, keepdim=True).clamp(min=1)


def largest(x: Tensor, mask: Tensor) -> Tensor:
    """The largest of each feature over the tokens of a text; 0 for a text without tokens.

    Args:
        x: The features of tokens [N, L, channels].
        mask: Which of them are tokens [N, L].

    Returns:
        [N, 1, channels]
    """
    found = x.masked_fill(~mask.unsqueeze(-1), torch.finfo(x.dtype).min).amax(1, keepdim=True)
    return found * mask.any(1)[:, None, None]
