"""What every algorithm is: a Lightning module that learns from support sets and answers queries."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import learning_together
from metashot.bad_input import BadInput
from metashot.episodes import Batch, Episode, Examples
from metashot.problems import Classification, Problem


class Learned(NamedTuple):
    """What a step of training found on a batch of tasks."""

    loss: Tensor  # to minimise
    answers: Tensor  # [T, Q, outputs]
    inner_losses: Tensor | None = None  # [T, steps]: of support sets, where there is an inner loop


class Judged(NamedTuple):
    """The losses of a batch of tasks that were trained on, to be looked at and not to learn from."""

    numbers: Tensor  # [T]: of the episodes
    losses: Tensor  # [T]: of the queries
    inner_losses: Tensor | None  # [T, steps]


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
                f"{type(self).__name__} cannot learn a {type(problem).__name__.lower()} problem: "
                "choose other data with data=, or an algorithm such as algo=maml"
            )
        self.optimization = optimizer
        self.transductive = transductive  # whether the queries of a task could see each other
        self.problem = problem
        self.judged: list[Judged] = []  # in the last step of training
        self.watched_episodes = 0  # of a test, the first ones: they are answered after each of `watched_steps` too

    @property
    def progress(self) -> float:
        """The share of the steps of training that have been taken."""
        return self.global_step / self.trainer.max_steps if self._trainer is not None else 0.0

    def described(self, device_type: str) -> list[str]:
        """What has to be said of how it computes on a device, in lines."""
        return []

    @abstractmethod
    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        """The answer to each query: [T, Q, outputs], scores of the classes [T, Q, ways] in classification."""

    def learn(self, support: Examples) -> Any:
        """What is kept of support sets, all that `answers_from` needs: here they themselves."""
        return support

    def answers_from(self, learned: Any, query_x: Tensor) -> Tensor:
        """What `forward` would say, of support sets that were learned before: [T, Q, outputs]."""
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
        """After how many inner steps `answers_on_the_way` answers; none where there are no inner steps."""
        return ()

    def answers_on_the_way(self, episode: Episode) -> Tensor:
        """Answers to queries after each of `watched_steps`, the last of which is the end: [T, times, Q, outputs]."""
        return self.answers_to(episode).unsqueeze(1)

    def features_around_adapting(self, episode: Episode) -> tuple[Tensor, Tensor | None] | None:
        """Features of support examples and queries [T, S + Q, features] before a task is learned, and after it where that
        changes them; nothing where an algorithm has none to show."""
        return None

    def attention(self, episode: Episode) -> Tensor | None:
        """How much each query looked at each support example [T, Q, S], where an algorithm looks."""
        return None

    def freeze_backbone(self) -> None:
        """Leave the backbone as it is in training."""
        for module in self.modules():
            if isinstance(module, Backbone):
                module.freeze()

    def training_loss(self, episode: Episode) -> Learned:
        answers = self.answers_to(episode)
        return Learned(self.problem.loss(answers, episode.query.y), answers)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Every task counts the same, whatever the shape of its episode."""
        tasks = sum(map(len, batch))
        losses, scores = [], []
        self.judged = []
        with learning_together(self) as end_group:
            for episode in batch:
                learned = self.training_loss(episode)
                end_group()
                of_queries = self.problem.losses(learned.answers.detach(), episode.query.y).mean(1)
                self.judged.append(Judged(episode.number, of_queries, learned.inner_losses))
                share = len(episode) / tasks
                losses.append(learned.loss * share)
                scores.append(self.problem.scores(learned.answers.detach(), episode.query.y).mean() * share)
        return {"loss": torch.stack(losses).sum(), "score": torch.stack(scores).sum()}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        return {"episodes": [self._answers(episode) for episode in batch]}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[dict[str, Tensor]]]:
        return {"episodes": [self._answers_on_the_way(episode) for episode in batch]}

    def _answers(self, episode: Episode) -> dict[str, Tensor]:
        return self._judged(self.answers_to(episode).detach(), episode.query.y)

    def _answers_on_the_way(self, episode: Episode) -> dict[str, Tensor]:
        """Those of episodes that are not watched count for nothing."""
        if not self.watched_steps or (episode.number >= self.watched_episodes).all():
            found = self._answers(episode)
            return found | {"on_the_way": found["scores"].new_zeros(len(episode), len(self.watched_steps))}
        answers, y = self.answers_on_the_way(episode).detach(), episode.query.y
        on_the_way = torch.stack([self.problem.scores(at, y).sum(1) for at in answers.unbind(1)], dim=1)
        return self._judged(answers[:, -1], y) | {"on_the_way": on_the_way}

    def _judged(self, answers: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {
            "answers": answers,
            "scores": self.problem.scores(answers, y).sum(1),
            "losses": self.problem.losses(answers, y).mean(1),
        }

    def configure_optimizers(self) -> Any:
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return self.optimization.build(trainable, self.trainer.max_steps)
