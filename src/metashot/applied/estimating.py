"""How accurate a fitted learner will be on further queries, estimated from its support set alone.

One example of each class is left out at a time, and answered by the learner that is fitted to the others: where classes have
equally many examples, they still have then, since learners such as prototypical networks favour classes with more. Which
examples are left out together is varied, and the accuracies are averaged. They are too low, since a learner of fewer
examples answers, and uncertain, since there are few examples. By how much is simulated with validation classes, in tasks
with as many classes and examples: the difference between the accuracy on queries and that on left-out examples, in units of
the latter's standard error, corrects the estimate, and its quantiles are the interval. The simulated tasks have few queries:
the variance that comes from their number is taken out before.
Shimabucoro, Hospedales, Gouk 2023, "Evaluating the evaluators: are current few-shot learning benchmarks fit for purpose?",
arXiv:2307.02732, compare estimators for few examples.
"""

from collections.abc import Iterator
from time import monotonic
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.features import FeatureLearner
from metashot.applied.simulated_tasks import refuse_simulation
from metashot.bad_input import BadInput, BadValue, shown
from metashot.episodes import Examples

LEVEL = 0.9  # of the interval
_TASKS = 400  # simulated ones
_ROUNDS = 3  # in each, every example is left out once, together with other ones
_FEWEST = 4  # images of a class in a simulated task: two support examples and two queries
_NUMBERS_AT_ONCE = 2**22  # of support features
_SEED = 0
_MOST_PLACES = 2**22  # folds times examples
_LEAST_SHARE = 0.1  # of the variance between simulated tasks, which their noise may hide


class Estimate(NamedTuple):
    """An estimated accuracy with its 90 % interval."""

    accuracy: float
    low: float
    high: float
    left_out: float  # the accuracy on support examples that were left out

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f} %)"


class Deadline:
    """A time after which an estimate is given up."""

    def __init__(self, seconds: float | None) -> None:
        is_number = isinstance(seconds, int | float | np.integer | np.floating) and not isinstance(
            seconds, bool | np.timedelta64
        )
        if seconds is not None and not (is_number and seconds > 0):
            raise BadValue(f"within={shown(seconds)} cannot be used; allowed: a positive number of seconds, or None")
        self._seconds = seconds
        self._begin = monotonic()

    def check(self) -> None:
        if self._seconds is not None and monotonic() - self._begin > self._seconds:
            raise BadInput(
                f"an estimate takes longer than {self._seconds:g} s here: allow more time, in the shell by estimate=true"
            )


def _refuse_many(y: Tensor) -> None:
    largest = int(torch.bincount(y).max())
    if largest * len(y) > _MOST_PLACES:
        raise BadInput(
            f"an estimate leaves out examples again and again, which {len(y):,} examples are too many for: keep some of "
            "them apart, and score the learner on these"
        )


def refuse_estimate(algorithm: FeatureLearner, y: Tensor, names: list[str]) -> None:
    """Raise `BadInput` where an accuracy cannot be estimated."""
    _refuse_many(y)
    if algorithm.transductive:
        raise BadInput(
            "an estimate leaves out one example at a time, and this learner answers many queries together, which it does "
            "better: score it on labelled queries"
        )
    refuse_simulation(algorithm, "an estimate", _FEWEST, "score it on labelled queries")
    if single := [name for name, count in zip(names, torch.bincount(y).tolist(), strict=True) if count < 2]:
        raise BadInput(
            f"an estimate leaves out one example at a time, and the class {single[0]} has only one, without which "
            "nothing is known of it: give at least two examples of each class"
        )


@torch.no_grad()
def estimated(algorithm: FeatureLearner, x: Tensor, y: Tensor, within: float | None = None) -> Estimate:
    """Estimate the accuracy of an algorithm on further queries.

    Args:
        algorithm: The algorithm.
        x: Support features [S, features].
        y: Their labels [S], of classes with at least two examples each.
        within: Seconds after which to give up; None for never.

    Raises:
        BadInput: It takes longer.
    """
    deadline, ways = Deadline(within), int(y.max()) + 1
    return corrected(algorithm, x, y, simulated(algorithm, ways, max(2, round(len(y) / ways)), deadline), deadline)


@torch.no_grad()
def corrected(
    algorithm: FeatureLearner, x: Tensor, y: Tensor, missed: NDArray[np.float64], deadline: Deadline | None = None
) -> Estimate:
    """Like `estimated`, from what left-out examples miss in simulated tasks."""
    hits, examples = _left_out_hits(algorithm, x[None], y[None], deadline or Deadline(None)), len(y)
    low, middle, high = np.quantile(missed, _QUANTILES)
    accuracy, error = hits[0] / examples, float(_standard_error(hits, examples)[0])
    middle, low, high = (float(np.clip(accuracy + error * each, 0.0, 1.0)) for each in (middle, low, high))
    return Estimate(middle, low, high, float(accuracy))


_QUANTILES = ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)


@torch.no_grad()
def simulated(algorithm: FeatureLearner, ways: int, shots: int, deadline: Deadline | None = None) -> NDArray[np.float64]:
    """What left-out examples miss of the accuracy on queries, in standard errors, in simulated tasks: [tasks]."""
    assert algorithm.familiarity.sample is not None
    sample = algorithm.familiarity.sample.to(algorithm.dtype)
    classes, images, _ = sample.shape
    ways, shots = min(ways, classes), min(shots, images // 2)
    random, deadline = np.random.default_rng(_SEED), deadline or Deadline(None)
    y = torch.arange(ways, device=sample.device).repeat_interleave(shots)[None]
    supports, truths, noise = [], [], []
    for _ in range(_TASKS):
        deadline.check()
        chosen = random.permutation(classes)[:ways]
        order = np.stack([random.permutation(images) for _ in chosen])
        items = sample[torch.from_numpy(chosen)[:, None], torch.from_numpy(order)]  # [ways, images, features]
        support, query = items[:, :shots].flatten(0, 1), items[:, shots:].flatten(0, 1)
        answers = algorithm.answer(algorithm.summary(Examples(support[None], y)), query[None])[0, :, :ways]
        predicted = answers.argmax(-1).view(ways, -1).cpu().numpy()
        of_classes = (predicted == np.arange(ways)[:, None]).mean(1)  # [ways]
        truths.append(of_classes.mean())
        noise.append((of_classes * (1 - of_classes)).mean() / ways / (images - shots - 1))
        supports.append(support)
    hits = np.concatenate([_left_out_hits(algorithm, support[None], y, deadline) for support in supports])
    error = _standard_error(hits, ways * shots)
    return _without_noise((np.array(truths) - hits / (ways * shots)) / error, np.array(noise) / error**2)


def _without_noise(values: NDArray[np.float64], variances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values drawn towards their median, so that they vary as much as without noise of these variances."""
    middle = np.median(values)
    share = 1 - variances.mean() / max(float(values.var()), 1e-12)
    found: NDArray[np.float64] = middle + np.sqrt(max(share, _LEAST_SHARE)) * (values - middle)
    return found


def _left_out_hits(algorithm: FeatureLearner, x: Tensor, y: Tensor, deadline: Deadline) -> NDArray[np.float64]:
    """How many examples of each support set [T, S, features] are answered rightly when they are left out: [T].

    An example that is left out several times counts as the mean of its answers.
    """
    found = []
    for features, labels in zip(x, y, strict=True):
        kept, left_out = _folds(labels)
        hits, times = features.new_zeros(len(labels)), features.new_zeros(len(labels))
        for part in _parts(len(kept), kept.shape[1] * features.shape[1]):
            deadline.check()
            support, asked = Examples(features[kept[part]], labels[kept[part]]), left_out[part]
            answers = algorithm.answer(algorithm.summary(support), features[asked])[..., : int(labels.max()) + 1]
            right = answers.argmax(-1) == labels[asked]  # [folds, ways]
            hits.index_add_(0, asked.flatten(), right.flatten().to(hits))
            times.index_add_(0, asked.flatten(), torch.ones_like(right).flatten().to(times))
        found.append(float((hits / times).sum()))
    return np.array(found)


def _folds(y: Tensor) -> tuple[Tensor, Tensor]:
    """The places of the examples that are kept [folds, S - ways], and of those that are left out [folds, ways].

    Each fold leaves out one example of each class. In each round, every example of the largest classes is left out once, and
    examples of smaller ones repeatedly; rounds differ in which examples are left out together.
    """
    members = [torch.nonzero(y == label)[:, 0] for label in range(int(y.max()) + 1)]
    largest = max(map(len, members))
    left_out = torch.stack(
        [
            torch.stack([own[(fold + shift * place) % len(own)] for place, own in enumerate(members)])
            for shift in range(min(_ROUNDS, largest))
            for fold in range(largest)
        ]
    )
    is_kept = torch.ones(len(left_out), len(y), dtype=torch.bool, device=y.device).scatter_(1, left_out, False)
    return torch.nonzero(is_kept)[:, 1].view(len(left_out), -1), left_out


def _parts(examples: int, numbers: int) -> Iterator[slice]:
    size = max(1, _NUMBERS_AT_ONCE // numbers)
    for first in range(0, examples, size):
        yield slice(first, first + size)


def _standard_error(hits: NDArray[np.float64], examples: int) -> NDArray[np.float64]:
    """The standard error of accuracies, which is not zero where all or none are right."""
    share = (hits + 1) / (examples + 2)
    found: NDArray[np.float64] = np.sqrt(share * (1 - share) / examples)
    return found
