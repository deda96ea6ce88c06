"""What every algorithm is: a Lightning module that learns from support sets and answers queries."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import deferred_average_updates
from metashot.bad_input import BadInput
from metashot.episodes import Batch, Episode, Examples
from metashot.problems import Classification, Problem


class TrainingStep(NamedTuple):
    """What training on a batch of tasks computes."""

    loss: Tensor  # to minimise
    answers: Tensor  # [T, Q, ...]: to the queries
    inner_losses: Tensor | None = None  # [T, steps]: of the support sets, where there is an inner loop


class TaskLosses(NamedTuple):
    """The losses of each task in a training step, which are monitored and not minimised."""

    numbers: Tensor  # [T]: the episodes' numbers
    losses: Tensor  # [T]: the mean loss of the queries
    inner_losses: Tensor | None  # [T, steps]: of the support sets


class Algorithm(pl.LightningModule):
    """An algorithm writes `forward`, and `training_loss` where its paper trains on something else than the answers."""

    solves: ClassVar[tuple[type[Problem], ...]] = (Classification,)
    trains: ClassVar[bool] = True  # whether there is anything to learn before a task is seen
    supervised: ClassVar[bool] = False  # whether it is trained on shuffled images of all classes instead of episodes
    needs_start: ClassVar[bool] = False  # whether it begins with what another learner has learned (`init_from`)
    takes_head = True  # whether `init_from` gives it a head too, where there is one that fits
    needs_head = False  # whether it has to
    fixed_ways: int | None = None  # the only number of classes it can tell apart, where its head fixes one

    def __init__(self, optimizer: Optimization, transductive: bool, problem: Problem) -> None:
        super().__init__()
        if not isinstance(problem, self.solves):
            raise BadInput(
                f"{type(self).__name__} cannot learn a {problem.kind} problem: "
                "choose other data with data=, or an algorithm such as algo=maml"
            )
        self.optimization = optimizer
        self.transductive = transductive  # whether the queries of a task could see each other
        self.problem = problem
        self.task_losses: list[TaskLosses] = []  # of the last training step
        self.watched_episodes = 0  # the first test episodes, which are scored after each of `watched_steps` too

    @property
    def progress(self) -> float:
        """The share of the steps of training that have been taken."""
        return self.global_step / self.trainer.max_steps if self._trainer is not None else 0.0

    def description(self, device_type: str) -> list[str]:
        """What has to be said of how it computes on a device, in lines."""
        return []

    @abstractmethod
    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        """The answer to each query: [T, Q, ...], in the shape that the problem asks for, such as logits [T, Q, ways]."""

    def adapt(self, support: Examples) -> Any:
        """What is kept of support sets, all that `answer_queries` needs: here they themselves."""
        return support

    def answer_queries(self, learned: Any, query_x: Tensor) -> Tensor:
        """What `forward` would say, of support sets that were learned before: [T, Q, ...]."""
        answers: Tensor = self(learned, query_x)
        return answers

    def answers_to(self, episode: Episode) -> Tensor:
        answers: Tensor = self(episode.support, episode.query.x)
        return answers

    @property
    def task_steps(self) -> int:
        """How many steps it takes to learn a task, one after the other; none where it only compares."""
        return 0

    @property
    def watched_steps(self) -> tuple[int, ...]:
        """After how many inner steps `answers_after_steps` answers; none where there are no inner steps."""
        return ()

    def answers_after_steps(self, episode: Episode) -> Tensor:
        """Answers to queries after each of `watched_steps`, the last of which is the end: [T, times, Q, ...]."""
        return self.answers_to(episode).unsqueeze(1)

    def features_before_and_after(self, episode: Episode) -> tuple[Tensor, Tensor | None] | None:
        """Features of support examples and queries [T, S + Q, features] before a task is learned, and after it where that
        changes them; nothing where an algorithm has none to show."""
        return None

    def attention(self, episode: Episode) -> Tensor | None:
        """The attention weights of each query on each support example [T, Q, S]; nothing where an algorithm has none."""
        return None

    def freeze_backbone(self) -> None:
        """Leave the backbone as it is in training."""
        for module in self.modules():
            if isinstance(module, Backbone):
                module.freeze()

    def training_loss(self, episode: Episode) -> TrainingStep:
        answers = self.answers_to(episode)
        return TrainingStep(self.problem.loss(answers, episode.query.y), answers)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Every task counts the same, whatever the shape of its episode."""
        tasks = sum(map(len, batch))
        losses, scores = [], []
        self.task_losses = []
        with deferred_average_updates(self) as end_group:
            for episode in batch:
                step = self.training_loss(episode)
                end_group()
                answers, y = step.answers.detach(), episode.query.y
                query_losses = self.problem.losses(answers, y).mean(1)
                self.task_losses.append(TaskLosses(episode.number, query_losses, step.inner_losses))
                share = len(episode) / tasks
                losses.append(step.loss * share)
                scores.append(self.problem.score(answers, y) * share)
        return {"loss": torch.stack(losses).sum(), "score": torch.stack(scores).sum()}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        return {"episodes": [self._scored(self.answers_to(episode).detach(), episode.query.y) for episode in batch]}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        return {"episodes": [self._scored_after_steps(episode) for episode in batch]}

    def _scored_after_steps(self, episode: Episode) -> dict[str, Tensor]:
        """The statistics of episodes that are not watched are zeros, which nobody reads."""
        y = episode.query.y
        if not self.watched_steps or (episode.number >= self.watched_episodes).all():
            found = self._scored(self.answers_to(episode).detach(), y)
            tasks, size = found["statistics"].shape
            return found | {"after_steps": found["statistics"].new_zeros(tasks, len(self.watched_steps), size)}
        answers = self.answers_after_steps(episode).detach()
        after_steps = torch.stack([self.problem.statistics(at, y) for at in answers.unbind(1)], dim=1)
        return self._scored(answers[:, -1], y) | {"after_steps": after_steps}

    def _scored(self, answers: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {
            "answers": answers,  # [T, Q, ...]
            "statistics": self.problem.statistics(answers, y),  # [T, K]
            "losses": self.problem.losses(answers, y).mean(1),  # [T]
        }

    def configure_optimizers(self) -> Any:
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return self.optimization.build(trainable, self.trainer.max_steps)
