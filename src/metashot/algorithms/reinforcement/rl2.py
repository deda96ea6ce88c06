"""RL2: Duan, Schulman, Chen, Bartlett, Sutskever, Abbeel 2016, "RL2: fast reinforcement learning via slow reinforcement
learning", arXiv:1611.02779.

A recurrent policy observes its last action, its last reward and whether an episode has just ended beside what the
environment shows. Its memory is empty at the start of a trial and is kept between the episodes of the trial, all of which
are in the same world, so that it can learn the world from them. The weights are trained to maximise the return of whole
trials.

Where this departs from the paper: the outer algorithm is PPO instead of TRPO, with a value head on the same memory instead
of a baseline of its own, whose targets are standardised by running statistics.
"""

from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from metashot.algorithms.base import TaskLosses
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.advantages import generalised_advantages
from metashot.algorithms.reinforcement.proximal import ProximalPolicy
from metashot.algorithms.reinforcement.recurrent import RecurrentPlayer, RecurrentPolicy
from metashot.algorithms.reinforcement.trials import Trial, TrialLearner
from metashot.arguments import AtLeast, AtMost, NotNegative, Positive, Share, Units
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.problems import Problem
from metashot.worlds import Trajectories, Worlds

_KEPT = 0.9  # of the running statistics of returns, in a training step
_LEAST = 1e-8


class Remembered(NamedTuple):
    """The steps of N trials in each of T worlds, across episodes; steps that were not taken come last, as zeros."""

    observations: Tensor  # [T, N, L, inputs]
    feedback: Tensor  # [T, N, L, F]: what came of the step before
    actions: Tensor  # [T, N, L, size], or [T, N, L] where they are choices
    rewards: Tensor  # [T, N, L]
    taken: Tensor  # [T, N, L]


class Targets(NamedTuple):
    """What the steps of a trial are trained on."""

    outputs: Tensor  # [T, N, L, outputs] of the policy that played
    advantages: Tensor  # [T, N, L], standardised
    values: Tensor  # [T, N, L], standardised
    weights: Tensor  # [T, N, L], whose mean over trials sums to 1


class RL2(TrialLearner):
    """A recurrent policy that learns a world within a trial.

    Args:
        backbone: The network from observations to what the memory is given.
        problem: The problem.
        episodes: The episodes of a trial.
        hidden: The units of the memory.
        discount: gamma.
        trace: lambda of the generalised advantage estimates.
        deviation: The initial standard deviation of actions, where they are numbers.
        ppo: The settings of clipped steps.
        minibatches: The parts of a training step's worlds, each of which gives an optimiser step in each epoch.
        entropy: The weight of the policy's entropy in the first step, which falls linearly to zero.
        value: The weight of the squared error of the values.
        optimizer: The optimiser.
    """

    return_mean: Tensor
    return_square: Tensor
    return_weight: Tensor

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        episodes: Trial,
        hidden: Units,
        discount: Share,
        trace: Share,
        deviation: Positive,
        ppo: ProximalPolicy,
        minibatches: Annotated[int, AtLeast(1), AtMost(1000)],
        entropy: NotNegative,
        value: NotNegative,
        optimizer: Optimization,
    ) -> None:
        super().__init__(optimizer, problem, episodes)
        if backbone.normalisation != "none":
            raise BadInput(
                f"backbone.normalisation={backbone.normalisation} lets actions depend on other observations: give "
                "backbone.normalisation=none"
            )
        self.network = RecurrentPolicy(backbone, self.problem, hidden, deviation)
        self.discount = discount
        self.trace = trace
        self.ppo = ppo
        self.minibatches = minibatches
        self.entropy = entropy
        self.value = value
        for name in ("return_mean", "return_square", "return_weight"):  # exponential averages, and the sum of their weights
            self.register_buffer(name, torch.zeros(()))

    def player(self, worlds: Worlds, trials: int) -> RecurrentPlayer:
        return RecurrentPlayer(self.network, self.problem, (len(worlds), trials))

    def unadapted(self) -> tuple[Tensor, Tensor]:
        return RecurrentPlayer(self.network, self.problem, (1, 1)).state

    def actor(self, state: tuple[Tensor, Tensor], trajectories: int) -> RecurrentPlayer:
        player = RecurrentPlayer(self.network, self.problem, (1, trajectories))
        player.restore(state)
        return player

    def remembered_by(self, player: RecurrentPlayer) -> tuple[Tensor, Tensor]:
        return player.state

    def refuse_share(self, tasks: int) -> None:
        if tasks % self.minibatches:
            raise BadInput(
                f"algo.minibatches={self.minibatches} cannot share the {tasks} worlds of a training step on a device "
                f"evenly: make data.tasks_per_step a multiple of {self.minibatches} for each device"
            )

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        (worlds,) = batch
        played = self.played(worlds, worlds.queries)
        self.count(torch.stack([episode.steps for episode in played]).sum())
        returns = torch.stack([episode.returns for episode in played]).sum(0)  # [T, N] of whole trials
        self.task_losses = [TaskLosses(worlds.number, -returns.mean(1), None)]
        remembered = self.remembered(played)
        terms = self._proximal_steps(remembered, self.targets(remembered))
        found = {"loss": -returns.mean(), "score": played[-1].returns.mean(), "trial_return": returns.mean()}
        return found | {"environment_steps": self.environment_steps.double()} | terms

    def remembered(self, played: list[Trajectories]) -> Remembered:
        """The steps of all episodes as the memory saw them, without those after the end of an episode."""
        ended = torch.cat([_ends(episode.taken) for episode in played], 2)
        observations, actions, rewards, taken = (
            torch.cat([getattr(episode, name) for episode in played], 2)
            for name in ("observations", "actions", "rewards", "taken")
        )
        order = taken.logical_not().to(torch.uint8).argsort(dim=2, stable=True)
        taken = taken.gather(2, order)
        observations, actions, rewards, ended = (
            _in_order(values, order, taken) for values in (observations, actions, rewards, ended)
        )
        feedback = self.network.feedback(actions, rewards, ended)
        before = torch.cat([torch.zeros_like(feedback[:, :, :1]), feedback[:, :, :-1]], 2)
        return Remembered(observations, _where(taken, before), actions, rewards, taken)

    @torch.no_grad()
    def targets(self, steps: Remembered) -> Targets:
        """Advantages and values to train on; also updates the running statistics of returns."""
        outputs, values = self._answers(steps)
        mean, deviation = self._statistics_of_returns()
        values = (mean + deviation * values) * steps.taken
        advantages = generalised_advantages(steps.rewards, values, self.discount, self.trace) * steps.taken
        returns = advantages + values
        sums = [values.double().sum() for values in (steps.taken, advantages, advantages**2, returns, returns**2)]
        count, *rest = self.mean_over_devices(torch.stack(sums))
        expected, square, of_returns, square_of_returns = (total / count for total in rest)
        self._keep(of_returns, square_of_returns)
        mean, deviation = self._statistics_of_returns()
        spread = (square - expected**2).clamp(min=0).sqrt() + _LEAST
        advantages = ((advantages - expected.to(advantages)) / spread.to(advantages)) * steps.taken
        weights = steps.taken * (steps.taken[..., 0].numel() / count).to(values)
        return Targets(outputs, advantages, (returns - mean) / deviation * steps.taken, weights)

    def _statistics_of_returns(self) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation of the returns that follow a step."""
        if not self.return_weight > 0:
            return self.return_mean, torch.ones_like(self.return_mean)
        mean, square = self.return_mean / self.return_weight, self.return_square / self.return_weight
        return mean, (square - mean**2).clamp(min=_LEAST).sqrt()

    def _keep(self, mean: Tensor, square: Tensor) -> None:
        for average, value in (
            (self.return_mean, mean),
            (self.return_square, square),
            (self.return_weight, torch.ones_like(mean)),
        ):
            average.lerp_(value.to(average), 1 - _KEPT)

    def _answers(self, steps: Remembered) -> tuple[Tensor, Tensor]:
        """Outputs [T, N, L, outputs] and standardised values [T, N, L], from an empty memory."""
        tasks = len(steps.taken)
        outputs, values = self.network(steps.observations.flatten(0, 1), steps.feedback.flatten(0, 1))
        return outputs.unflatten(0, (tasks, -1)), values.unflatten(0, (tasks, -1))

    def loss(self, steps: Remembered, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of trials, and its terms: means over trials of weighted sums over steps."""
        outputs, values = self._answers(steps)

        def mean(of_steps: Tensor) -> Tensor:
            return (targets.weights * of_steps).sum(2).mean()

        log_probabilities, old = (
            self.problem.log_probabilities(found, steps.actions) for found in (outputs, targets.outputs)
        )
        gain = mean(self.ppo.clipped((log_probabilities - old).exp(), targets.advantages))
        entropy = mean(self.problem.entropies(outputs))
        error = mean((values - targets.values).square())
        divergence = mean(self.problem.divergences(targets.outputs, outputs))
        loss = self.value * error - gain - self.entropy * (1 - self.progress) * entropy + self.ppo.penalty * divergence
        terms = {"surrogate_gain": gain, "entropy": entropy, "value_error": error, "kl_divergence": divergence}
        return loss, {name: term.detach() for name, term in terms.items()}

    def _proximal_steps(self, steps: Remembered, targets: Targets) -> dict[str, Tensor]:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        parameters = self.trainable_parameters()
        last = self.ppo.epochs * self.minibatches - 1
        for turn in range(last + 1):
            # World number modulo minibatches, so that a part is the same worlds on any number of devices.
            part = slice(turn % self.minibatches, None, self.minibatches)
            loss, terms = self.loss(
                Remembered(*(values[part] for values in steps)), Targets(*(values[part] for values in targets))
            )
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            whole = self.mean_over_devices(torch.cat([gradient.flatten() for gradient in gradients]))
            sizes = [parameter.numel() for parameter in parameters]
            for parameter, gradient in zip(parameters, torch.split(whole, sizes), strict=True):
                parameter.grad = gradient.view_as(parameter)
            if turn == last or not whole.isfinite().all():
                break
            self._clip(parameters)
            optimizer.optimizer.step()  # not counted, so that the run's steps are those of the last minibatch
        self._clip(parameters)
        optimizer.step()
        optimizer.zero_grad()
        self.next_rate()
        return dict(zip(terms, self.mean_over_devices(torch.stack([*terms.values()])), strict=True))


def _ends(taken: Tensor) -> Tensor:
    """Whether a step of an episode [..., H] was its last one."""
    return taken & ~F.pad(taken[..., 1:], (0, 1))


def _in_order(values: Tensor, order: Tensor, taken: Tensor) -> Tensor:
    """Values [T, N, L, ...] in another order of steps, with zeros where no step was taken."""
    places = order.view(*order.shape, *[1] * (values.dim() - 3)).expand_as(values)
    return _where(taken, values.gather(2, places))


def _where(taken: Tensor, values: Tensor) -> Tensor:
    return torch.where(taken.view(*taken.shape, *[1] * (values.dim() - 3)), values, torch.zeros_like(values))
