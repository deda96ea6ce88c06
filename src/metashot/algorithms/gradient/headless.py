"""The base class of gradient-based algorithms without a head.

The adapted backbone embeds queries and support examples, and their features are compared, so that a task can have any number
of classes.
"""

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
    """A backbone that adapts to each task by gradient steps, and answers by comparing features.

    A subclass implements `support_loss` and `compare`, and as every gradient-based algorithm `update`.

    Raises:
        BadInput: `inner_loss` names a loss of a head's answers.
    """

    takes_head = False

    def __init__(self, **learner: Any) -> None:
        if learner["inner_loss"] != "auto":
            raise BadInput(
                f"algo.inner_loss={learner['inner_loss']} is a loss of a head's answers, and this algorithm has no head: "
                "leave it out"
            )
        super().__init__(**learner)
        self.inner_loss = self.support_loss

    def network_on(self, backbone: Backbone, problem: Problem) -> FeatureNetwork:
        return FeatureNetwork(backbone)

    @abstractmethod
    def support_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """The loss that the inner loop minimises on the support set of one task.

        An engine may run it for all tasks at once (`torch.func.vmap`), so its control flow and shapes must not depend on the
        values of `y`, as the number of classes does.

        Args:
            features: [1, S, features].
            y: Targets [1, S, ...].

        Returns:
            A scalar.
        """

    @abstractmethod
    def compare(self, support: Examples, query: Tensor) -> Tensor:
        """Answer queries by comparing their features with those of the support set.

        Args:
            support: Features `x` [T, S, features] with their targets `y`.
            query: Features [T, Q, features].

        Returns:
            Answers [T, Q, ...].
        """

    def run_inner_loop(self, support: Support, *rest: Any, **options: Any) -> InnerLoopResult:
        result = super().run_inner_loop(support, *rest, **options)
        if not isinstance(support, Examples) or not result.answers.shape[1]:
            return result
        answers = [self._compare(features, support.y) for features in result.answers.unbind(1)]
        return result._replace(answers=torch.stack(answers, dim=1))

    def answer_queries(self, adapted: AdaptedTasks, query_x: Tensor) -> Tensor:
        return self._compare(super().answer_queries(adapted, query_x), adapted.support.y)

    def _compare(self, features: Tensor, y: Tensor) -> Tensor:
        """Answers from the features [T, S + Q, features] of support examples and queries."""
        count = y.shape[1]
        return self.compare(Examples(features[:, :count], y), features[:, count:])
