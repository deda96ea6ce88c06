"""The base class of all algorithms: a Lightning module that adapts to support sets and answers queries."""

from abc import abstractmethod
from collections.abc import Hashable, Iterable
from typing import Any, ClassVar, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import Parameter

from metashot.algorithms.calibration import Answered, Calibration
from metashot.algorithms.early_gradients import EarlyGradients
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import deferred_average_updates
from metashot.bad_input import BadInput
from metashot.episodes import Batch, Episode, Examples
from metashot.problems import Classification, Problem
from metashot.worlds import Spaces


class TrainingStep(NamedTuple):
    """The result of `Algorithm.training_loss` for a batch of T tasks."""

    loss: Tensor  # the scalar that training minimises
    answers: Tensor  # [T, Q, ...] to the queries
    inner_losses: Tensor | None = None  # [T, steps] on the support sets, if there is an inner loop


class TaskLosses(NamedTuple):
    """The losses of each task in a training step, for monitoring."""

    numbers: Tensor  # [T], of the episodes
    losses: Tensor  # [T], the mean query loss
    inner_losses: Tensor | None  # [T, steps] on the support sets


class Familiar(NamedTuple):
    """How much queries look like the classes of their tasks."""

    known: Tensor  # [T, Q], queries of these classes
    strangers: Tensor  # [T, U], queries of others
    threshold: Tensor  # [T], below which a query is called unknown


class MadeMeasures(NamedTuple):
    """What made examples are worth in T tasks, beside the score with them."""

    without: Tensor  # [T], the score of the classifier that learns from real examples alone
    alone: Tensor  # [T], the score of the classifier that learns from made examples alone
    two_sample: Tensor  # [T], the share of made and real examples that their nearest neighbour tells apart
    copies: Tensor  # [T], the share of made examples that are closer to their example than any query of the class
    two_sample_expected: Tensor  # [T], what two_sample would be, on average, if made examples were real ones
    copies_expected: Tensor  # [T], the same of copies


class Algorithm(pl.LightningModule):
    """A few-shot algorithm: adapts to a support set and answers queries.

    A subclass implements `forward`, and overrides `training_loss` if its paper does not train on the loss of the answers.

    Args:
        optimizer: The outer optimiser and its schedule.
        transductive: Whether the answer to a query may depend on the other queries of its task.
        problem: What the answers are and how they are scored.

    Raises:
        BadInput: The algorithm cannot solve this kind of problem.
    """

    solves: ClassVar[tuple[type[Problem], ...]] = (Classification,)
    trains: ClassVar[bool] = True  # False if it only adapts at test time
    supervised: ClassVar[bool] = False  # trained on shuffled images of all classes instead of episodes
    has_weights: ClassVar[bool] = True  # False where nothing could be trained, so that `init_from` is not needed
    needs_start: ClassVar[bool] = False  # starts from the weights of another checkpoint (`init_from`)
    needs_features: ClassVar[bool] = False  # learns from features that stay as they are: of a frozen backbone, or given
    needs_pixels: ClassVar[bool] = False  # learns from the pixels themselves
    takes_head = True  # `init_from` also restores the head, if one fits
    needs_head = False  # `init_from` must provide a head
    fixed_ways: int | None = None  # the number of classes, if the head fixes it
    answers_queries: ClassVar[bool] = True  # False if it acts in worlds instead
    is_told: ClassVar[bool] = False  # whether it is told the task, where that can be told
    gives_deviations: ClassVar[bool] = False  # whether answers are means and logarithms of standard deviations

    def __init__(self, optimizer: Optimization, transductive: bool, problem: Problem) -> None:
        super().__init__()
        if not isinstance(problem, self.solves):
            raise BadInput(
                f"{type(self).__name__} cannot learn a {problem.kind} problem: "
                f"choose other data with data=, or an algorithm such as {problem.usual_algorithm}"
            )
        self.optimization = optimizer
        self.transductive = transductive
        self.problem = problem.with_deviations() if self.gives_deviations else problem
        self.calibration = Calibration()
        self._validated: list[Answered] | None = None  # answers that are classes, during a validation
        self.task_losses: list[TaskLosses] = []  # of the last training step
        self.gradient_clip: float | None = (
            None  # the maximum norm, for an algorithm that takes its optimisation steps itself
        )
        self.false_alarms = 0.05  # rate at which queries of known classes may be called unknown, where there are strangers
        self.watched_episodes = 0  # the first `watched_episodes` test episodes are also scored after each of `watched_steps`

    @property
    def progress(self) -> float:
        """The fraction of the training steps taken so far."""
        return self.global_step / self.trainer.max_steps if self._trainer is not None else 0.0

    def description(self, device_type: str) -> list[str]:
        """Lines, printed before a run, on how the algorithm computes on this type of device."""
        backbones = [module for module in self.modules() if isinstance(module, Backbone)]
        return [line for backbone in backbones for line in backbone.description(device_type)]

    @property
    def external_data(self) -> str | None:
        """The data beyond the training split that its weights were trained on; None if there are none."""
        named = [module.external_data for module in self.modules() if isinstance(module, Backbone)]
        return " and ".join(name for name in named if name is not None) or None

    @property
    def trains_for_tasks(self) -> bool:
        """Whether training changes anything that answers depend on."""
        return bool(self.trainable_parameters())

    @property
    def worth_alone(self) -> str | None:
        """What the answer to a query that is asked alone is worth; None where it does not depend on other queries."""
        return "it is less accurate than among the many queries of a test" if self.transductive else None

    @abstractmethod
    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        """Adapt to each support set and answer its queries.

        Args:
            support: The support sets of T tasks.
            query_x: Query inputs [T, Q, ...].

        Returns:
            Answers [T, Q, ...] of the shape that the problem defines, such as logits [T, Q, ways].
        """

    def adapt(self, support: Examples) -> Any:
        """Adapt to each support set before its queries are known.

        Returns:
            Everything that `answer_queries` needs; by default the support sets themselves.
        """
        return support

    def answer_queries(self, adapted: Any, query_x: Tensor) -> Tensor:
        """Answer queries with what `adapt` returned.

        Args:
            adapted: The result of `adapt` for T support sets.
            query_x: Query inputs [T, Q, ...].

        Returns:
            The answers [T, Q, ...] that `forward` gives for the same support sets and queries.
        """
        answers: Tensor = self(adapted, query_x)
        return answers

    def answers_to(self, episode: Episode) -> Tensor:
        """The answers [T, Q, ...] to the queries of an episode, whose inputs may already be features."""
        answers: Tensor = self(episode.support, episode.query.x)
        return answers

    @property
    def tries_first(self) -> bool:
        """Whether a learner that acts tries trajectories before it is judged, rather than remembering or knowing."""
        return True

    @property
    def task_steps(self) -> int:
        """The number of gradient steps in which the algorithm adapts to a task; 0 if it takes none."""
        return 0

    @property
    def watched_steps(self) -> tuple[int, ...]:
        """The numbers of inner steps after which `answers_after_steps` answers; empty without an inner loop."""
        return ()

    def answers_after_steps(self, episode: Episode) -> Tensor:
        """Answers [T, len(watched_steps), Q, ...] after each of `watched_steps`, the last of which is the final step."""
        return self.answers_to(episode).unsqueeze(1)

    def features_before_and_after(self, episode: Episode) -> tuple[Tensor, Tensor | None] | None:
        """Features [T, S + Q, features] of support examples and queries, for pictures.

        Returns:
            The features before adapting, and after adapting if it changes them; None if the algorithm has no features.
        """
        return None

    def attention(self, episode: Episode) -> Tensor | None:
        """The attention weights [T, Q, S] of each query on each support example; None if the algorithm has no attention."""
        return None

    def refuse_names(self, names: Iterable[Hashable]) -> None:
        """Raise `BadInput` where it reads the names of classes, and one of these cannot be used."""

    def refuse_share(self, tasks: int) -> None:
        """Raise `BadInput` where it cannot divide the tasks of a training step on a device."""

    def refuse_spaces(self, spaces: Spaces) -> None:
        """Raise `BadInput` where it cannot act in worlds with these spaces."""

    def refuse_strangers(self) -> None:
        """Raise `BadInput` where it cannot tell whether a query belongs to any of the classes."""
        raise BadInput(
            f"{type(self).__name__} cannot tell what is unknown, since it does not compare features: leave strangers and "
            "unknown out, or use a learner such as algo=protonet"
        )

    def familiarity_in(self, episode: Episode, rate: float) -> tuple[Familiar, Familiar]:
        """How much the queries and the strangers of an episode look like its classes.

        Args:
            episode: The episode, with strangers.
            rate: The share of the queries that may be called unknown.

        Returns:
            What is judged alone, and what is judged together with all other queries and strangers.
        """
        raise NotImplementedError

    def freeze_backbone(self) -> None:
        """Exclude the backbone, running averages included, from training."""
        for module in self.modules():
            if isinstance(module, Backbone):
                module.freeze()

    def training_loss(self, episode: Episode) -> TrainingStep:
        """The training loss of a batch of tasks; by default the problem's loss of the answers to the queries."""
        answers = self.answers_to(episode)
        return TrainingStep(self.problem.loss(answers, episode.query.y), answers)

    def tasks_at_once(self, episode: Episode) -> int:
        """The number of tasks that `training_loss` is called with; by default all of the episode.

        If there are fewer, their gradients are computed before the next tasks, which saves the memory of their graphs, and
        `training_loss` has to be a mean over tasks.
        """
        return len(episode)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Average over the tasks of all episodes, so that each task has the same weight whatever its shape."""
        tasks = sum(map(len, batch))
        parts = [part for episode in batch for part in episode.parts(self._tasks_at_once(episode))]
        early = EarlyGradients(self.trainable_parameters()) if len(parts) > len(batch) else None
        losses, scores = [], []
        self.task_losses = []
        with deferred_average_updates(self) as end_group:
            for part in parts:
                step = self.training_loss(part)
                end_group()
                answers, y = step.answers.detach(), part.query.y
                query_losses = self.problem.losses(answers, y).mean(1)
                self.task_losses.append(TaskLosses(part.number, query_losses, step.inner_losses))
                share = len(part) / tasks
                loss = step.loss * share
                if early is None:
                    losses.append(loss)
                else:
                    early.add(loss)
                scores.append(self.problem.score(answers, y) * share)
        loss = torch.stack(losses).sum() if early is None else early.loss()
        return {"loss": loss, "score": torch.stack(scores).sum()}

    def _tasks_at_once(self, episode: Episode) -> int:
        device = episode.query.x.device.type
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16:
            return len(episode)  # gradients in 16 bits need the whole loss scaled before the backward pass
        return self.tasks_at_once(episode)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        scored = []
        for episode in batch:
            answers, y = self.answers_to(episode).detach(), episode.query.y
            if self._validated is not None and self.problem.predictions(answers, y) is not None:
                # Each episode counts once: devices repeat the last one to evaluate equally many.
                own = episode.number % self.trainer.world_size == self.global_rank
                self._validated.append((answers[own], y[own]))
            scored.append(self._scored(answers, y))
        return {"episodes": scored}

    def on_validation_epoch_start(self) -> None:
        self._validated = []

    def on_validation_epoch_end(self) -> None:
        if self._validated:
            self.calibration.choose(self._validated, self._total)
        self._validated = None

    def _total(self, values: Tensor) -> Tensor:
        """The sum over all devices."""
        total = self.trainer.strategy.reduce(values, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        return {
            "episodes": [
                self._scored_after_steps(episode) | self._with_strangers(episode) | self._with_made(episode)
                for episode in batch
            ]
        }

    def _with_made(self, episode: Episode) -> dict[str, Tensor]:
        measures = self.measures_of_made(episode)
        return {} if measures is None else {"made": torch.stack(measures, dim=1)}

    def measures_of_made(self, episode: Episode) -> MadeMeasures | None:
        """What the examples that it makes are worth; None if it makes none."""
        return None

    def _with_strangers(self, episode: Episode) -> dict[str, Tensor]:
        if episode.strangers is None:
            return {}
        both = zip(("alone", "together"), self.familiarity_in(episode, self.false_alarms), strict=True)
        return {f"{name}_{part}": value for name, judged in both for part, value in judged._asdict().items()}

    def _scored_after_steps(self, episode: Episode) -> dict[str, Tensor]:
        # Every step returns the same keys: `after_steps` is zero, and never read, where no watched episode is in the batch.
        y = episode.query.y
        if not self.watched_steps or (episode.number >= self.watched_episodes).all():
            scored = self._scored(self.answers_to(episode).detach(), y)
            tasks, size = scored["statistics"].shape
            return scored | {"after_steps": scored["statistics"].new_zeros(tasks, len(self.watched_steps), size)}
        answers = self.answers_after_steps(episode).detach()
        after_steps = torch.stack([self.problem.statistics(step, y) for step in answers.unbind(1)], dim=1)
        return self._scored(answers[:, -1], y) | {"after_steps": after_steps}

    def _scored(self, answers: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {
            "answers": answers,  # [T, Q, ...]
            "statistics": self.problem.statistics(answers, y),  # [T, K]
            "losses": self.problem.losses(answers, y).mean(1),  # [T]
        }

    def configure_optimizers(self) -> Any:
        return self.optimization.build(self.trainable_parameters(), self.trainer.max_steps)

    def trainable_parameters(self) -> list[Parameter]:
        """The parameters that receive an outer gradient."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]
