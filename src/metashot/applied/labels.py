"""Conversion of a user's labels to plain Python values, their order, and the way back to what the user gave."""

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metashot.bad_input import BadValue

Labels = NDArray[Any]
UNKNOWN = "unknown"  # the answer to a query that belongs to none of the classes

_PLAIN = (str, int, float, bool, type(None))  # types of labels that can be saved, also in tuples


def labels_of(labels: Any, noun: str = "image") -> list[Hashable]:
    """Convert labels, one per image or what else messages call it, to plain Python values where they are numpy's or torch's.

    Raises:
        BadValue: The labels are not a sequence of hashable values, or one of them is NaN or NaT.
    """
    if isinstance(labels, str | bytes | Mapping | Set) or not isinstance(labels, Iterable):
        raise BadValue(f"labels={labels!r} cannot be used; allowed: a list with one label for each {noun}")
    if isinstance(labels, np.ndarray | Tensor):
        if labels.ndim != 1:
            raise BadValue(
                f"labels of shape {tuple(labels.shape)} cannot be used; allowed: one label for each {noun}, [{noun}s]"
            )
        labels = list(labels) if str(labels.dtype).startswith(("datetime64", "timedelta64")) else labels.tolist()
    plain = [_as_plain(label) for label in labels]
    for place, label in enumerate(plain):
        try:
            hash(label)
        except TypeError as error:
            raise BadValue(
                f"label {place} is {type(label).__name__}, which is not hashable; allowed: text, numbers, tuples"
            ) from error
        if label != label:
            what = "a time (NaT)" if isinstance(label, np.datetime64 | np.timedelta64) else "a number (NaN)"
            raise BadValue(f"label {place} is not {what}: leave such {noun}s out or give them a label")
    return plain


def distinct(labels: Iterable[Hashable]) -> list[Hashable]:
    """Each label once: sorted where labels can be compared, else in the order of their first occurrence."""
    found = list(dict.fromkeys(labels))
    if any(isinstance(label, Set) for label in found):  # "<" on sets means "is a subset of", which is no order to sort by
        return found
    try:
        return sorted(found)  # type: ignore[type-var]
    except TypeError:
        return found


def as_array(labels: Sequence[Hashable]) -> Labels:
    """An array of numbers or strings where all labels are of one such type, else an array of objects."""
    kinds = {type(label) for label in labels}
    # NumPy's strings lose NUL characters at their end.
    if len(kinds) == 1 and kinds <= {str, float, bool} and not any(str(label).endswith("\0") for label in labels):
        return np.array(labels)
    if kinds == {int} and all(-(2**63) <= label < 2**63 for label in labels):  # type: ignore[operator]
        return np.array(labels, dtype=np.int64)
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


def is_plain(label: Any) -> bool:
    return all(map(is_plain, label)) if type(label) is tuple else type(label) in _PLAIN


def _as_plain(label: Any) -> Any:
    if isinstance(label, np.datetime64 | np.timedelta64):
        found = label.item()  # an integer where Python has no such time, as for nanoseconds; None for NaT
        return label if found is None or isinstance(found, int) else found
    return label.item() if isinstance(label, np.generic) or _is_number(label) else label


def _is_number(label: Any) -> bool:
    """Whether the label is a tensor with a single number."""
    return isinstance(label, Tensor) and label.ndim == 0
