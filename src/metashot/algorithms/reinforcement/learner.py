"""The base class of learners that act in worlds."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from metashot.algorithms.base import Algorithm
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.playing import Player
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.problems import Problem, Returns
from metashot.worlds import Trajectories, Worlds

AdaptsBy = Literal["updates", "trials"]


class Played(NamedTuple):
    """What came of a learner in T worlds."""

    returns: Tensor  # [T, times, N] of the trajectories that judge it, after each number of updates or trials from 0
    steps: Tensor  # [T], the number of all steps that were taken in each world
    trials: Tensor | None = None  # [T, N], the returns of whole trials, where its memory lasts for one
    judged: Trajectories | None = None  # the trajectories after the last update


class PolicyLearner(Algorithm):
    """A learner that acts in worlds instead of answering queries.

    A subclass implements `acted`, and trains in `training_step`.

    Args:
        optimizer: The optimiser of training and its schedule.
        problem: The problem, which knows how actions are drawn.
    """

    solves = (Returns,)
    answers_queries: ClassVar[bool] = False
    problem: Returns
    adapts_by: ClassVar[AdaptsBy] = "updates"  # between which a report says the return
    environment_steps: Tensor

    def __init__(self, optimizer: Optimization, problem: Problem) -> None:
        super().__init__(optimizer, False, problem)
        self.automatic_optimization = False
        self.register_buffer("environment_steps", torch.zeros((), dtype=torch.int64))  # in training, on all devices

    @abstractmethod
    def acted(self, worlds: Worlds) -> Played:
        """Act in worlds of an evaluation, and adapt to them."""

    def trajectories_to_try(self, shots: int) -> int:
        """How many trajectories it tries in a user's environment where nothing else is asked for, given `data.shots`."""
        return shots

    def unadapted(self) -> Any:
        """What it knows of a world in which it has tried nothing: the state that it acts from, which is never changed."""
        raise self._only_in_batches()

    def actor(self, state: Any, trajectories: int) -> Player:
        """Who acts from a state in N trajectories of one world, which begin."""
        raise self._only_in_batches()

    def adapted(self, state: Any, trajectories: Trajectories) -> Any:
        """The state after trajectories [1, N, H] that were played from a state.

        With `adapts_by = "updates"` it comes of one update, with `"trials"` of remembering them one after the other.
        """
        raise self._only_in_batches()

    def _only_in_batches(self) -> BadInput:
        return BadInput(f"{type(self).__name__} acts in worlds of data= only, where evaluate.py scores it")

    @property
    def tries_first(self) -> bool:
        return self.adapts_by == "updates" and self.last > 0

    @property
    def last(self) -> int:
        """The number of updates, or trials, after which the learner is judged."""
        return self.watched_steps[-1]

    def shown(self, worlds: Worlds) -> dict[int, Trajectories]:
        """The trajectories that judge it in an evaluation after each of `watched_steps`, for pictures; by default none."""
        return {}

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        raise BadInput(f"{type(self).__name__} acts in worlds, and answers no queries")

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        return {"episodes": [self._judged(worlds) for worlds in batch]}

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        return self.validation_step(batch, batch_idx)

    def _judged(self, worlds: Worlds) -> dict[str, Tensor]:
        played = self.acted(worlds)
        answers = played.returns[:, -1]
        after_steps = torch.stack([self._statistics(returns, played.trials) for returns in played.returns.unbind(1)], 1)
        regrets = None if played.judged is None else worlds.regrets(played.judged.actions)
        return {
            **({} if regrets is None else {"regrets": regrets.mean(1).cpu().cumsum(1).to(self.device)}),  # [T, H]
            "answers": answers,  # [T, N]
            "statistics": after_steps[:, -1],
            "losses": self.problem.losses(answers, answers).mean(1),
            "after_steps": after_steps,
            "environment_steps": played.steps,
        }

    def _statistics(self, returns: Tensor, trials: Tensor | None) -> Tensor:
        if trials is None:
            return self.problem.statistics(returns, returns)
        return self.problem.statistics_of_trials(returns, trials)

    def count(self, steps: Tensor) -> None:
        """Add the steps that this device has taken in environments during training to those of all devices."""
        total = self.trainer.strategy.reduce(steps.sum(), reduce_op="sum")
        assert isinstance(total, Tensor)
        self.environment_steps += total

    def mean_over_devices(self, values: Tensor) -> Tensor:
        """The mean over all devices, each of which has equally many worlds."""
        if self.trainer.world_size == 1:
            return values
        mean = self.trainer.strategy.reduce(values.clone(), reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    def _clip(self, parameters: Sequence[Parameter]) -> None:
        if self.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.gradient_clip)

    def next_rate(self) -> None:
        """Let the schedule of the learning rate take a step."""
        schedules = self.lr_schedulers()
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            if schedule is not None:
                schedule.step()  # type: ignore[call-arg]
