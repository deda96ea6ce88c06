"""How accurate a fitted learner will be on further queries, estimated from its support set alone.

One example of each class is left out at a time, and answered by the learner that is fitted to the others: where classes have
equally many examples, they still have then, since learners such as prototypical networks favour classes with more. Which
examples are left out together is varied. The accuracy is that on queries with equally many of each class, so that each
left-out example weighs 1 / (ways * examples of its class). Where classes differ in their number of examples, the harmonic
mean of these numbers, which the variance of such a mean depends on, stands for the number of shots.

Instead of being right or wrong, an answer counts as a sigmoid of its margin, the logit of the right class minus the largest
other one. The sigmoid's width is a multiple of the standard deviation of the task's own margins, which decreases with the
number of examples. Such smoothed estimates vary less, and are drawn towards 1/2. Snapinn, Knoke 1985, "An evaluation of
smoothed classification error-rate estimators", Technometrics 27, smooth the error on the examples that a discriminant was
fitted to, by a normal distribution; a sigmoid of left-out margins, and its width, are ours. A wider one would vary less, but
overestimate where classes are hard to tell apart: the width was chosen with training and validation classes of CIFAR-FS.

By how much smoothed accuracies fall short is simulated in tasks of validation classes, as a difference of angles
arcsin(sqrt(accuracy)), whose variance hardly depends on the accuracy. The mean difference corrects the estimate, and a
normal distribution gives the interval. Its variance has three parts: that of the number of simulated queries, which is
subtracted; that of the classes, from a regression on which ones take part, which is larger for a user's new classes than for
tasks of the same few; the rest. Near 0 and 1 the variance does depend on the accuracy: each end of the interval is computed
as if 0.25 % more of the examples had been answered wrongly, or rightly. Simulation, correction and interval are ours.
Shimabucoro, Hospedales, Gouk 2023, "Evaluating the evaluators: are current few-shot learning benchmarks fit for purpose?",
arXiv:2307.02732, compare other estimators for few examples.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist
from threading import TIMEOUT_MAX
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
_FEWEST_TASKS, _MOST_TASKS = 400, 1000  # simulated ones, between which there are as many as
_NUMBERS = 2**28  # support features allow
_ROUNDS = 2  # in each, every example is left out once, together with other ones
_SMOOTHING = 1.0  # times 1 / sqrt(examples): the sigmoid's width, in standard deviations of the margins
_ALLOWANCE = 0.0025  # of the examples, which may be answered otherwise, at each end of the interval
_FEWEST = 4  # images of a class in a simulated task: two support examples and two queries
_FEWEST_CLASSES = 3  # so that simulated tasks, which have at least two, differ
_CLASSES, _IMAGES = 0.75, 0.25  # shares of the kept ones that a simulated task may use, so that tasks differ
_NUMBERS_AT_ONCE = 2**18  # of support features
_SEED = 0
_MOST_PLACES = 2**22  # folds times examples
_LEAST_SHARE = 0.1  # of the variance between simulated tasks, which their noise may hide
_DECIMALS = 6  # of a percentage, beyond which it is an error of rounding
_NOT_CERTAIN = 0.02  # the distance from 0 and 1 of accuracies whose noise is known


class Estimate(NamedTuple):
    """An estimated accuracy with its 90 % interval."""

    accuracy: float
    low: float
    high: float
    left_out: float  # the accuracy on support examples that were left out

    def __str__(self) -> str:
        """The interval is rounded outwards."""
        low, high = (round(100 * end, _DECIMALS) for end in (self.low, self.high))
        return f"{100 * self.accuracy:.0f} % ({math.floor(low)} to {math.ceil(high)} %)"


class Deviation(NamedTuple):
    """By how much the angle of the accuracy on queries exceeds that of the smoothed accuracy on left-out examples."""

    mean: float
    error: float  # its standard deviation in tasks of new classes
    smoothing: float  # the sigmoid's width, in standard deviations of the margins


class _LeftOut(NamedTuple):
    """How the left-out examples of tasks are answered: numbers [T]."""

    accuracy: NDArray[np.float64]
    smoothed: NDArray[np.float64]


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

    @property
    def timeout(self) -> float:
        """The seconds that are left, as `Lock.acquire` takes them."""
        if self._seconds is None:
            return -1.0
        return max(0.0, min(self._seconds, TIMEOUT_MAX) - (monotonic() - self._begin))

    def check(self) -> None:
        if self._seconds is not None and monotonic() - self._begin > self._seconds:
            raise BadInput(
                f"an estimate takes longer than {self._seconds:g} s here: allow more time, by a larger within= in Python or "
                "estimate=true in the shell"
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
    assert algorithm.familiarity.sample is not None
    if len(algorithm.familiarity.sample) < _FEWEST_CLASSES:
        raise BadInput(
            f"an estimate simulates tasks of at least {_FEWEST_CLASSES} validation classes, and this learner was trained on "
            "data with fewer: score it on labelled queries"
        )
    if single := [name for name, count in zip(names, torch.bincount(y).tolist(), strict=True) if count < 2]:
        raise BadInput(
            f"an estimate leaves out one example at a time, and the class {single[0]} has only one, without which "
            "nothing is known of it: give at least two examples of each class"
        )


@torch.no_grad()
def estimated(algorithm: FeatureLearner, x: Tensor, y: Tensor, deadline: Deadline | None = None) -> Estimate:
    """Estimate the accuracy of an algorithm on further queries, equally many of each class.

    Args:
        algorithm: The algorithm.
        x: Support features [S, features].
        y: Their labels [S], of classes with at least two examples each.
        deadline: When to give up; None for never.

    Raises:
        BadInput: It takes longer.
    """
    deviation = simulated(algorithm, int(y.max()) + 1, _effective_shots(y), deadline)
    return corrected(algorithm, x, y, deviation, deadline)


@torch.no_grad()
def corrected(
    algorithm: FeatureLearner, x: Tensor, y: Tensor, deviation: Deviation, deadline: Deadline | None = None
) -> Estimate:
    """Like `estimated`, with the deviation of simulated tasks."""
    ways = int(y.max()) + 1
    if ways == 1:
        return Estimate(1.0, 1.0, 1.0, 1.0)
    left_out = _left_out(algorithm, x[None], y, deviation.smoothing, deadline or Deadline(None))
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * deviation.error
    smoothed = left_out.smoothed[0]
    worse, better = ((smoothed + more) / (1 + _ALLOWANCE) for more in (0.0, _ALLOWANCE))
    angles = _angle(np.array([smoothed, worse, better])) + deviation.mean + np.array([0.0, -half, half])
    accuracy, low, high = map(float, np.sin(np.clip(angles, 0.0, np.pi / 2)) ** 2)
    return Estimate(accuracy, low, high, float(left_out.accuracy[0]))


@torch.no_grad()
def simulated(algorithm: FeatureLearner, ways: int, shots: float, deadline: Deadline | None = None) -> Deviation:
    """The deviation that is expected in a task of new classes, from simulated tasks that are about as large or smaller."""
    assert algorithm.familiarity.sample is not None
    sample = algorithm.familiarity.sample.to(algorithm.dtype)
    classes, images, _ = sample.shape
    most_ways, most_shots = max(2, int(_CLASSES * classes)), max(2, int(_IMAGES * images))
    own_ways, own_examples = ways, ways * shots
    ways, shots = min(ways, most_ways, classes), min(max(2, round(shots)), most_shots)
    deadline = deadline or Deadline(None)
    smoothing = _SMOOTHING / math.sqrt(own_examples)
    labels = torch.arange(ways, device=sample.device)
    y = labels.repeat_interleave(shots)
    kept = _folds(y)[0]
    numbers = max(ways * images, kept.numel() + len(kept) * ways * algorithm.made) * sample.shape[2]  # in a task
    tasks = min(max(_NUMBERS // numbers, _FEWEST_TASKS), _MOST_TASKS)
    chosen, orders = _drawn(tasks, ways, classes, images)
    accuracies, smoothed = [], []
    for part in _parts(tasks, numbers):
        items = sample[torch.from_numpy(chosen[part])[..., None], torch.from_numpy(orders[part])]
        support, query = items[:, :, :shots].flatten(1, 2), items[:, :, shots:].flatten(1, 2)
        answers = algorithm.answer(algorithm.summary(Examples(support, y.expand(len(items), -1))), query)[..., :ways]
        right = answers.argmax(-1).view(len(items), ways, -1) == labels[:, None]
        accuracies.append(right.double().mean(-1).cpu().numpy())
        smoothed.append(_left_out(algorithm, support, y, smoothing, deadline).smoothed)
    of_classes = np.concatenate(accuracies)  # [tasks, ways]
    deviations = _angle(of_classes.mean(1)) - _angle(np.concatenate(smoothed))
    noise = np.array([_noise(each, images - shots) for each in of_classes])
    takes_part = (chosen[..., None] == np.arange(classes)).any(1).astype(float)
    between, rest = _variances(deviations, takes_part)
    rest = max(rest - float(noise.mean()), _LEAST_SHARE * rest) * ways * shots / own_examples
    between = _of_new_classes(between, classes, ways, own_ways)
    return Deviation(float(deviations.mean()), math.sqrt(between + rest), smoothing)


def _drawn(tasks: int, ways: int, classes: int, images: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The classes [tasks, ways] of simulated tasks, and their images [tasks, ways, images] in random order."""
    random = np.random.default_rng(_SEED)
    chosen, orders = np.zeros((tasks, ways), np.int64), np.zeros((tasks, ways, images), np.int64)
    for task in range(tasks):
        chosen[task] = random.permutation(classes)[:ways]
        orders[task] = [random.permutation(images) for _ in range(ways)]
    return chosen, orders


def _variances(values: NDArray[np.float64], takes_part: NDArray[np.float64]) -> tuple[float, float]:
    """The variance of values [tasks] that the effects of the classes [tasks, classes] in them explain, and the rest."""
    tasks, classes = takes_part.shape
    centred, members = values - values.mean(), takes_part - takes_part.mean(0)
    effects = np.linalg.lstsq(members, centred, rcond=None)[0]
    rest = np.square(centred - members @ effects).sum() / max(1, tasks - classes)
    return max(float(centred.var(ddof=1) - rest), 0.0), float(rest)


def _of_new_classes(variance: float, classes: int, ways: int, own_ways: int) -> float:
    """The variance of the mean effect of `own_ways` new classes, from that of `ways` out of a few known classes."""
    return variance * (1 / own_ways + 1 / classes) / (1 / ways - 1 / classes) if ways < classes else variance


def _noise(of_classes: NDArray[np.float64], queries: int) -> float:
    """The variance of the angle of an accuracy, from accuracies on so many queries of each class."""
    mean = np.clip(of_classes.mean(), _NOT_CERTAIN, 1 - _NOT_CERTAIN)
    variance = (of_classes * (1 - of_classes)).mean() / len(of_classes) / (queries - 1)
    return float(variance / (4 * mean * (1 - mean)))


def _effective_shots(y: Tensor) -> float:
    """The harmonic mean of the numbers of examples of the classes."""
    return float(1 / (1 / torch.bincount(y).double()).mean())


def _angle(accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
    angles: NDArray[np.float64] = np.arcsin(np.sqrt(accuracies))
    return angles


def _left_out(algorithm: FeatureLearner, x: Tensor, y: Tensor, smoothing: float, deadline: Deadline) -> _LeftOut:
    """How the examples of support sets [T, S, features], whose labels [S] are the same, are answered when they are left out.

    Each class has the same weight, and so has each of its examples. An example that is left out several times counts as the
    mean of its answers. A tie between several classes counts as a guess.
    """
    (kept, left_out), ways = _folds(y), int(y.max()) + 1
    tasks, folds = (
        each.flatten()
        for each in torch.meshgrid(*(torch.arange(n, device=y.device) for n in (len(x), len(kept))), indexing="ij")
    )
    right, margins, guesses = [], [], []
    for part in _parts(len(tasks), kept.shape[1] * x.shape[2]):
        deadline.check()
        task, out, others = tasks[part, None], left_out[folds[part]], kept[folds[part]]
        answers = algorithm.answer(algorithm.summary(Examples(x[task, others], y[others])), x[task, out])[..., :ways]
        right.append(answers.argmax(-1) == y[out])
        margins.append(_margins(answers, y[out]))
        guesses.append(1 / (answers == answers.amax(-1, keepdim=True)).sum(-1))
    is_right, margin, guess = (torch.cat(each).view(len(x), -1, ways) for each in (right, margins, guesses))
    width = (smoothing * margin.std((1, 2), correction=0, keepdim=True)).clamp(min=torch.finfo(margin.dtype).tiny)
    times, counts = torch.bincount(left_out.flatten()), torch.bincount(y)  # [S], [ways]
    weights = 1 / (times[left_out] * counts[y[left_out]] * ways).to(margin)
    values = torch.where(margin == 0, guess.to(margin), torch.sigmoid(margin / width))
    return _LeftOut(*((each * weights).sum((1, 2)).clamp(0, 1).double().cpu().numpy() for each in (is_right, values)))


def _margins(answers: Tensor, labels: Tensor) -> Tensor:
    """The logits of the labels minus the largest other ones: [folds, ways], of answers [folds, ways, ways]."""
    if answers.shape[-1] == 1:
        return torch.ones_like(answers[..., 0])
    places = labels.unsqueeze(-1)
    return answers.gather(-1, places)[..., 0] - answers.scatter(-1, places, -torch.inf).amax(-1)


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
