"""Arrays of numbers that users give, checked and in the shape that a learner needs."""

import math
import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.applied.network import TrainedNetwork
from metashot.bad_input import BadValue, shown


def numbers_of(given: Any, name: str, width: int) -> NDArray[np.float64]:
    """Check that an argument is a finite array [N, width], and return it in 64 bits."""
    if given is None:
        raise BadValue(f"a learner of numbers requires {name} to be passed, but the target {name} is None")
    allowed = f"allowed: an array [N, {width}]"
    if isinstance(given, Tensor):
        given = _array_of(given, name, allowed)
    if hasattr(given, "toarray"):
        raise BadValue(f"{name} is a sparse matrix; {allowed}, as {name}.toarray() is")
    try:
        found = np.asarray(given)
        values = None if found.dtype.kind == "c" else found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise BadValue(f"{name} cannot be read as numbers ({error}); {allowed}") from error
    if values is None:
        raise BadValue(f"{name} has complex numbers (Complex data not supported); {allowed} of real ones")
    if values.ndim == 1 and width == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != width or len(values) == 0:
        raise BadValue(f"{name} has the shape {values.shape}; allowed: [N, {width}]{' or [N]' if width == 1 else ''}")
    if not np.isfinite(values).all():
        raise BadValue(
            f"{name} has non-finite values, NaN or inf (the first in row {int((~np.isfinite(values)).any(1).argmax())})"
        )
    return values


def _array_of(given: Tensor, name: str, allowed: str) -> NDArray[Any]:
    if given.layout is not torch.strided or given.is_meta or given.is_quantized:
        kind = "has no numbers" if given.is_meta else "is quantised" if given.is_quantized else "is a sparse tensor"
        raise BadValue(f"{name} {kind}; {allowed}")
    found = given.detach().cpu()
    array: NDArray[Any] = (found.float() if found.dtype is torch.bfloat16 else found).numpy()
    return array


def features_of(x: Any, network: TrainedNetwork) -> NDArray[np.float32]:
    """Vectors in the form in which a vector learner's examples are saved: [N, *input_shape]."""
    shape = tuple(network.origin["input_shape"])
    rows = numbers_of(x, "x", math.prod(shape))
    with np.errstate(over="ignore"):
        found = rows.astype(np.float32).reshape(-1, *shape)
    if not np.isfinite(found).all():
        raise BadValue("x has values that are too large for 32 bits")
    return found


def inputs_of(x: Any, network: TrainedNetwork) -> NDArray[np.float64]:
    return numbers_of(x, "x", int(network.origin["input_shape"][0]))


def outputs_of(y: Any, network: TrainedNetwork) -> NDArray[np.float64]:
    return numbers_of(y, "y", int(network.origin["outputs"]))


def refuse_other_length(number: int, what: str, other: int, of_what: str) -> None:
    if number != other:
        raise BadValue(f"{number} {what} and {other} {of_what} were given; allowed: as many of one as of the other")


def number_of(n: Any, most: int, what: str = "", argument: str = "n") -> int:
    """A number of examples, which is refused if it is not from 1 to `most`; `what` is what a message calls the latter."""
    try:
        count = 0 if isinstance(n, bool | np.bool_) else operator.index(n)
    except (TypeError, ValueError):
        count = 0
    if not 1 <= count <= most:
        raise BadValue(f"{argument}={shown(n)} cannot be used; allowed: a whole number from 1 to {what}{most:,}")
    return count
