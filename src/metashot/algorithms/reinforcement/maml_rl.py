"""MAML for reinforcement learning: Finn, Abbeel, Levine 2017, "Model-agnostic meta-learning", arXiv:1703.03400, algorithm 3.

The policy plays `shots` trajectories in each world, takes a step of size alpha along the policy gradient of their
advantages, and plays again. The adapted policies are judged by further trajectories, and the outer step improves the
initial parameters through the inner steps:

- `outer=trpo` (as in the paper): a trust region around the adapted policies. The inner step follows the gradient of
  mean(log pi(a|s) A).
- `outer=ppo`, in the manner of ProMP: Rothfuss, Lee, Clavera, Asfour, Abbeel 2019, arXiv:1810.06784. The inner step follows
  the gradient of mean(pi(a|s) / pi_old(a|s) A), whose own derivative also has the term for how the policy before the update
  chose its actions (the low-variance curvature estimator). A few epochs of clipped steps are taken on the same
  trajectories, with a penalty for the divergence from the policies before each inner update.

`pretrained`, the paper's baseline, is this class without inner steps in training, and `oracle` is the same and is told the
task. Advantages are generalised advantage estimates over a linear baseline, normalised in each world.

In tests, updates after those of training have a step size of their own, by default half of it, as in the paper.

Where this departs from the paper: with several inner steps, each has trajectories of its own in training too.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from metashot.algorithms.base import TaskLosses
from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.advantages import generalised_advantages, linear_baseline, normalised
from metashot.algorithms.reinforcement.learner import Played, PolicyLearner
from metashot.algorithms.reinforcement.playing import play
from metashot.algorithms.reinforcement.policies import PolicyActor, PolicyNetwork
from metashot.algorithms.reinforcement.proximal import ProximalPolicy
from metashot.algorithms.reinforcement.trust_region import Objective, TrustRegion
from metashot.arguments import AtLeast, AtMost, Positive, Share
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.engines.inner import Engine, InnerLoop, OptimizerState, Parameters
from metashot.episodes import Examples
from metashot.problems import Problem
from metashot.worlds import Trajectories, Worlds

_MOST_INPUTS = 2000  # for which the baseline solves a linear system of twice as many unknowns in each world


class Tried(NamedTuple):
    """Trajectories as examples of an inner step, with what the policy's outputs were."""

    examples: Examples  # x [T, N * H, inputs], y [T, N * H, ...]: the action, its advantage, weight and log-probability
    outputs: Tensor  # [T, N * H, outputs]
    trajectories: Trajectories

    def of_worlds(self, places: Tensor) -> "Tried":
        """What was tried in some of the worlds; the trajectories themselves are those of all."""
        examples = Examples(self.examples.x[places], self.examples.y[places])
        return self._replace(examples=examples, outputs=self.outputs[places])


class Updated(NamedTuple):
    """What has become of the policy in a world."""

    theta: Parameters  # [1, ...]
    updates: int


class MAMLRL(PolicyLearner):
    """A policy that adapts to a world by policy gradients.

    Args:
        backbone: The network from observations to features.
        problem: The problem.
        engine: How inner steps run and are differentiated.
        inner_lr: alpha, the size of an inner step.
        later_inner_lr: That of the updates in tests that come after those of training.
        inner_steps: The updates in training.
        test_inner_steps: The updates in validation, tests and use.
        first_order: Whether to omit second derivatives.
        discount: gamma.
        trace: lambda of the generalised advantage estimates.
        deviation: The initial standard deviation of actions, where they are numbers.
        outer: The outer step.
        trpo: Its settings.
        ppo: Its settings.
        optimizer: The optimiser of `outer=ppo`.
    """

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        engine: Engine,
        inner_lr: Positive,
        later_inner_lr: Positive,
        inner_steps: Annotated[int, AtLeast(0), AtMost(100)],
        test_inner_steps: Annotated[int, AtLeast(0), AtMost(100)],
        first_order: bool,
        discount: Share,
        trace: Share,
        deviation: Positive,
        outer: Literal["trpo", "ppo"],
        trpo: TrustRegion,
        ppo: ProximalPolicy,
        optimizer: Optimization,
    ) -> None:
        super().__init__(optimizer, problem)
        if backbone.normalisation != "none":
            raise BadInput(
                f"backbone.normalisation={backbone.normalisation} lets actions depend on other observations: give "
                "backbone.normalisation=none"
            )
        if (numbers := math.prod(backbone.input_shape)) > _MOST_INPUTS:
            raise BadInput(
                f"observations of {numbers:,} numbers are too many for the linear baseline of {type(self).__name__}; "
                f"allowed: at most {_MOST_INPUTS:,}"
            )
        self.network = PolicyNetwork(backbone, self.problem, deviation)
        self.engine = engine
        self.alpha = inner_lr
        self.later_alpha = later_inner_lr
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.first_order = first_order
        self.discount = discount
        self.trace = trace
        self.outer = outer
        self.trpo = trpo
        self.ppo = ppo

    def description(self, device_type: str) -> list[str]:
        engine = self.engine.description(device_type, self.network.backbone.input_shape, False)
        return [f"engine: {engine}", *super().description(device_type)] if self.inner_steps else []

    def refuse_share(self, tasks: int) -> None:
        every = self.trpo.curvature_every
        if self.outer == "trpo" and tasks % every:
            raise BadInput(
                f"algo.trpo.curvature_every={every} takes one of {every} worlds, but each device has {tasks} in a step: "
                "give a number that divides it, or 1 for all"
            )

    @property
    def task_steps(self) -> int:
        return self.test_inner_steps

    @property
    def watched_steps(self) -> tuple[int, ...]:
        return tuple(range(self.test_inner_steps + 1))

    def acted(self, worlds: Worlds) -> Played:
        returns, steps = [], torch.zeros_like(worlds.number)
        for judged, taken in self._adapting(worlds):
            returns.append(judged.returns)
            steps = steps + taken
        return Played(torch.stack(returns, 1), steps, judged=judged)

    def shown(self, worlds: Worlds) -> dict[int, Trajectories]:
        return dict(enumerate(judged for judged, _ in self._adapting(worlds)))

    def _adapting(self, worlds: Worlds) -> Iterator[tuple[Trajectories, Tensor]]:
        """The trajectories that judge the policy after each number of updates, and the steps [T] since those before."""
        theta, steps = self.initial(len(worlds)), torch.zeros_like(worlds.number)
        for update in range(self.test_inner_steps + 1):
            # Trajectories that judge a policy are others than those that it learns from, of the same worlds.
            judged = self.played(worlds, theta, worlds.queries, 2 * update)
            yield judged, steps + judged.steps
            if update < self.test_inner_steps:
                tried = self.tried(worlds, theta, worlds.shots, 2 * update + 1)
                theta = self.updated(theta, tried.examples, update)
                steps = tried.trajectories.steps

    def initial(self, tasks: int) -> Parameters:
        """theta for each of T worlds: [T, ...]"""
        return {name: value.detach().expand(tasks, *value.shape) for name, value in self.network.named_parameters()}

    def unadapted(self) -> Updated:
        return Updated(self.initial(1), 0)

    def actor(self, state: Updated, trajectories: int) -> PolicyActor:
        return PolicyActor(self.network, self.problem, state.theta)

    def adapted(self, state: Updated, trajectories: Trajectories) -> Updated:
        examples = self.as_tried(trajectories, state.theta).examples
        return Updated(self.updated(state.theta, examples, state.updates), state.updates + 1)

    def played(self, worlds: Worlds, theta: Parameters, trajectories: int, round: int) -> Trajectories:
        return play(worlds, PolicyActor(self.network, self.problem, theta), self.problem, trajectories, round)

    @torch.no_grad()
    def tried(self, worlds: Worlds, theta: Parameters, trajectories: int, round: int) -> Tried:
        """Play trajectories, and estimate the advantages of their actions."""
        return self.as_tried(self.played(worlds, theta, trajectories, round), theta)

    @torch.no_grad()
    def as_tried(self, trajectories: Trajectories, theta: Parameters) -> Tried:
        values = linear_baseline(trajectories, self.discount)
        advantages = generalised_advantages(trajectories.rewards, values, self.discount, self.trace)
        advantages = normalised(advantages * trajectories.taken, trajectories.taken)
        x = trajectories.observations.flatten(1, 2)
        weights = trajectories.taken.flatten(1).to(x)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
        actions = trajectories.actions.flatten(1, 2)
        outputs = PolicyActor(self.network, self.problem, theta).outputs(x)
        log_probabilities = self.problem.log_probabilities(outputs, actions)
        rest = torch.stack([advantages.flatten(1), weights, log_probabilities], -1)
        actions = actions.to(x).reshape(*actions.shape[:2], -1)
        return Tried(Examples(x, torch.cat([actions, rest], -1)), outputs, trajectories)

    def inner_loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Minus the expected advantage of a policy with these outputs: its gradient is the policy gradient."""
        actions, advantages, weights, old = self._parts(y)
        log_probabilities = self.problem.log_probabilities(outputs, actions)
        chances = (log_probabilities - old).exp() if self.outer == "ppo" else log_probabilities
        return -(weights * advantages * chances).sum()

    def _parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Actions, advantages, weights and log-probabilities."""
        size = self.problem.action_size
        actions = y[..., 0] if self.problem.actions == "discrete" else y[..., :size]
        advantages, weights, old = y[..., size:].unbind(-1)
        return actions, advantages, weights, old

    def updated(self, theta: Parameters, examples: Examples, update: int) -> Parameters:
        """Parameters [T, ...] after the update with this number, from 0, with these examples; without a graph."""
        alpha = self.alpha if update < max(self.inner_steps, 1) else self.later_alpha
        with torch.no_grad():
            found = self.engine(self._inner_loop(1, (), alpha), examples, examples.x[:, :0], start=theta)
        return {name: value.detach() for name, value in found.parameters.items()}

    def _inner_loop(self, steps: int, answer_after: tuple[int, ...], alpha: float) -> InnerLoop:
        def inner_update(
            theta: Parameters, gradients: Parameters, state: OptimizerState, step: int, loss: Tensor
        ) -> tuple[Parameters, OptimizerState]:
            """theta' = theta - alpha * gradient"""
            return descended(theta, alpha, gradients), state

        return InnerLoop(
            network=self.network,
            adapted_names=tuple(name for name, _ in self.network.named_parameters()),
            outer_parameters=tuple(self.trainable_parameters()),
            loss=self.inner_loss,
            initial_state=lambda theta: {},
            update=inner_update,
            steps=steps,
            first_order=self.first_order,
            answer_after=answer_after,
        )

    def adapted_outputs(self, tried: list[Tried], x: Tensor) -> Tensor:
        """Outputs [T, M, outputs] of the adapted policies for observations [T, M, inputs], differentiable through the
        inner steps."""
        if not tried:
            outputs: Tensor = self.network(x)
            return outputs

        def collected(theta: Parameters, step: int, chunk: slice) -> Examples:
            examples = tried[step].examples
            return Examples(examples.x[chunk], examples.y[chunk])

        found = self.engine(self._inner_loop(len(tried), (len(tried),), self.alpha), collected, x)
        return found.answers[:, 0]

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        (worlds,) = batch
        theta, tried = self.initial(len(worlds)), []
        for step in range(self.inner_steps):
            tried.append(self.tried(worlds, theta, worlds.shots, 2 * step + 1))
            theta = self.updated(theta, tried[-1].examples, step)
        judged = self.tried(worlds, theta, worlds.queries, 2 * self.inner_steps)
        self.count(sum((one.trajectories.steps for one in tried), judged.trajectories.steps))
        losses = -judged.trajectories.returns.mean(1)
        inner_losses = torch.stack([self._losses(one) for one in tried], 1) if tried else None
        self.task_losses = [TaskLosses(worlds.number, losses, inner_losses)]
        if self.outer == "trpo":
            terms = self._trust_region_step(worlds, tried, judged)
        else:
            terms = self._proximal_steps(tried, judged)
        if tried:
            terms["return_before"] = tried[0].trajectories.returns.mean()
        found = {"loss": -judged.trajectories.returns.mean(), "score": judged.trajectories.returns.mean()}
        return found | {"environment_steps": self.environment_steps.double()} | terms

    def _losses(self, tried: Tried) -> Tensor:
        """The inner loss of each world: [T]."""
        actions, advantages, weights, _ = self._parts(tried.examples.y)
        return -(weights * advantages * self.problem.log_probabilities(tried.outputs, actions)).sum(1)

    def objective(self, tried: list[Tried], judged: Tried) -> Objective:
        """The gain of the adapted policies over those that played, and their divergence from them."""
        outputs = self.adapted_outputs(tried, judged.examples.x)
        actions, advantages, weights, old = self._parts(judged.examples.y)
        ratios = (self.problem.log_probabilities(outputs, actions) - old).exp()
        divergences = self.problem.divergences(judged.outputs, outputs)
        return Objective((weights * ratios * advantages).sum(1).mean(), (weights * divergences).sum(1).mean())

    def _trust_region_step(self, worlds: Worlds, tried: list[Tried], judged: Tried) -> dict[str, Tensor]:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        parameters = self.trainable_parameters()
        some = self._some(worlds.number)
        few = [one.of_worlds(some) for one in tried], judged.of_worlds(some)

        def divergence() -> Tensor:
            return self.objective(*few).divergence

        taken = self.trpo.step(parameters, lambda: self.objective(tried, judged), divergence, self.mean_over_devices)
        for parameter, difference in zip(parameters, taken.difference, strict=True):
            parameter.grad = -difference  # of which the optimiser takes a whole step
        optimizer.step()
        optimizer.zero_grad()
        return {"surrogate_gain": taken.gain, "kl_divergence": taken.divergence}

    def _proximal_steps(self, tried: list[Tried], judged: Tried) -> dict[str, Tensor]:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        parameters = self.trainable_parameters()
        for epoch in range(1, self.ppo.epochs + 1):
            gain, penalty = self.clipped_gain(tried, judged), self.penalty(tried, judged)
            gradients = torch.autograd.grad(self.ppo.penalty * penalty - gain, parameters, materialize_grads=True)
            gradients = tuple(map(self.mean_over_devices, gradients))
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            norm = torch.nn.utils.get_total_norm(gradients)  # the same on all devices, which go on or stop together
            if epoch == self.ppo.epochs or not norm.isfinite():
                break
            self._clip(parameters)
            optimizer.optimizer.step()  # not counted, so that the run's steps are those of the last epoch
        self._clip(parameters)
        optimizer.step()
        optimizer.zero_grad()
        self.next_rate()
        terms = {"surrogate_gain": gain, "kl_divergence": penalty}
        return {name: self.mean_over_devices(term.detach()) for name, term in terms.items()}

    def clipped_gain(self, tried: list[Tried], judged: Tried) -> Tensor:
        """The clipped gain of the adapted policies over those that played."""
        outputs = self.adapted_outputs(tried, judged.examples.x)
        actions, advantages, weights, old = self._parts(judged.examples.y)
        ratios = (self.problem.log_probabilities(outputs, actions) - old).exp()
        return (weights * self.ppo.clipped(ratios, advantages)).sum(1).mean()

    def penalty(self, tried: list[Tried], judged: Tried) -> Tensor:
        """The mean divergence of the policies before each update from those that played; without updates, of the policy."""
        parts = []
        for step, one in enumerate(tried or [judged]):
            outputs = self.adapted_outputs(tried[:step], one.examples.x)
            weights = self._parts(one.examples.y)[2]
            parts.append((weights * self.problem.divergences(one.outputs, outputs)).sum(1).mean())
        return torch.stack(parts).mean()

    def _some(self, number: Tensor) -> Tensor:
        """The places of the worlds whose divergence is differentiated twice, the same ones on any number of devices.

        Args:
            number: The numbers of all worlds of this device [T].
        """
        places: Tensor = (number % self.trpo.curvature_every == 0).nonzero()[:, 0]
        return places

    def configure_optimizers(self) -> Any:
        if self.outer == "trpo":
            return torch.optim.SGD(self.trainable_parameters(), lr=1.0)
        return super().configure_optimizers()


class Oracle(MAMLRL):
    """A policy that is told the task: observations end with its description."""

    is_told: ClassVar[bool] = True
