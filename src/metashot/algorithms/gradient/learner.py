"""What the gradient-based algorithms share: a network that adapts to each task, by steps that their own files define."""

from abc import abstractmethod
from fnmatch import fnmatchcase
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from metashot.algorithms.base import Algorithm, Learned
from metashot.algorithms.gradient.inner_loss import InnerLossName, loss_named
from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.algorithms.gradient.minibatches import minibatches
from metashot.algorithms.gradient.network import Network
from metashot.algorithms.optimization import Optimization
from metashot.arguments import AtLeast, AtMost, Count, NotNegative, Positive, Steps
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.engines.inner import Adapted, Engine, InnerLoop, Memory, Parameters
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Problem, Regression

_WATCHED = 10  # inner steps: after each of so many first ones, and after the last, it is seen how well queries are answered


class AdaptedTasks(NamedTuple):
    """What T support sets made of the network."""

    parameters: Parameters  # [T, ...]: those that adapt
    support_x: Tensor


class GradientLearner(Algorithm):
    """`adapts` are patterns of the names of the parameters that change in the inner loop, such as `head.*`; a pattern that
    begins with a minus takes out what those before it took in."""

    solves = (Classification, Regression)

    def __init__(
        self,
        name: str,
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
        if backbone.draws:  # neither all tasks at once nor steps that are computed again could repeat what is drawn
            raise BadInput(
                f"algo={name} takes gradient steps within a task, for which the backbone must not draw random numbers: give "
                "backbone.drop_block=0"
            )
        self.network = Network(backbone, problem.outputs)
        self.fixed_ways = problem.outputs if isinstance(problem, Classification) else None
        self.engine = engine
        self.adapting = self._matching(adapts)
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
        """Support examples of a step; all of them where it is None."""
        return self.inner_batch

    def refuse_to_compare_parts(self, key: str, size: int | None) -> None:
        """Whether a task's loss falls can be seen on its whole support set only."""
        if self.least_fall is not None and size is not None:
            raise BadInput(
                f"algo.least_fall={self.least_fall} compares the losses of whole support sets, but algo.{key}={size} takes "
                "parts of them: set one of the two to null"
            )

    def described(self, device_type: str) -> list[str]:
        return [f"engine: {self.engine.described(device_type, self.network.backbone.input_shape)}"]

    def freeze_backbone(self) -> None:
        moving = [name for name in self.adapting if name.startswith("backbone.")]
        if moving:
            raise BadInput(
                f"freeze_backbone=true leaves the backbone as it is, but the inner loop changes {moving[0]} and others: "
                "give algo.adapts=[head.*] too"
            )
        super().freeze_backbone()

    def step_sizes(self, inner_lr: float) -> Any:
        """What the update calls alpha: a constant, or parameters that begin with it."""
        return inner_lr

    @abstractmethod
    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """One inner step: theta' from theta and what the inner optimiser makes of the gradients of the support loss."""

    def forward(self, support: Examples, query_x: Tensor) -> Tensor:
        return self.adapt(support, query_x).answers[:, -1]

    def learn(self, support: Examples) -> AdaptedTasks:
        adapted = self.adapt(support, support.x[:, :0], answered=())
        return AdaptedTasks(adapted.parameters, support.x)

    def answers_from(self, learned: AdaptedTasks, query_x: Tensor) -> Tensor:
        return self.engine.answer(self._inner_loop((), None), *learned, query_x)

    @property
    def task_steps(self) -> int:
        return self.test_inner_steps

    @property
    def watched_steps(self) -> tuple[int, ...]:
        steps = self.test_inner_steps
        return tuple(sorted({*range(min(steps, _WATCHED) + 1), steps}))

    def answers_on_the_way(self, episode: Episode) -> Tensor:
        return self.adapt(episode.support, episode.query.x, answered=self.watched_steps).answers

    def features_around_adapting(self, episode: Episode) -> tuple[Tensor, Tensor | None]:
        x = episode.support.x, episode.query.x
        before = self.network.features(*x)
        adapted = self.learn(episode.support).parameters
        step, after = max(self.test_inner_steps - 1, 0), []
        for task in range(len(episode)):
            of_task = {f"network.{name}": value[task] for name, value in adapted.items()}
            after.append(functional_call(_Features(self.network), of_task, (*(each[task : task + 1] for each in x), step)))
        return before, torch.cat(after)

    def training_loss(self, episode: Episode) -> Learned:
        adapted = self.adapt(episode.support, episode.query.x, episode.number)
        answers = adapted.answers[:, -1]
        return Learned(self.problem.loss(answers, episode.query.y), answers, adapted.losses)

    def adapt(
        self,
        support: Examples,
        query_x: Tensor,
        number: Tensor | None = None,
        answered: tuple[int, ...] | None = None,
        first_order: bool | None = None,
    ) -> Adapted:
        """Adapt to each task, and answer its queries after the last step or after each number of steps in `answered`.
        Mini-batches are drawn by the numbers of the episodes, the same ones for every task where these are not given."""
        inner = self._inner_loop(answered, first_order)
        batches = None
        examples = support.x.shape[1]
        if self.batch_size is not None and self.batch_size < examples:
            numbers = np.zeros(len(query_x), dtype=np.int64) if number is None else number.cpu().numpy()
            batches = minibatches(numbers, examples, self.batch_size, inner.steps).to(query_x.device)
        return self.engine(inner, support, query_x, batches)

    def _inner_loop(self, answered: tuple[int, ...] | None, first_order: bool | None) -> InnerLoop:
        steps = self.inner_steps if self.training else self.test_inner_steps
        return InnerLoop(
            network=self.network,
            adapting=self.adapting,
            learned=tuple(parameter for parameter in self.parameters() if parameter.requires_grad),
            loss=self.inner_loss,
            remember=self.inner_optimizer.remember,
            update=self._step,
            steps=steps,
            first_order=self.first_order if first_order is None else first_order,
            answered=(steps,) if answered is None else answered,
            least_fall=self.least_fall,
            recompute=self.checkpoint_inner_steps,
        )

    def _step(self, theta: Parameters, gradients: Parameters, memory: Memory, step: int) -> tuple[Parameters, Memory]:
        directions, memory = self.inner_optimizer.directions(gradients, memory, step)
        return self.update(theta, directions, step), memory

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


class _Features(nn.Module):
    """The features of a network as what it computes, which `functional_call` needs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, support_x: Tensor, query_x: Tensor, step: int) -> Tensor:
        return self.network.features(support_x, query_x, step)
