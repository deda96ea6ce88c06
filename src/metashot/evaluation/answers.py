"""The predictions of an evaluation's queries, and the metrics computed from them: per-class accuracy and calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_calibration_error

BINS = 15  # confidence bins, as in Guo et al. 2017
_BELOW_ONE = float(np.nextafter(1.0, 0.0))


@dataclass(frozen=True)
class Answers:
    """The predictions of all queries of an evaluation, sorted by the episodes' numbers."""

    number: NDArray[np.int64]  # [N] the number of the query's episode
    label: NDArray[np.int64]  # [N] the true class, numbered within the split
    predicted: NDArray[np.int64]  # [N] the predicted class, numbered within the split
    confidence: NDArray[np.float64]  # [N] the probability of the predicted class
    classes: dict[int, tuple[int, ...]]  # the classes of each episode, by its number

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.equal(self.label, self.predicted)  # [N]


class ClassAccuracy(NamedTuple):
    """The accuracy on the queries of one class."""

    name: str
    queries: int
    accuracy: float


class Reliability(NamedTuple):
    """The accuracy and the mean confidence in each confidence bin; NaN where a bin is empty."""

    edges: NDArray[np.float64]  # [bins + 1]
    queries: NDArray[np.int64]  # [bins]
    confidence: NDArray[np.float64]  # [bins] mean
    accuracy: NDArray[np.float64]  # [bins]


def class_accuracies(answers: Answers, names: Sequence[str]) -> list[ClassAccuracy]:
    """The accuracy of each class that has queries, in the order of the split's classes."""
    queries = np.bincount(answers.label, minlength=len(names))
    right = np.bincount(answers.label[answers.right], minlength=len(names))
    return [
        ClassAccuracy(names[place], int(queries[place]), float(right[place] / queries[place]))
        for place in np.flatnonzero(queries)
    ]


def calibration_error(answers: Answers, bins: int = BINS) -> float:
    """The expected calibration error of the predicted class: Guo et al. 2017, "On Calibration of Modern Neural Networks",
    equation 5. NaN where there are no queries or a confidence is not finite.

    The error depends only on each prediction's confidence and on whether it is right. Torchmetrics' multiclass error reduces
    probabilities to these two and then equals its binary error, which is used here because tasks have different classes.
    """
    if len(answers.confidence) == 0 or not np.isfinite(answers.confidence).all():
        return float("nan")
    right = torch.from_numpy(answers.right).long()
    return float(binary_calibration_error(torch.from_numpy(_in_bins(answers.confidence)), right, bins, "l1"))


def reliability(answers: Answers, bins: int = BINS) -> Reliability:
    """The accuracy and the mean confidence in the calibration error's bins. Non-finite confidences are left out."""
    known = np.isfinite(answers.confidence)
    confidence, right = _in_bins(answers.confidence[known]), answers.right[known]
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64).numpy()  # exactly torchmetrics' edges
    place = np.searchsorted(edges, confidence, side="right") - 1  # [N]
    queries = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, confidence, bins) / queries
        accuracy = np.bincount(place, right, bins) / queries
    return Reliability(edges, queries, mean, accuracy)


def _in_bins(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip rounding errors to 0 to 1, and move 1 into the last bin, where torchmetrics would open another one."""
    return np.clip(np.asarray(confidence, dtype=np.float64), 0.0, _BELOW_ONE)
