"""Gradient-based algorithms without a head: the adapted backbone's features of queries are compared with those of the
support set, so that a task may have any number of classes."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from metashot.algorithms.gradient.learner import AdaptedTasks, GradientLearner
from metashot.algorithms.gradient.network import FeatureNetwork
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.engines.inner import InnerLoopResult, Support
from metashot.episodes import Examples
from metashot.problems import Problem


class HeadlessLearner(GradientLearner):
    """A subclass writes `support_loss`, `compare`, and as every gradient-based algorithm `update`."""

    takes_head = False

    def __init__(self, **learner: Any) -> None:
        if learner["inner_loss"] != "auto":
            raise BadInput(
                f"algo.inner_loss={learner['inner_loss']} judges the answers of a head, which this algorithm "
                "lacks: leave it out"
            )
        super().__init__(**learner)
        self.inner_loss = self.support_loss

    def network_on(self, backbone: Backbone, problem: Problem) -> FeatureNetwork:
        return FeatureNetwork(backbone)

    @abstractmethod
    def support_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """What a task minimises, of features [1, S, features] and targets [1, S, ...] of its support set.

        An engine may run it for all tasks at once (`torch.func.vmap`), so it must not look at the values of `y`, as counting
        classes would.
        """

    @abstractmethod
    def compare(self, support: Examples, query: Tensor) -> Tensor:
        """Answers [T, Q, ...] to queries with the features `query`, beside a support set with the features `support.x`."""

    def run_inner_loop(self, support: Support, *rest: Any, **options: Any) -> InnerLoopResult:
        adapted = super().run_inner_loop(support, *rest, **options)
        if not isinstance(support, Examples) or not adapted.answers.shape[1]:
            return adapted
        answers = [self._compared(features, support.y) for features in adapted.answers.unbind(1)]
        return adapted._replace(answers=torch.stack(answers, dim=1))

    def answer_queries(self, learned: AdaptedTasks, query_x: Tensor) -> Tensor:
        return self._compared(super().answer_queries(learned, query_x), learned.support.y)

    def _compared(self, features: Tensor, y: Tensor) -> Tensor:
        """Answers, from the features [T, S + Q, features] of both."""
        count = y.shape[1]
        return self.compare(Examples(features[:, :count], y), features[:, count:])
