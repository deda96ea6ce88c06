"""Which unlabelled images to label next, so that a fitted learner gains most.

With few labels, examples that represent many images help more than those that a learner is unsure of: Hacohen, Dekel,
Weinshall 2022, "Active learning on a budget: opposite strategies suit high and low budgets", arXiv:2202.02794. Images are
chosen one after the other so that each unlabelled image resembles a labelled one as much as possible (the facility location
problem): the next one is that which raises the sum of these cosines most. Cosines are those of `algorithms.familiarity`.
Images that seem to belong to none of the classes need not be represented, and come last.

Whether this is better than random choices is measured in simulated tasks of validation classes, with about as many classes,
examples and unlabelled images, in which the chosen images are labelled, and the accuracy on other images is compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.familiarity import Familiarity
from metashot.algorithms.features import FeatureLearner
from metashot.applied.simulated_tasks import refuse_simulation
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.evaluation.statistics import paired_difference

_TASKS = 400  # simulated ones
_DRAWS = 4  # random choices in each
_HELD_OUT = 3  # one in so many of the images that are not support examples is a query
_FEWEST = 3  # images of a class in a simulated task: a support example, an unlabelled one and a query
_LOWEST_RATE, _HIGHEST_RATE = 0.05, 0.25  # of images of the classes that are taken for others
_REPRESENTED = 2048  # at most so many unlabelled images, so that cosines fit into memory
_NUMBERS_AT_ONCE = 2**22  # of support features and of cosines
_SEED = 0


class NotBetterThanRandom(UserWarning):
    """The images to label next are not shown to be better than random ones."""


@dataclass(frozen=True, eq=False)
class Suggestions:
    """The images to label next, and what this gains over random ones in simulated tasks."""

    indices: NDArray[np.int64]  # [n], the best first
    gain: float  # the accuracy minus that with as many random images
    low: float  # of the 95 % interval of the gain
    high: float
    tasks: int  # simulated ones
    noun: str = "image"  # what messages call one of them

    @property
    def better_than_random(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.low > 0

    def __str__(self) -> str:
        gain, low, high = (round(100 * value, 1) + 0.0 for value in (self.gain, self.low, self.high))  # without -0.0
        shown = f"{gain:+.1f} points of accuracy (95 % interval {low:+.1f} to {high:+.1f})"
        count = f"1 {self.noun}" if len(self.indices) == 1 else f"{len(self.indices):,} {self.noun}s"
        verdict = "better" if self.low > 0 else "worse" if self.high < 0 else "not shown to be better"
        return f"{count} to label next, {verdict} than random ones: {shown} in {self.tasks:,} simulated tasks"


def refuse_labelling(algorithm: FeatureLearner, noun: str = "image") -> None:
    """Raise `BadInput` where it cannot be simulated what labels gain; `noun` is what messages call an item."""
    if algorithm.transductive:
        raise BadInput(
            f"next_to_label() compares single {noun}s, and this learner answers many queries together, from which it learns "
            "without labels: use one such as protonet"
        )
    refuse_simulation(algorithm, "next_to_label()", _FEWEST, f"label any {noun}s")


@torch.no_grad()
def suggested(algorithm: FeatureLearner, support: Examples, pool: Tensor, n: int, noun: str = "image") -> Suggestions:
    """Choose images to label next.

    Args:
        algorithm: The algorithm.
        support: Support features [S, features] with their labels [S].
        pool: Features [N, features] of unlabelled images.
        n: The number of images to choose.
        noun: What messages call one of them.
    """
    indices = chosen(algorithm, Examples(support.x[None], support.y[None]), pool[None], n)[0]
    ways = int(support.y.max()) + 1
    ours, random = simulated(algorithm, ways, round(len(support.y) / ways), len(pool), n)
    difference = paired_difference(ours.tolist(), random.tolist())
    margin = difference.ci95 or 0.0
    return Suggestions(indices, difference.mean, difference.mean - margin, difference.mean + margin, len(ours), noun)


@torch.no_grad()
def chosen(algorithm: FeatureLearner, support: Examples, pool: Tensor, n: int) -> NDArray[np.int64]:
    """The places [T, n] of the images to label next among unlabelled ones [T, N, features], for support sets."""
    familiarity = algorithm.familiarity
    familiar = familiarity(support, pool, together=True)
    labelled, unlabelled = familiarity.transformed(support.x), familiarity.transformed(pool)
    places = []
    for task in range(len(pool)):
        known = _are_known(familiarity, Examples(support.x[task, None], support.y[task, None]), familiar[task])
        places.append(_representatives(labelled[task], unlabelled[task], known, n))
    return np.stack(places)


def _are_known(familiarity: Familiarity, support: Examples, familiar: Tensor) -> Tensor:
    """Whether images [N] seem to belong to the classes of one support set; the more do not, the stricter this is."""

    def known(rate: float) -> Tensor:
        return familiar >= familiarity.threshold(support, rate, together=True)

    unknown = 1 - float(known(_LOWEST_RATE).float().mean())
    return known(min(max(unknown, _LOWEST_RATE), _HIGHEST_RATE))


def _representatives(labelled: Tensor, unlabelled: Tensor, known: Tensor, n: int) -> NDArray[np.int64]:
    """Choose n of the unlabelled images greedily; those that are not known come last."""
    spread = torch.linspace(0, len(unlabelled) - 1, min(len(unlabelled), _REPRESENTED), device=unlabelled.device).long()
    represented = unlabelled[spread]  # [R, features]
    cosines = unlabelled @ represented.T  # [N, R]
    best = (represented @ labelled.T).amax(1)  # [R], the cosine with the most similar labelled image
    free, places = torch.ones_like(known), []
    for _ in range(n):
        candidates = free & known if (free & known).any() else free
        weights = (known[spread] if (free & known).any() else torch.ones_like(spread)).to(cosines)
        gains = torch.cat([(part - best).clamp(min=0) @ weights for part in torch.split(cosines, _rows(cosines.shape[1]))])
        place = int(gains.masked_fill(~candidates, -1).argmax())
        places.append(place)
        free[place] = False
        best = torch.maximum(best, cosines[place])
    return np.array(places, dtype=np.int64)


@torch.no_grad()
def simulated(
    algorithm: FeatureLearner, ways: int, shots: int, pool: int, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The accuracies [tasks] after labelling the chosen images, and the mean ones after labelling random ones."""
    assert algorithm.familiarity.sample is not None
    sample = algorithm.familiarity.sample.to(algorithm.dtype)
    classes, images, _ = sample.shape
    ways, shots = min(ways, classes), min(shots, images - 2)
    held_out = max(1, (images - shots) // _HELD_OUT)
    each = max(1, min(round(pool / ways), images - shots - held_out))  # unlabelled images of a class
    count = ways * each if n == pool else min(n, max(1, ways * each // 2))
    random = np.random.default_rng(_SEED)
    ours, others = [], []
    for tasks in _parts(_TASKS, sample.shape[2] * ways * images):
        own = np.stack([random.permutation(classes)[:ways] for _ in range(tasks)])
        order = random.permuted(np.broadcast_to(np.arange(images), (tasks, ways, images)), axis=-1)
        items = sample[torch.from_numpy(own)[..., None], torch.from_numpy(order)]  # [T, ways, images, features]
        parts = torch.split(items, [shots, each, images - shots - each], dim=2)
        support, unlabelled, query = (_labelled(part) for part in parts)
        draws = [np.stack([random.permutation(ways * each)[:count] for _ in range(tasks)]) for _ in range(_DRAWS)]
        best = chosen(algorithm, support, unlabelled.x, count)
        ours.append(accuracies(algorithm, support, unlabelled, best, query))
        others.append(np.mean([accuracies(algorithm, support, unlabelled, draw, query) for draw in draws], axis=0))
    return np.concatenate(ours), np.concatenate(others)


def _labelled(items: Tensor) -> Examples:
    """Items [T, ways, images, features] as examples, sorted by label."""
    tasks, ways, images, _ = items.shape
    y = torch.arange(ways, device=items.device).repeat_interleave(images)
    return Examples(items.flatten(1, 2), y.expand(tasks, -1))


@torch.no_grad()
def accuracies(
    algorithm: FeatureLearner, support: Examples, unlabelled: Examples, places: NDArray[np.int64], query: Examples
) -> NDArray[np.float64]:
    """The accuracy [T] on queries of support sets and the unlabelled examples at these places [T, n], with their labels."""
    added = torch.from_numpy(places).to(support.y.device)
    tasks = torch.arange(len(places), device=added.device)[:, None]
    y = torch.cat([support.y, unlabelled.y[tasks, added]], dim=1)
    order = y.argsort(dim=1, stable=True)  # sorted by label, as in an episode
    x = torch.cat([support.x, unlabelled.x[tasks, added]], dim=1)[tasks, order]
    logits = algorithm.answer(algorithm.summary(Examples(x, y[tasks, order])), query.x)
    if not logits.isfinite().all():
        raise BadInput(
            "next_to_label() simulates tasks of the validation classes that a checkpoint keeps, to which this learner gives "
            "non-finite answers: take another checkpoint, or label any images"
        )
    hits = logits[..., : int(y.max()) + 1].argmax(-1) == query.y
    return np.asarray(hits.cpu().double().mean(1).numpy())


def _parts(tasks: int, numbers: int) -> Iterator[int]:
    """The numbers of tasks that are computed at once, of which each has so many numbers."""
    for first in range(0, tasks, size := _rows(numbers)):
        yield min(size, tasks - first)


def _rows(numbers: int) -> int:
    return max(1, _NUMBERS_AT_ONCE // numbers)
