"""Answers to queries for those who look at them: probabilities, the nearest examples, and what each inner step changes."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray


class Near(NamedTuple):
    """An example that a query is near to."""

    label: int  # the place of its class in `classes_`
    example: int  # its place among the examples of this class, in the order in which they were given
    similarity: float  # the cosine of their features


class Answers(NamedTuple):
    """The answers to N queries."""

    probabilities: NDArray[np.float64]  # [N, classes], in the order of `classes_`
    unknown: NDArray[np.bool_] | None  # [N], whether a query belongs to none of the classes; None if that was not asked
    near: list[list[Near]] | None  # of each query, nearest first; None if no features can be compared
    after_steps: NDArray[np.float64] | None  # [N, steps, classes], after each of the steps that are watched


def softmax_of(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The class probabilities [..., classes] of logits."""
    return np.asarray(torch.from_numpy(logits).softmax(-1).numpy())


def nearest_of(similarities: NDArray[np.float64], y: NDArray[np.int64], most: int) -> list[list[Near]]:
    """The nearest examples of each query.

    Args:
        similarities: Of queries and examples [N, S].
        y: The places [S] of the examples' classes, in ascending order.
        most: The number of examples to name.
    """
    first = np.searchsorted(y, y)  # of each example's class
    similarities = np.nan_to_num(similarities, nan=-1.0)  # of features that are not finite
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :most]
    return [
        [Near(int(y[place]), int(place - first[place]), float(row[place])) for place in places]
        for row, places in zip(similarities, order, strict=True)
    ]
