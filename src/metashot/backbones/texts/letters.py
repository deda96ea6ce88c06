"""Lower-case letters as a table, so that a device can look them up."""

import sys
from functools import cache

import torch
from torch import Tensor


@cache
def lower_case() -> Tensor:
    """The code point of the lower-case letter of each code point; those behind the table are their own.

    Letters whose lower case has more than one character, such as a dotted capital I, stay as they are.
    """
    pairs = [(point, chr(point).lower()) for point in range(sys.maxunicode + 1)]
    changed = [(point, ord(lower)) for point, lower in pairs if len(lower) == 1 and ord(lower) != point]
    points, lowered = zip(*changed, strict=True)
    with torch.device("cpu"):  # it may be asked for first where a network is built without values
        table = torch.arange(changed[-1][0] + 1)
        table[list(points)] = torch.tensor(lowered)
    return table
