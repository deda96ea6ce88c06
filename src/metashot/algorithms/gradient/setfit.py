"""SetFit: Tunstall et al. 2022, "Efficient few-shot learning without prompts", arXiv:2209.11055.

For each task a copy of a trained encoder is fine-tuned on pairs of support examples, so that the cosine of their
features is 1 for a pair of one class and 0 for a pair of two; a logistic regression is then fitted to the features of the
support set. Nothing is learned from training episodes, so `trainer.max_steps` is 0, and the encoder itself stays as it is.

In each of R rounds (`iterations`, as in the authors' package) every support example is an anchor twice: with an example
of its own class and with one of another. These 2 R S pairs come in random order, `pairs` in a step of AdamW, whose rate
rises over the first tenth of the steps and then falls to zero. A partner is drawn when its pair is needed, so that no list
of all pairs exists, whose length would be S^2. All draws are a function of the labels alone. With one example of a class,
its own class offers the example itself, whose pair has no gradient.

Where this departs from the authors' package (huggingface/setfit): nothing is dropped at random, so that an episode's answers
are reproducible; weight decay applies to all weights; features are divided by their lengths before the logistic regression,
as its encoders mostly do anyway.
"""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from metashot.algorithms.closed_form.logistic import Line, logistic_regression
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import memberships
from metashot.arguments import AtLeast, AtMost, Count, NotNegative, Positive
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from metashot.problems import Problem
from metashot.randomness import key_of, random_words

_WARM_UP = 0.1  # the share of the steps in which the learning rate rises
_MOST_NORM = 1.0  # of a gradient
_ORDER, _PARTNER = 0, 1  # streams of random numbers

Parameters = dict[str, Tensor]  # of a fine-tuned backbone, by their names


class Pairs(NamedTuple):
    """Pairs of support examples."""

    anchors: NDArray[np.int64]  # positions in the support set
    partners: NDArray[np.int64]
    same: NDArray[np.bool_]  # whether both are of one class


class Tuned(NamedTuple):
    """What T tasks have learned."""

    parameters: list[Parameters]
    lines: Line


class SetFit(FeatureLearner):
    """Contrastive fine-tuning of the backbone on pairs, then logistic regression.

    Args:
        backbone: A trained backbone.
        problem: The classes.
        iterations: R, how often each support example is the anchor of a pair of each kind.
        pairs: The pairs in a step.
        lr: The largest learning rate.
        weight_decay: That of AdamW.
        regularisation: Lambda of the logistic regression.
        optimizer: Not used, since nothing is trained.

    Raises:
        BadInput: The backbone has no weights that may adapt, or its features depend on other examples.
    """

    trains = False

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        iterations: Annotated[int, AtLeast(1), AtMost(10_000)],
        pairs: Count,
        lr: Positive,
        weight_decay: NotNegative,
        regularisation: Annotated[float, AtLeast(1e-6), AtMost(1e6)],
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.iterations = iterations
        self.pairs = pairs
        self.lr = lr
        self.weight_decay = weight_decay
        self.regularisation = regularisation
        fixed = {id(one) for part in backbone.modules() if not _adapts(part) for one in part.parameters()}
        self.adapted_names = tuple(name for name, value in backbone.named_parameters() if id(value) not in fixed)
        if not self.adapted_names:
            raise BadInput(
                "algo=setfit fine-tunes a copy of the backbone's weights for each task, and this backbone has none that may "
                "change: choose another one, such as backbone=sentence, or a learner of features such as algo=logistic"
            )
        if not backbone.embeds_independently:
            raise BadInput(
                f"backbone.normalisation={backbone.normalisation} lets features depend on other examples, but algo=setfit "
                "compares pairs: give backbone.normalisation=running or none"
            )

    @property
    def embeds_independently(self) -> bool:
        return False  # every task has a backbone of its own

    def steps(self, support: int) -> int:
        """The number of steps for support sets of this size."""
        return -(-2 * self.iterations * support // self.pairs)

    def adapt(self, support: Examples) -> Tuned:
        tuned = [self._tuned(x, y) for x, y in zip(support.x, support.y, strict=True)]
        return Tuned(tuned, self.summary(Examples(self._embedded(tuned, support.x), support.y)))

    def answer_queries(self, adapted: Tuned, query_x: Tensor) -> Tensor:
        return self.answer(adapted.lines, self._embedded(adapted.parameters, query_x))

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        # One task at a time, so that there is one copy of the backbone.
        answers = []
        for task in range(len(query_x)):
            own = slice(task, task + 1)
            answers.append(self.answer_queries(self.adapt(Examples(support.x[own], support.y[own])), query_x[own]))
        return torch.cat(answers)

    def summary(self, support: Examples) -> Line:
        x = F.normalize(support.x.detach(), dim=-1)
        return logistic_regression(x, memberships(support.y, x), self.regularisation)

    def answer(self, line: Line, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            return F.normalize(query, dim=-1) @ line.weights + line.biases

    def features_before_and_after(self, episode: Episode) -> tuple[Tensor, Tensor | None]:
        before, _ = super().features_before_and_after(episode)
        both = torch.cat([episode.support.x, episode.query.x], dim=1)
        return before, self._embedded(self.adapt(episode.support).parameters, both)

    def refuse_strangers(self) -> None:
        raise BadInput(
            "algo=setfit cannot tell what is unknown, since features change from task to task: leave strangers and unknown "
            "out, or use algo=protonet"
        )

    def _tuned(self, x: Tensor, y: Tensor) -> Parameters:
        """The parameters after fine-tuning on a support set of x [S, ...] and y [S]."""
        own = dict(self.backbone.named_parameters())
        theta = {name: own[name].detach().clone().requires_grad_() for name in self.adapted_names}
        count = self.steps(len(x))
        optimizer = torch.optim.AdamW(theta.values(), lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, count))
        for pairs in pairs_of(y.cpu().numpy(), self.iterations, self.pairs):
            places = torch.from_numpy(np.concatenate([pairs.anchors, pairs.partners])).to(x.device)
            with torch.enable_grad():
                anchors, partners = self._with(theta, x[places]).chunk(2)
                target = torch.from_numpy(pairs.same).to(anchors)
                loss = F.mse_loss(F.cosine_similarity(anchors, partners, dim=-1), target)
                gradients = torch.autograd.grad(loss, list(theta.values()), allow_unused=True)
            for value, gradient in zip(theta.values(), gradients, strict=True):
                value.grad = gradient
            nn.utils.clip_grad_norm_(theta.values(), _MOST_NORM)
            optimizer.step()
            schedule.step()
        return {name: value.detach() for name, value in theta.items()}

    def _embedded(self, tuned: list[Parameters], x: Tensor) -> Tensor:
        """Features [T, N, features] of x [T, N, ...], each task with its own backbone."""
        with torch.no_grad():
            return torch.stack([self._with(theta, own) for theta, own in zip(tuned, x, strict=True)])

    def _with(self, theta: Parameters, x: Tensor) -> Tensor:
        """Features [N, features] of x [N, ...] by the backbone with these parameters."""
        found: Tensor = torch.func.functional_call(self.backbone, theta, (x[None], len(x)))
        return found[0].to(self.dtype)


def pairs_of(y: NDArray[np.int64], iterations: int, size: int) -> Iterator[Pairs]:
    """Draw the pairs of a support set, step by step.

    Args:
        y: The labels of the support set, [S].
        iterations: How often each example is the anchor of a pair of each kind.
        size: The pairs in a step; the last one may have fewer.
    """
    key, total = key_of("setfit"), 2 * iterations * len(y)
    order = random_words(key, np.zeros(1, np.int64), _ORDER, total)[0].argsort(kind="stable")
    members = {label: np.flatnonzero(y == label) for label in np.unique(y).tolist()}
    others = {label: np.flatnonzero(y != label) for label in members}
    for first in range(0, total, size):
        numbers = order[first : first + size]
        anchors, same = numbers // 2 % len(y), numbers % 2 == 0
        words = random_words(key, numbers, _PARTNER, 1)[:, 0].astype(np.int64)
        partners = np.empty_like(anchors)
        for place, (anchor, is_same, word) in enumerate(zip(anchors, same, words, strict=True)):
            own = members[int(y[anchor])]
            offered = others[int(y[anchor])] if not is_same else own[own != anchor]
            partners[place] = offered[word % len(offered)] if len(offered) else anchor
        yield Pairs(anchors, partners, y[anchors] == y[partners])


def learning_rate(step: int, steps: int) -> float:
    """The share of the largest learning rate in a step: it rises linearly, and then falls linearly."""
    rising = int(_WARM_UP * steps)
    if step < rising:
        return step / rising
    return (steps - step) / max(1, steps - rising)


def _adapts(part: nn.Module) -> bool:
    return not isinstance(part, Backbone) or part.may_adapt
