"""How familiar an image looks to a learner: whether it belongs to one of the classes that a support set shows.

Features are normalised to length 1 after a square root (which keeps signs), centred on the mean of the training images, and
normalised again. An image is as familiar as its cosine to the nearest class mean of the support set, minus a
share of its mean cosine to the nearest class means of the training split: what resembles many things says little.

An image is called unknown where it looks less familiar than a threshold, at a rate of false alarms that the user chooses.
The threshold is a quantile of the familiarity of queries that belong to their task's classes, in tasks of validation classes
with as many shots. It is corrected by how familiar the support examples of the task itself look when each is left out, as
far as this predicts the familiarity of queries in those tasks.

Queries that are asked together can also be judged together: an image looks the more familiar, the more familiar the images
look that resemble it most, as in label propagation. An answer then depends on the other queries.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.optional_state import OptionalState
from metashot.algorithms.similarities import class_means, cosines
from metashot.episodes import Examples

SHOTS = (1, 2, 3, 5, 10, 20)  # of the simulated tasks
_TASKS, _WAYS, _QUERIES = 100, 5, 15  # of the simulated tasks
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # candidates for the share of the training classes
_NEAREST = 5  # training classes
_APART = (1.0, 0.3, 0.2, 0.1, 0.0)  # candidates for the cosine from which on queries resemble each other; 1: none do
_NEIGHBOURS, _ROUNDS = 5, 2  # queries that each is judged with
_POINTS = 201  # of a table of quantiles
_NUMBERS_AT_ONCE = 2**22  # of cosines
_EPSILON = 1e-6
_DIGITS = 3  # of an AUROC, by which candidates are compared
_KEPT_CLASSES, _KEPT_IMAGES = 20, 20  # of the validation split
_LARGEST = 1e15  # feature, so that squared distances are finite in 32 bits
_ROUNDING = 1e-2  # of a state in 16 bits
_UNIT, _COSINE = 1 + _ROUNDING, 2.0  # numbers in vectors of length 1, and familiarities, are no larger
_ORDERED = ("table", "table_together")
_MOST: Mapping[str, float] = {  # the largest magnitude that can be learned
    "mean": _UNIT,
    "background": _UNIT,
    "share": _UNIT,
    "apart": _UNIT,
    "expected": _COSINE,
    "sample": _LARGEST,
    "slope": _COSINE * _TASKS**0.5 * 1e6,
    "table": _COSINE * _TASKS,
    "table_together": _COSINE * _TASKS,
}


class Familiarity(OptionalState):
    """Measures familiarity, with what it learned from training and validation classes."""

    NAMES: ClassVar = (
        *("mean", "background", "share", "apart"),
        *("shots", "expected", "slope", "table", "table_together", "sample"),
    )

    mean: Tensor | None  # [features], of the training images
    background: Tensor | None  # [classes, features], class means of the training split
    share: Tensor | None  # [], of the similarity to the training classes
    apart: Tensor | None  # [], the cosine from which on queries resemble each other
    shots: Tensor | None  # [rows], the shots of the simulated tasks
    expected: Tensor | None  # [rows], the mean familiarity of left-out support examples
    slope: Tensor | None  # [rows], by how much queries look more familiar if left-out examples do
    table: Tensor | None  # [rows, points], quantiles of the familiarity of queries, corrected
    table_together: Tensor | None  # the same, of queries that are judged together with as many strangers
    sample: Tensor | None  # [classes, images, features] of validation classes, to simulate other tasks later

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    @property
    def has_learned(self) -> bool:
        return self.table is not None

    def learn(self, training: Tensor, validation: Tensor) -> None:
        """Learn from features [classes, images, features] of training and of validation classes, unless some are huge."""
        if not (bool((training.abs() <= _LARGEST).all()) and bool((validation.abs() <= _LARGEST).all())):
            return
        device, dtype = training.device, training.dtype
        training, validation = training.float().cpu(), validation.float().cpu()
        rooted = _rooted(training)
        mean = rooted.flatten(0, 1).mean(0)
        self.mean, self.background, self.share = mean, None, mean.new_zeros([])
        self.background = F.normalize(self.transformed(training).mean(1), dim=-1)
        random = torch.Generator().manual_seed(0)
        tasks = {shots: _tasks(validation, shots, random) for shots in SHOTS if validation.shape[1] > shots}
        self.apart = mean.new_ones([])
        self.share = self._best("share", _SHARES, tasks, False)
        self.apart = self._best("apart", _APART, tasks, True)
        rows = zip(*(self._calibrated(*task) for task in tasks.values()), strict=True)
        self.expected, self.slope, self.table, self.table_together = map(torch.stack, rows)
        self.shots = torch.tensor(list(tasks))
        self.sample = validation[:_KEPT_CLASSES, :_KEPT_IMAGES].clone()
        for name in self.NAMES:
            setattr(self, name, getattr(self, name).to(device, dtype))

    def transformed(self, features: Tensor) -> Tensor:
        """Features [..., features] that cosines compare."""
        if self.mean is None:
            return F.normalize(features, dim=-1)
        return F.normalize(_rooted(features) - self.mean.to(features), dim=-1)

    def __call__(self, support: Examples, x: Tensor, together: bool = False) -> Tensor:
        """The familiarity [T, N] of features x [T, N, features] to the classes of support sets, each alone or together."""
        z = self.transformed(x)
        means = class_means(self.transformed(support.x), support.y)
        alone = self._of(z, cosines(z, means).amax(-1))
        return self._together(z, alone) if together else alone

    def _together(self, z: Tensor, familiar: Tensor) -> Tensor:
        """Average the familiarity [T, N] of queries z [T, N, features] with that of those that resemble them most."""
        count = min(_NEIGHBOURS, z.shape[1] - 1)
        if self.apart is None or self.apart >= 1 or count < 1:
            return familiar
        found = []
        for own, values in zip(z, familiar, strict=True):
            similar, nearest = _nearest(own, count)
            weights = (similar - self.apart.to(own)).clamp(min=0)  # [N, count]
            for _ in range(_ROUNDS):
                values = (values + (weights * values[nearest]).sum(-1)) / (1 + weights.sum(-1))
            found.append(values)
        return torch.stack(found)

    def threshold(self, support: Examples, rate: float, together: bool = False) -> Tensor:
        """What looks less familiar than this is unknown, at a rate of false alarms.

        Args:
            support: Features [T, S, features] with labels.
            rate: The share of the queries of known classes that may be called unknown.
            together: Whether queries are judged together.

        Returns:
            [T]
        """
        table = self.table_together if together else self.table
        assert table is not None
        assert self.shots is not None
        assert self.expected is not None
        assert self.slope is not None
        mean_shots = support.y.shape[1] / (int(support.y.max()) + 1)
        row = max(int((self.shots.cpu() <= mean_shots).sum()) - 1, 0)  # the largest number of shots that is no larger
        grid = torch.linspace(0, 1, _POINTS, device=support.x.device, dtype=torch.float64)
        base = _interpolated(grid, table[row].to(grid), rate)
        left_out = self._left_out(support)
        if left_out is None or not self.slope[row]:
            return base.to(support.x).expand(len(support.y))
        return (base + self.slope[row] * (left_out - self.expected[row])).to(support.x)

    def _of(self, transformed: Tensor, nearest: Tensor) -> Tensor:
        if self.background is None or self.share is None or not self.share:
            return nearest
        background = self.background.to(transformed)
        similar = transformed @ background.T
        return nearest - self.share.to(nearest) * similar.topk(min(_NEAREST, len(background)), -1).values.mean(-1)

    def _left_out(self, support: Examples) -> Tensor | None:
        """The mean familiarity [T] of support examples to their own class without them; None where classes have one."""
        z = self.transformed(support.x)
        members = F.one_hot(support.y).to(z)  # [T, S, ways]
        counts = members.sum(1).gather(1, support.y)  # [T, S]
        sums = members.transpose(1, 2) @ z  # [T, ways, features]
        own = sums.gather(1, support.y.unsqueeze(-1).expand_as(z)) - z
        several = counts > 1
        if not several.any():
            return None
        similar = (F.normalize(own, dim=-1) * z).sum(-1)
        familiar = self._of(z, similar)
        return (familiar * several).sum(1) / several.sum(1).clamp(min=1)

    def _best(
        self, name: str, candidates: tuple[float, ...], tasks: dict[int, tuple[Examples, Tensor, Tensor]], together: bool
    ) -> Tensor:
        """The candidate with the highest mean AUROC in the simulated tasks; the first of equally good ones."""
        assert self.mean is not None
        found = []
        for candidate in candidates:
            setattr(self, name, self.mean.new_tensor(candidate))
            scores = [auroc(*self._of_both(*task, together)) for task in tasks.values()]
            found.append(torch.cat(scores).mean())
        rounded = torch.stack(found).round(decimals=_DIGITS)  # so that rounding errors, as between devices, decide nothing
        return self.mean.new_tensor(candidates[int(rounded.argmax())])

    def _of_both(self, support: Examples, known: Tensor, strangers: Tensor, together: bool) -> tuple[Tensor, Tensor]:
        """The familiarity of queries [T, Q] and of strangers [T, U]."""
        familiar = self(support, torch.cat([known, strangers], dim=1), together)
        return familiar[:, : known.shape[1]], familiar[:, known.shape[1] :]

    def _calibrated(self, support: Examples, known: Tensor, strangers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The expected familiarity of left-out examples, its slope, and quantiles of the corrected familiarity."""
        alone, together = (self._of_both(support, known, strangers, which)[0] for which in (False, True))
        left_out = self._left_out(support)
        correction = slope = expected = alone.new_zeros([])
        if left_out is not None:
            expected = left_out.mean()
            deviation = left_out - expected
            slope = (deviation * alone.mean(1)).sum() / deviation.square().sum().clamp(min=1e-12)
            correction = (slope * deviation).unsqueeze(1)
        grid = torch.linspace(0, 1, _POINTS, dtype=alone.dtype, device=alone.device)
        table, table_together = (torch.quantile((judged - correction).flatten(), grid) for judged in (alone, together))
        return expected, slope, table, table_together

    def broken(self, found: Mapping[str, Tensor]) -> str | None:
        if not found:
            return None
        if missing := [name for name in self.NAMES if name not in found and name != "sample"]:
            return f"{missing[0]} is missing"
        rows = len(found["shots"]) if found["shots"].dim() == 1 else 0
        expected: dict[str, tuple[int | None, ...]] = {
            "mean": (self.features,),
            "background": (None, self.features),
            "share": (),
            "apart": (),
            **dict.fromkeys(("shots", "expected", "slope"), (rows,)),
            **dict.fromkeys(("table", "table_together"), (rows, _POINTS)),
            "sample": (None, None, self.features),
        }
        for name, value in found.items():
            sizes = zip(value.shape, expected[name], strict=False)
            if value.dim() != len(expected[name]) or not all(own > 0 and size in (None, own) for own, size in sizes):
                return f"{name} has the shape {list(value.shape)}"
            if not value.is_floating_point() and (name != "shots" or value.is_complex() or value.dtype is torch.bool):
                return f"{name} has no real numbers"
            if value.is_meta:
                continue
            if not value.isfinite().all():
                return f"{name} has numbers that are not finite"
            if not (value.double().abs() <= _MOST.get(name, torch.inf)).all():
                return f"{name} has numbers beyond {_MOST[name]:g}"
            if name in _ORDERED and not (value.double().diff() >= -_ROUNDING).all():
                return f"{name} has quantiles that decrease"
        shots = found["shots"]
        if not shots.is_meta and not ((shots > 0).all() and (shots.double().diff() > 0).all()):
            return "shots are not in order"
        return None


def _rooted(features: Tensor) -> Tensor:
    """Features of length 1, after a square root that keeps the sign."""
    return F.normalize(
        features.abs().add(_EPSILON).sqrt() * features.sign().where(features != 0, features.new_ones([])), dim=-1
    )


def _nearest(z: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest cosines of features z [N, features] of length 1 to the others, and whose they are: both [N, count]."""
    found, size = [], max(1, _NUMBERS_AT_ONCE // len(z))
    for first in range(0, len(z), size):
        cosine = z[first : first + size] @ z.T
        cosine.diagonal(first).fill_(-1)
        found.append(cosine.topk(count, -1))
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


def _tasks(features: Tensor, shots: int, random: torch.Generator) -> tuple[Examples, Tensor, Tensor]:
    """Simulated tasks: support sets, queries of their classes, and queries of other classes."""
    classes, images, _ = features.shape
    ways = max(1, min(_WAYS, classes - 1))
    queries = min(_QUERIES, images - shots)
    order = torch.stack([torch.randperm(classes, generator=random) for _ in range(_TASKS)])  # [T, classes]
    places = torch.stack([torch.randperm(images, generator=random) for _ in range(_TASKS * 2 * ways)])
    places = places.view(_TASKS, 2 * ways, images)
    own, others = order[:, :ways], order[:, ways : 2 * ways]
    of = features.cpu()
    support = of[own[..., None], places[:, :ways, :shots]].flatten(1, 2)
    known = of[own[..., None], places[:, :ways, shots : shots + queries]].flatten(1, 2)
    strange = of[others[..., None], places[:, ways : ways + others.shape[1], :queries]].flatten(1, 2)
    y = torch.arange(ways).repeat_interleave(shots).expand(_TASKS, -1)
    return Examples(support, y), known, strange


def auroc(positive: Tensor, negative: Tensor) -> Tensor:
    """The probability [T] that a positive value [T, P] exceeds a negative one [T, N]; ties count half (Mann-Whitney)."""
    ordered, positive = negative.sort(-1).values, positive.contiguous()
    below, not_above = (torch.searchsorted(ordered, positive, right=right) for right in (False, True))
    return (below + not_above).double().mean(-1) / (2 * negative.shape[-1])


def _interpolated(grid: Tensor, values: Tensor, at: float) -> Tensor:
    place = min(max(at, 0.0), 1.0) * (len(grid) - 1)
    below = min(int(place), len(grid) - 2)
    return values[below] + (place - below) * (values[below + 1] - values[below])
