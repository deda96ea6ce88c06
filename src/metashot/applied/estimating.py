"""How accurate a fitted learner will be on further queries, estimated from its support set alone.

Each support example is left out once, and answered by the learner that is fitted to the others. That accuracy is too low,
since a learner of one example less answers, and uncertain, since there are few examples. By how much is simulated with
validation classes, in tasks with as many classes and examples: the difference between the accuracy on many queries and that
on left-out examples, in units of the latter's standard error, corrects the estimate, and its quantiles are the interval.
Shimabucoro, Hospedales, Gouk 2023, "Evaluating the evaluators: are current few-shot learning benchmarks fit for purpose?",
arXiv:2307.02732, compare estimators for few examples.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.features import FeatureLearner
from metashot.bad_input import BadInput
from metashot.episodes import Examples

LEVEL = 0.9  # of the interval
_TASKS = 200  # simulated ones
_NUMBERS_AT_ONCE = 2**22  # of support features
_SEED = 0


class Estimate(NamedTuple):
    """An estimated accuracy with its 90 % interval."""

    accuracy: float
    low: float
    high: float
    left_out: float  # the accuracy on support examples that were left out, each once

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f} %)"


def refuse_estimate(algorithm: FeatureLearner, y: Tensor, names: list[str]) -> None:
    """Raise `BadInput` where an accuracy cannot be estimated."""
    if algorithm.transductive:
        raise BadInput(
            "estimate() leaves out one example at a time, and this learner answers many queries together, which it does "
            "better: score it on labelled queries"
        )
    if algorithm.familiarity.sample is None:
        raise BadInput(
            "estimate() needs the validation classes that a checkpoint keeps, and an older version of metashot wrote this "
            "one: train it again"
        )
    if single := [name for name, count in zip(names, torch.bincount(y).tolist(), strict=True) if count < 2]:
        raise BadInput(
            f"estimate() leaves out one example at a time, and the class {single[0]} has only one, without which nothing is "
            "known of it: give at least two examples of each class"
        )


@torch.no_grad()
def estimated(algorithm: FeatureLearner, x: Tensor, y: Tensor) -> Estimate:
    """Estimate the accuracy of an algorithm on further queries.

    Args:
        algorithm: The algorithm.
        x: Support features [S, features].
        y: Their labels [S], of classes with at least two examples each.
    """
    ways = int(y.max()) + 1
    return corrected(algorithm, x, y, simulated(algorithm, ways, max(2, round(len(y) / ways))))


@torch.no_grad()
def corrected(algorithm: FeatureLearner, x: Tensor, y: Tensor, missed: NDArray[np.float64]) -> Estimate:
    """Like `estimated`, from what left-out examples miss in simulated tasks."""
    hits, examples = _left_out_hits(algorithm, x[None], y[None]), len(y)
    low, middle, high = np.quantile(missed, _QUANTILES)
    accuracy, error = hits[0] / examples, float(_standard_error(hits, examples)[0])
    middle, low, high = (float(np.clip(accuracy + error * each, 0.0, 1.0)) for each in (middle, low, high))
    return Estimate(middle, low, high, float(accuracy))


_QUANTILES = ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)


@torch.no_grad()
def simulated(algorithm: FeatureLearner, ways: int, shots: int) -> NDArray[np.float64]:
    """What left-out examples miss of the accuracy on queries, in standard errors, in simulated tasks: [tasks]."""
    assert algorithm.familiarity.sample is not None
    sample = algorithm.familiarity.sample.to(algorithm.dtype)
    classes, images, _ = sample.shape
    ways, shots = min(ways, classes), min(shots, images // 2)
    random = np.random.default_rng(_SEED)
    y = torch.arange(ways, device=sample.device).repeat_interleave(shots)[None]
    supports, truths = [], []
    for _ in range(_TASKS):
        chosen = random.permutation(classes)[:ways]
        order = np.stack([random.permutation(images) for _ in chosen])
        items = sample[torch.from_numpy(chosen)[:, None], torch.from_numpy(order)]  # [ways, images, features]
        support, query = items[:, :shots].flatten(0, 1), items[:, shots:].flatten(0, 1)
        answers = algorithm.answer(algorithm.summary(Examples(support[None], y)), query[None])[0, :, :ways]
        labels = torch.arange(ways, device=sample.device).repeat_interleave(images - shots)
        truths.append(float((answers.argmax(-1) == labels).double().mean()))
        supports.append(support)
    hits = np.concatenate([_left_out_hits(algorithm, support[None], y) for support in supports])
    examples = ways * shots
    missed: NDArray[np.float64] = (np.array(truths) - hits / examples) / _standard_error(hits, examples)
    return missed


def _left_out_hits(algorithm: FeatureLearner, x: Tensor, y: Tensor) -> NDArray[np.int64]:
    """How many examples of each support set [T, S, features] are answered rightly when they are left out: [T]."""
    tasks, examples, _ = x.shape
    others = torch.tensor([[j for j in range(examples) if j != i] for i in range(examples)], device=x.device)  # [S, S - 1]
    hits = np.zeros(tasks, dtype=np.int64)
    for task in range(tasks):
        for part in _parts(examples, x.shape[1] * x.shape[2]):
            support = Examples(x[task, others[part]], y[task, others[part]])
            answers = algorithm.answer(algorithm.summary(support), x[task, part].unsqueeze(1))[:, 0, : int(y.max()) + 1]
            hits[task] += int((answers.argmax(-1) == y[task, part]).sum())
    return hits


def _parts(examples: int, numbers: int) -> Iterator[slice]:
    size = max(1, _NUMBERS_AT_ONCE // numbers)
    for first in range(0, examples, size):
        yield slice(first, first + size)


def _standard_error(hits: NDArray[np.int64], examples: int) -> NDArray[np.float64]:
    """The standard error of accuracies, which is not zero where all or none are right."""
    share = (hits + 1) / (examples + 2)
    found: NDArray[np.float64] = np.sqrt(share * (1 - share) / examples)
    return found
