"""The base class of gradient-based algorithms: a network that adapts to each task by inner steps that subclasses define."""

from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metashot.algorithms.base import Algorithm, TrainingStep
from metashot.algorithms.gradient.inner_loss import InnerLossName, loss_named
from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.algorithms.gradient.minibatches import minibatches
from metashot.algorithms.gradient.network import FeatureNetwork, Network
from metashot.algorithms.optimization import Optimization
from metashot.arguments import AtLeast, AtMost, Count, NotNegative, Positive, Steps
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.engines.calling import Methods
from metashot.engines.inner import Engine, InnerLoop, InnerLoopResult, OptimizerState, Parameters, Support
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Problem, Regression

_WATCHED = 10  # the number of initial inner steps that are scored in tests, besides the last one


class AdaptedTasks(NamedTuple):
    """The networks adapted to T support sets."""

    parameters: Parameters  # [T, ...], the adapted ones
    support: Examples


class GradientLearner(Algorithm):
    """A network that adapts to each task by gradient steps.

    A subclass implements `update`, the inner step of its paper, or `initial_state` and `inner_step` where a step needs more
    than gradients. It may also override the outer loss (`training_loss`), the step sizes (`step_sizes`), the initial
    parameters of each task (`initial_parameters`) and the network (`network_on`).

    Args:
        backbone: The network up to the features; it must not draw random numbers.
        problem: What the answers are and how they are scored.
        engine: How the inner loops run.
        adapts: Patterns for the names of the parameters that adapt, such as `head.*`. A pattern with a leading minus removes
            names that earlier patterns added.
        inner_lr: The step size, or the initial one if it is learned.
        inner_steps: The number of inner steps in training.
        test_inner_steps: The number of inner steps in validation, tests and use.
        inner_batch: The number of support examples in each inner step; None for all of them.
        inner_loss: The loss that the inner loop minimises.
        inner_optimizer: Turns gradients into the directions of inner steps.
        first_order: Whether to omit second derivatives.
        least_fall: A task whose support loss falls by less in a step undoes the step and stops; None for no such rule.
        checkpoint_inner_steps: Whether to save memory by recomputing each inner step in the backward pass.
        optimizer: The outer optimiser and its schedule.

    Raises:
        BadInput: The arguments contradict each other, or `adapts` matches no parameter.
    """

    network: FeatureNetwork

    solves = (Classification, Regression)

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        engine: Engine,
        adapts: list[str],
        inner_lr: Positive,
        inner_steps: Steps,
        test_inner_steps: Annotated[int, AtLeast(0), AtMost(10_000)],
        inner_batch: Count | None,
        inner_loss: InnerLossName,
        inner_optimizer: InnerOptimizer,
        first_order: bool,
        least_fall: NotNegative | None,
        checkpoint_inner_steps: bool,
        optimizer: Optimization,
    ) -> None:
        super().__init__(optimizer, backbone.transductive, problem)
        if backbone.draws:  # neither batched tasks nor recomputed steps could reproduce the random numbers
            raise BadInput(
                "an algorithm with an inner loop takes gradient steps within a task, for which the backbone must not draw "
                f"random numbers: give backbone.{'drop_block' if hasattr(backbone, 'drop_block') else 'dropout'}=0"
            )
        self.network = self.network_on(backbone, problem)
        self.fixed_ways = self.network.outputs if problem.has_classes else None
        self.engine = engine
        self.adapted_names = self._without_frozen(self._matching(adapts), backbone)  # of the network's parameters
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.inner_batch = inner_batch
        self.inner_loss = loss_named(inner_loss, problem)
        self.inner_optimizer = inner_optimizer
        self.first_order = first_order
        self.least_fall = least_fall
        self.refuse_to_compare_parts("inner_batch", inner_batch)
        self.checkpoint_inner_steps = checkpoint_inner_steps
        self.alpha = self.step_sizes(inner_lr)

    @property
    def batch_size(self) -> int | None:
        """The number of support examples in an inner step; None for all of them."""
        return self.inner_batch

    def refuse_to_compare_parts(self, key: str, size: int | None) -> None:
        """Refuse `least_fall` together with mini-batches: only losses on the same examples can be compared.

        Args:
            key: The name of the mini-batch size under `algo`.
            size: The mini-batch size; None for whole support sets.

        Raises:
            BadInput: Both are given.
        """
        if self.least_fall is not None and size is not None:
            raise BadInput(
                f"algo.least_fall={self.least_fall} compares the losses of whole support sets, but algo.{key}={size} takes "
                "parts of them: set one of the two to null"
            )

    def description(self, device_type: str) -> list[str]:
        engine = self.engine.description(device_type, self.network.backbone.input_shape, self.network.fused)
        return [f"engine: {engine}", *super().description(device_type)]

    def freeze_backbone(self) -> None:
        adapted = [name for name in self.adapted_names if name.startswith("backbone.")]
        if adapted:
            raise BadInput(
                f"freeze_backbone=true leaves the backbone as it is, but the inner loop changes {adapted[0]} and others: "
                + ("leave it out" if self.network.outputs is None else "give algo.adapts=[head.*] too")
            )
        super().freeze_backbone()

    def _without_frozen(self, names: tuple[str, ...], backbone: Backbone) -> tuple[str, ...]:
        """Leave out the parameters that published weights keep frozen; a backbone that is frozen as a whole is refused."""
        if not backbone.is_published:
            return names
        adapted = [name for name in names if name.startswith("backbone.")]
        if adapted and not any(parameter.requires_grad for parameter in backbone.parameters()):
            head = "algo.adapts=[head.*] as algo=anil does, " if self.network.outputs is not None else ""
            raise BadInput(
                f"the inner loop changes {adapted[0]} and others, but the backbone's published weights are frozen: give "
                f"{head}backbone.train=[PATTERN] for what may adapt, or a learner of features such as algo=protonet"
            )
        kept = {name for name, parameter in self.network.named_parameters() if parameter.requires_grad}
        return tuple(name for name in names if name in kept)

    def network_on(self, backbone: Backbone, problem: Problem) -> FeatureNetwork:
        """Build the network that adapts; by default the backbone with a linear head, which fixes the number of outputs."""
        return Network(backbone, problem.outputs)

    def initial_parameters(self, support: Examples) -> Parameters | None:
        """The initial parameters of each task, as a hypernetwork predicts them.

        The outer gradient flows through them into whatever computed them. Where the examples of each inner step are
        collected there is no support set to predict from, and every task starts from the network's own parameters.

        Args:
            support: The support sets of T tasks.

        Returns:
            Parameters [T, ...] for all `adapted_names`; None if every task starts from the network's own parameters.
        """
        return None

    def step_sizes(self, inner_lr: float) -> Any:
        """Build `alpha` of the update; by default the constant `inner_lr`."""
        return inner_lr

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """Take one inner step; not needed where a subclass overrides `inner_step`.

        Args:
            theta: The adapted parameters of one task before the step.
            directions: The gradients of the support loss, as the inner optimiser transforms them.
            step: The number of the step, from 0.

        Returns:
            The parameters theta' after the step.
        """
        raise NotImplementedError

    def initial_state(self, theta: Parameters) -> OptimizerState:
        """What is carried from step to step, before the first one, for parameters [T, ...]; by default the optimiser's."""
        return self.inner_optimizer.initial_state(theta)

    def inner_step(
        self, theta: Parameters, gradients: Parameters, state: OptimizerState, step: int, loss: Tensor
    ) -> tuple[Parameters, OptimizerState]:
        """Take one inner step; by default `update` along the directions of the inner optimiser.

        Args:
            theta: The adapted parameters of one task before the step.
            gradients: The gradients of the support loss.
            state: The state after the step before.
            step: The number of the step, from 0.
            loss: The support loss before the step, a scalar.

        Returns:
            The parameters theta' and the state after the step.
        """
        directions, state = self.inner_optimizer.directions(gradients, state, step)
        return self.update(theta, directions, step), state

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        return self.run_inner_loop(support, query_x).answers[:, -1]

    def adapt(self, support: Examples) -> AdaptedTasks:
        result = self.run_inner_loop(support, support.x[:, :0], answer_after=())
        return AdaptedTasks(result.parameters, support)

    def answer_queries(self, adapted: AdaptedTasks, query_x: Tensor) -> Tensor:
        return self.engine.answer(self._inner_loop((), None), adapted.parameters, adapted.support.x, query_x)

    @property
    def task_steps(self) -> int:
        return self.test_inner_steps

    @property
    def watched_steps(self) -> tuple[int, ...]:
        steps = self.test_inner_steps
        return tuple(sorted({*range(min(steps, _WATCHED) + 1), steps}))

    def answers_after_steps(self, episode: Episode) -> Tensor:
        return self.run_inner_loop(episode.support, episode.query.x, answer_after=self.watched_steps).answers

    def features_before_and_after(self, episode: Episode) -> tuple[Tensor, Tensor | None]:
        start = self.initial_parameters(episode.support)
        x = episode.support.x, episode.query.x
        before = self.network.features(*x) if start is None else self._features(start, *x, 0)
        return before, self.features_after(self.adapt(episode.support), episode.query.x)

    def features_after(self, adapted: AdaptedTasks, query_x: Tensor) -> Tensor:
        """Features [T, S + Q, features] of support examples and queries, by the adapted networks."""
        return self._features(adapted.parameters, adapted.support.x, query_x, max(self.test_inner_steps - 1, 0))

    def _features(self, parameters: Parameters, support_x: Tensor, query_x: Tensor, step: int) -> Tensor:
        """Features [T, S + Q, features] of networks with these parameters [T, ...]."""
        network, features = Methods(self.network), []
        for task in range(len(support_x)):
            theta = {name: value[task] for name, value in parameters.items()}
            x = (x[task : task + 1] for x in (support_x, query_x))
            features.append(network.with_parameters(theta, "features", step, *x))
        return torch.cat(features)

    def tasks_at_once(self, episode: Episode) -> int:
        return self.engine.tasks_at_once(self.network, episode.query.x)

    def training_loss(self, episode: Episode) -> TrainingStep:
        result = self.run_inner_loop(episode.support, episode.query.x, episode.number)
        answers = result.answers[:, -1]
        return TrainingStep(self.problem.loss(answers, episode.query.y), answers, result.losses)

    def run_inner_loop(
        self,
        support: Support,
        query_x: Tensor,
        number: Tensor | None = None,
        answer_after: tuple[int, ...] | None = None,
        first_order: bool | None = None,
    ) -> InnerLoopResult:
        """Adapt to each task and answer its queries.

        Args:
            support: The support sets, or a function that collects the examples of each inner step (`Collect` in
                engines/inner.py).
            query_x: Query inputs [T, Q, ...].
            number: The numbers [T] of the episodes, which determine the mini-batches; None for the same ones in every task.
            answer_after: The numbers of steps after which queries are answered; None for the last step alone.
            first_order: Whether to omit second derivatives; None for the algorithm's own setting.

        Returns:
            The answers after each of these steps, the support losses and the adapted parameters.

        Raises:
            BadInput: Examples are collected, but `inner_batch` or `least_fall` need a fixed support set.
        """
        inner = self._inner_loop(answer_after, first_order)
        if not isinstance(support, Examples):
            if self.batch_size is not None:
                raise BadInput(
                    f"algo.inner_batch={self.batch_size} takes parts of support sets, but this algorithm collects the "
                    "examples of each inner step: set it to null"
                )
            return self.engine(inner, support, query_x)
        batches = None
        examples = support.x.shape[1]
        if self.batch_size is not None and self.batch_size < examples:
            numbers = np.zeros(len(query_x), dtype=np.int64) if number is None else number.cpu().numpy()
            batches = minibatches(numbers, examples, self.batch_size, inner.steps).to(query_x.device)
        return self.engine(inner, support, query_x, batches, self.initial_parameters(support))

    def _inner_loop(self, answer_after: tuple[int, ...] | None, first_order: bool | None) -> InnerLoop:
        steps = self.inner_steps if self.training else self.test_inner_steps
        return InnerLoop(
            network=self.network,
            adapted_names=self.adapted_names,
            outer_parameters=tuple(self.trainable_parameters()),
            loss=self.inner_loss,
            initial_state=self.initial_state,
            update=self.inner_step,
            steps=steps,
            first_order=self.first_order if first_order is None else first_order,
            answer_after=(steps,) if answer_after is None else answer_after,
            least_fall=self.least_fall,
            recompute=self.checkpoint_inner_steps,
        )

    def _matching(self, patterns: list[str]) -> tuple[str, ...]:
        names = [name for name, _ in self.network.named_parameters()]
        adapting: set[str] = set()
        for pattern in patterns:
            matched = {name for name in names if fnmatchcase(name, pattern.removeprefix("-"))}
            takes_out_of_nothing = pattern.startswith("-") and all(name.startswith("head.") for name in names)
            if not matched and not takes_out_of_nothing:  # (a backbone without parameters has no layers to leave out)
                raise BadInput(f"algo.adapts={pattern} matches no parameter of the network; it has {', '.join(names)}")
            adapting = adapting - matched if pattern.startswith("-") else adapting | matched
        if not adapting:
            given = ",".join(patterns)
            raise BadInput(f"algo.adapts=[{given}] adapts no parameter; the network has {', '.join(names)}")
        return tuple(name for name in names if name in adapting)
