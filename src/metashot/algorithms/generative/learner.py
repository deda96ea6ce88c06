"""The base class of algorithms that make more examples of each class of a task, from which a classifier then learns.

A generator is trained on the training classes, on features of a backbone that does not change. For each class of a task it
makes `made` features, each from one example of the support set and random numbers, and the classifier learns from real and
made examples together. The random numbers are a function of the episode's number, the class and the place of the made
example: neither the batch nor the device changes an answer, and fewer made examples are the first of more.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.base import MadeMeasures
from metashot.algorithms.centring import CentresFeatures, FeatureNormalisation, Normalise
from metashot.algorithms.closed_form.logistic import logistic_regression
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import class_means, cosines, memberships, squared_distances
from metashot.algorithms.transfer.baseline import linear_logits
from metashot.algorithms.transfer.fitting import Classifier, Fit
from metashot.arguments import AtLeast, AtMost
from metashot.backbones.base import Backbone
from metashot.episodes import Batch, Episode, Examples
from metashot.problems import Problem
from metashot.randomness import key_of, normal

_KEY = key_of("made examples")
_SCALE = 10.0  # of cosines; validation episodes calibrate the temperature
_AT_ONCE = 1024  # examples that are made in one pass
_MADE_IN_TRAINING = 5  # of a class, with which training steps are scored

Made = Annotated[int, AtLeast(0), AtMost(10_000)]


class Pairs(NamedTuple):
    """Pairs of examples of the same class: P of them, from T tasks."""

    task: Tensor  # [P]
    anchor: Tensor  # [P, features], from the support set
    target: Tensor  # [P, features], from the queries
    anchor_place: Tensor  # [P], among the support examples of the task
    target_place: Tensor  # [P], among its queries

    def mean(self, values: Tensor, tasks: int) -> Tensor:
        """The mean over tasks of the mean over their pairs of values [P], so that tasks have the same weight."""
        sums, counts = values.new_zeros(tasks), values.new_zeros(tasks)
        sums = sums.index_add(0, self.task, values)
        counts = counts.index_add(0, self.task, torch.ones_like(values))
        return (sums / counts.clamp(min=1)).mean()


class GenerativeLearner(CentresFeatures):
    """Learns a classifier from real and made examples.

    A subclass implements `generate`, sets `noise_size`, and trains its networks.

    Args:
        made: The number of made examples of each class; 0 for none.
        classifier: `mean` compares with class means by cosine, `logistic` is logistic regression on normalised features, and
            `head` a linear layer that is fitted by gradient descent.
        regularisation: The weight of half the squared norm in logistic regression.
        fit: How the linear layer is fitted.
        normalise: How features are normalised before anything is made of them.
    """

    needs_features = True
    noise_size: int  # random numbers of a made example

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        made: Made,
        classifier: Literal["mean", "logistic", "head"],
        regularisation: Annotated[float, AtLeast(1e-6), AtMost(1e6)],
        fit: Fit,
        normalise: Normalise,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.made = made
        self.classifier = classifier
        self.regularisation = regularisation
        self.fit = fit
        self.normalised = FeatureNormalisation(normalise, backbone.features)
        # Features of length 1 are scaled so that each is around 1.
        self.scale = 1.0 if normalise == "none" else backbone.features**0.5
        self.terms: list[tuple[int, Mapping[str, Tensor]]] = []  # of the losses in this step, with their numbers of tasks

    @abstractmethod
    def generate(self, anchors: Tensor, noise: Tensor) -> Tensor:
        """Make examples.

        Args:
            anchors: Examples [N, features].
            noise: Standard normal random numbers [N, noise_size].

        Returns:
            Examples of the same classes [N, features].
        """

    @property
    def task_steps(self) -> int:
        return self.fit.steps if self.classifier == "head" else 0

    def on_train_start(self) -> None:
        """The mean feature is known before the first step: the generator is trained on centred features."""
        super().on_train_start()
        self._centre()

    def on_validation_start(self) -> None:
        self._centre()
        super().on_validation_start()

    def _centre(self) -> None:
        if self.normalised.kind == "centre_l2" and not self.normalised.mean.any():
            self.normalised.mean.copy_(self._training_mean())

    def _training_mean(self) -> Tensor:
        """The mean feature, which stays as it is: the features that the generator knows may not move."""
        return self.normalised.mean.clone() if self.normalised.mean.any() else super()._training_mean()

    def inputs_of(self, features: Tensor) -> Tensor:
        """Features as the generator knows them: normalised, each around 1."""
        found: Tensor = self.scale * self.normalised(features)
        return found

    def summary(self, support: Examples) -> Classifier:
        return self.learned(support, torch.zeros(len(support.y), dtype=torch.int64))

    def learned(self, support: Examples, numbers: Tensor) -> Classifier:
        """The classifiers of T tasks, from support features [T, S, features] and the numbers [T] of the episodes."""
        real = replace(support, x=self.inputs_of(support.x))
        return self.classifier_of(self.with_made(real, self.examples_made(real, numbers)), real.y.shape[1])

    def answer(self, classifier: Classifier, query: Tensor) -> Tensor:
        query = self.inputs_of(query)
        if self.classifier == "mean":
            return _SCALE * cosines(query, classifier[0])
        with torch.autocast(query.device.type, enabled=False):
            return linear_logits(classifier, query if self.classifier == "head" else F.normalize(query, dim=-1))

    def answers_to(self, episode: Episode) -> Tensor:
        support, query = self.features_of(episode)
        return self.answer(self.learned(support, episode.number), query.x)

    def classifier_of(self, examples: Examples, real: int) -> Classifier:
        """Learn the classifiers of T tasks from examples [T, N, features], as the generator knows them.

        Of `real` support examples, copies would change no classifier: a regularisation grows with the number of examples.
        """
        x, y = examples.x.detach(), examples.y
        if self.classifier == "mean":
            return (class_means(F.normalize(x, dim=-1), y),)
        if self.classifier == "logistic":
            line = logistic_regression(F.normalize(x, dim=-1), memberships(y, x), self.regularisation * x.shape[1] / real)
            return line.weights.mT, line.biases[:, 0]
        ways = int(y.max()) + 1
        start = x.new_zeros(len(x), ways, x.shape[2]), x.new_zeros(len(x), ways)
        return self.fit(linear_logits, start, replace(examples, x=x))

    def with_made(self, real: Examples, made: Examples) -> Examples:
        """Real and made examples together."""
        return Examples(torch.cat([real.x, made.x], 1), torch.cat([real.y, made.y], 1))

    def generated(self, support: Examples, made: int) -> Examples:
        """Make examples of each class of a support set with features [S, features]: normalised features, class by class."""
        real = Examples(self.inputs_of(support.x)[None], support.y[None])
        found = self.examples_made(real, torch.zeros(1, dtype=torch.int64), made)
        return Examples(found.x[0] / self.scale, found.y[0])

    @torch.no_grad()
    def examples_made(self, real: Examples, numbers: Tensor, made: int | None = None) -> Examples:
        """Make examples of each class of T tasks: [T, ways * made, features], class by class.

        The examples of a class take turns.

        Args:
            real: Support examples [T, S, features], as the generator knows them.
            numbers: The numbers [T] of the episodes.
            made: The number of examples of a class; None for that of the learner.
        """
        made = self.made if made is None else made
        tasks, _, features = real.x.shape
        places = anchor_places(real.y, made)  # [T, ways, made]
        ways = places.shape[1]
        y = torch.arange(ways, device=real.y.device).repeat_interleave(made).expand(tasks, -1)
        if not made:
            return Examples(real.x[:, :0], y)
        anchors = real.x.gather(1, places.flatten(1).unsqueeze(-1).expand(-1, -1, features))
        noise = noise_of(numbers, ways, made, self.noise_size).to(real.x).flatten(1, 2)
        with torch.autocast(real.x.device.type, enabled=False):
            parts = zip(*(torch.split(each.flatten(0, 1), _AT_ONCE) for each in (anchors, noise)), strict=True)
            x = torch.cat([self.generate(*part) for part in parts])
        return Examples(x.view(tasks, -1, features), y)

    @torch.no_grad()
    def measures_of_made(self, episode: Episode) -> MadeMeasures | None:
        if not self.made:
            return None
        support, query = self.features_of(episode)
        real = replace(support, x=self.inputs_of(support.x))
        made = self.examples_made(real, episode.number)
        classifiers = [self.classifier_of(learned, real.y.shape[1]) for learned in (real, made)]
        scores = [
            self.problem.score_of(self.problem.statistics(self.answer(classifier, query.x), query.y))
            for classifier in classifiers
        ]
        asked = replace(query, x=self.inputs_of(query.x))
        places = anchor_places(real.y, self.made).flatten(1)  # [T, ways * made]
        anchors = real.x.gather(1, places.unsqueeze(-1).expand_as(made.x))
        found = [resemblance(made.x[t], anchors[t], made.y[t], asked.x[t], asked.y[t]) for t in range(len(episode))]
        return MadeMeasures(scores[0], scores[1], *(torch.stack(values) for values in zip(*found, strict=True)))

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        """Embed each episode once, for the answers and for what made examples are worth."""
        return super().test_step([self._embedded(episode) for episode in batch], batch_idx)

    def _embedded(self, episode: Episode) -> Episode:
        if episode.embedded or episode.strangers is not None:
            return episode
        support, query = self.features_of(episode)
        return replace(episode, support=support, query=query, embedded=True)

    def features_of(self, episode: Episode) -> tuple[Examples, Examples]:
        """The features of support set and queries, with their labels."""
        support, query = episode.support, episode.query
        if episode.embedded:
            return support, query
        count = support.x.shape[1]
        features = self.embed(torch.cat([support.x, query.x], dim=1), support=count)
        return replace(support, x=features[:, :count]), replace(query, x=features[:, count:])

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        self.terms = []
        found = super().training_step(batch, batch_idx)
        return found | self.mean_terms()

    def mean_terms(self) -> dict[str, Tensor]:
        """The terms of the losses of this step, averaged over tasks."""
        tasks = sum(count for count, _ in self.terms)
        names = self.terms[0][1] if self.terms else {}
        return {name: torch.stack([terms[name].detach() * (n / tasks) for n, terms in self.terms]).sum() for name in names}

    def pairs_of(self, support: Examples, query: Examples) -> Pairs:
        """All pairs of a support example and a query of its class, as the generator knows them."""
        task, q, s = (query.y.unsqueeze(2) == support.y.unsqueeze(1)).nonzero().unbind(1)
        with torch.no_grad():
            anchors, targets = self.inputs_of(support.x), self.inputs_of(query.x)
        return Pairs(task, anchors[task, s], targets[task, q], s, q)

    @torch.no_grad()
    def training_answers(self, support: Examples, query: Examples, numbers: Tensor) -> Tensor:
        """The answers that training steps are scored with: those of class means, from a few made examples."""
        real = replace(support, x=self.inputs_of(support.x))
        both = self.with_made(real, self.examples_made(real, numbers, min(self.made, _MADE_IN_TRAINING)))
        means = class_means(F.normalize(both.x, dim=-1), both.y)
        return _SCALE * cosines(self.inputs_of(query.x), means)


def anchor_places(y: Tensor, made: int) -> Tensor:
    """The places [T, ways, made] of the support examples, with labels [T, S], that examples are made from in turn."""
    counts = F.one_hot(y).sum(1)  # [T, ways]
    first = counts.cumsum(1) - counts
    turn = torch.arange(made, device=y.device) % counts.unsqueeze(-1)  # [T, ways, made]
    order = y.argsort(dim=1, stable=True)
    return order.gather(1, (first.unsqueeze(-1) + turn).flatten(1)).view_as(turn)


def noise_of(numbers: Tensor, rows: int, count: int, size: int, stream: int = 0) -> Tensor:
    """Standard normal random numbers of episodes: [T, rows, count, size].

    Args:
        numbers: The numbers [T] of the episodes.
        rows: Each row, such as a class, has random numbers of its own, whatever the number of rows.
        count: Fewer are the first of more.
        size: Random numbers of each.
        stream: Tells several uses in the same episode apart.
    """
    number = numbers.cpu().numpy().astype(np.int64)[:, None]  # [T, 1]
    streams = np.arange(rows, dtype=np.uint64) + (np.uint64(stream) << np.uint64(24))
    found = normal(_KEY, np.broadcast_to(number, (len(number), rows)), streams, count * size)
    return torch.from_numpy(found).view(len(numbers), rows, count, size)


class Resemblance(NamedTuple):
    """How well made examples of one task can be told from real ones, and how many of them are copies; means over classes.

    Attributes:
        told: The leave-one-out accuracy of the nearest neighbour among equally many made and real examples of a class (after
            Lopez-Paz, Oquab 2017, "Revisiting classifier two-sample tests", arXiv:1610.06545).
        copies: The share of made examples that are closer to their anchor than any real example of the class.
        told_expected: The expected accuracy where both have the same distribution: of the 2n - 1 others, n - 1 are of the
            kind of the one that is left out.
        copies_expected: The expected share in this case, where none of the n + 1 examples is more likely to be the nearest.
    """

    told: Tensor
    copies: Tensor
    told_expected: Tensor
    copies_expected: Tensor


def resemblance(made: Tensor, anchors: Tensor, made_y: Tensor, real: Tensor, real_y: Tensor) -> Resemblance:
    """Compare the made examples of one task with real ones.

    Args:
        made: Made examples [M, features].
        anchors: The examples [M, features] that they were made from.
        made_y: Their labels [M].
        real: Other real examples [N, features].
        real_y: Their labels [N].
    """
    found = []
    for label in range(int(made_y.max()) + 1):
        ours, theirs, origin = made[made_y == label], real[real_y == label], anchors[made_y == label]
        count = min(len(ours), len(theirs))
        if not count:
            continue
        nearest_real = squared_distances(origin[None], theirs[None])[0].amin(1)
        copies = ((ours - origin).square().sum(-1) < nearest_real).to(made).mean()
        both = torch.cat([ours[:count], theirs[:count]])
        distances = squared_distances(both[None], both[None])[0].fill_diagonal_(torch.inf)
        is_made = torch.arange(2 * count, device=made.device) < count
        told = (is_made[distances.argmin(1)] == is_made).to(made).mean()
        expected = made.new_tensor([(count - 1) / (2 * count - 1), 1 / (len(theirs) + 1)])
        found.append(torch.cat([torch.stack([told, copies]), expected]))
    return Resemblance(*torch.stack(found).mean(0))


def one_hidden_layer(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """A network with one hidden layer."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Dropout(dropout), nn.Linear(hidden, outputs))
