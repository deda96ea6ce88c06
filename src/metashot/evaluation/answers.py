"""What a learner answered to the queries of an evaluation, and what it says beside the accuracy: of each class, and of how
well its probabilities are meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_calibration_error

BINS = 15  # of confidence, as in Guo et al. 2017
_BELOW_ONE = float(np.nextafter(1.0, 0.0))


@dataclass(frozen=True)
class Answers:
    """What was answered to every query of an evaluation, in the order of the episodes' numbers."""

    number: NDArray[np.int64]  # [N] of its episode
    label: NDArray[np.int64]  # [N] the class of the split that it belongs to
    predicted: NDArray[np.int64]  # [N] the class of the split that it was given
    confidence: NDArray[np.float64]  # [N] the probability of the predicted class
    classes: dict[int, tuple[int, ...]]  # of each episode by its number

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.equal(self.label, self.predicted)  # [N]


class OfClass(NamedTuple):
    """How the queries of one class were answered."""

    name: str
    queries: int
    accuracy: float


class Reliability(NamedTuple):
    """How often answers of like confidence were right, in bins of confidence; NaN where a bin has no queries."""

    edges: NDArray[np.float64]  # [bins + 1]
    queries: NDArray[np.int64]  # [bins]
    confidence: NDArray[np.float64]  # [bins] mean
    accuracy: NDArray[np.float64]  # [bins]


def of_classes(answers: Answers, names: Sequence[str]) -> list[OfClass]:
    """Of each class that has queries, in the order of the split's classes."""
    queries = np.bincount(answers.label, minlength=len(names))
    right = np.bincount(answers.label[answers.right], minlength=len(names))
    return [
        OfClass(names[place], int(queries[place]), float(right[place] / queries[place])) for place in np.flatnonzero(queries)
    ]


def calibration_error(answers: Answers, bins: int = BINS) -> float:
    """The expected calibration error of the predicted class: Guo et al. 2017, "On Calibration of Modern Neural Networks",
    equation 5. NaN where a confidence is not a number.

    It depends on each answer's confidence and on whether it was right, and on nothing else: torchmetrics' multiclass error
    reduces probabilities to these two and goes on as its binary error does, which is asked here because tasks have
    different classes.
    """
    if len(answers.confidence) == 0 or not np.isfinite(answers.confidence).all():
        return float("nan")
    right = torch.from_numpy(answers.right).long()
    return float(binary_calibration_error(torch.from_numpy(_in_bins(answers.confidence)), right, bins, "l1"))


def reliability(answers: Answers, bins: int = BINS) -> Reliability:
    """By the bins of the calibration error. Answers whose confidence is not a number are left out."""
    known = np.isfinite(answers.confidence)
    confidence, right = _in_bins(answers.confidence[known]), answers.right[known]
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64).numpy()  # those of torchmetrics, to the last digit
    place = np.searchsorted(edges, confidence, side="right") - 1  # [N]
    queries = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, confidence, bins) / queries
        accuracy = np.bincount(place, right, bins) / queries
    return Reliability(edges, queries, mean, accuracy)


def _in_bins(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """With 1 in the last bin, for which torchmetrics opens another one, and rounding kept between 0 and 1."""
    return np.clip(np.asarray(confidence, dtype=np.float64), 0.0, _BELOW_ONE)
