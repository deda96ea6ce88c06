"""Reptile: Nichol, Achiam, Schulman 2018, "On first-order meta-learning algorithms", arXiv:1803.02999.

The network takes a few inner steps on mini-batches of each task, and the meta-parameters phi then move part of the way
towards the adapted parameters: phi <- phi + epsilon * mean(phi_task - phi). No query set is needed, so training uses all
examples of an episode. `test_inner_steps` and `test_inner_batch` apply in tests, which are transductive in most results of
the paper (`backbone.normalisation=transductive`); with `support` queries are normalised independently of each other.

phi - phi_task is passed to the outer optimiser as if it were a gradient: with `optimizer.name=sgd`, no momentum and the rate
epsilon, which decays from 1 to 0, this is the paper's update. The inner optimiser is the paper's too, Adam without momentum
(beta1 = 0). Both are the default; `experiment=reptile_omniglot` has all hyperparameters of the paper for Omniglot, and
photographs have its hyperparameters for miniImageNet (conf/paper/photographs/reptile.yaml).

Adam's averages of squared gradients are carried over from one training task to the next, and to tests, as in the authors'
code (`carries_squares`): without them, the first step of a task moves all parameters equally far, whatever their gradients
are. On glyphs, `python train.py algo=reptile` then ends at 80.8 instead of 88.9 %.

Where this departs from the authors' code: tasks of a step start from the same averages, and the mean of what they lead to is
carried over, where the code takes one task after the other; Adam's epsilon stands under the root (see `inner_optimizer`);
inductive queries are normalised by the support set alone; and on drawings the inner rate is 0.01 by default instead of
0.001, for runs of thousands of steps instead of a hundred thousand.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.inner_optimizer import SHARE
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.arguments import Count
from metashot.engines.inner import OptimizerState, Parameters
from metashot.episodes import Batch, Episode, Examples


class Reptile(GradientLearner):
    """`test_inner_batch` is the number of support examples in each inner step of tests, and `carries_squares` says whether
    tasks start from the averages of squared gradients of earlier training tasks, where the inner optimiser has them."""

    squares: Tensor | None  # [parameters]: the averages for all adapted parameters, one after the other
    share: Tensor | None  # of these averages (see `SHARE`)

    def __init__(self, test_inner_batch: Count | None, carries_squares: bool = False, **learner: Any) -> None:
        super().__init__(**learner)
        self.test_inner_batch = test_inner_batch
        sizes = [parameter.numel() for name, parameter in self.network.named_parameters() if name in self.adapted_names]
        carries = carries_squares and self.inner_optimizer.averages_squares
        self.register_buffer("squares", torch.zeros(sum(sizes)) if carries else None)
        self.register_buffer("share", torch.zeros([]) if carries else None)
        self.register_load_state_dict_pre_hook(_refuse_other_averages)  # type: ignore[no-untyped-call]
        self._led_to: list[tuple[Tensor, Tensor]] = []  # sums of averages and shares over the tasks of each group in a step
        self._next: Tensor | None = None  # means of both over all tasks of a step, until it is taken
        self.refuse_to_compare_parts("test_inner_batch", test_inner_batch)
        for name, parameter in self.network.named_parameters():  # parameters that do not adapt are never updated
            parameter.requires_grad_(name in self.adapted_names)

    @property
    def batch_size(self) -> int | None:
        return self.inner_batch if self.training else self.test_inner_batch

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha * gradient"""
        return descended(theta, self.alpha, directions)

    def initial_state(self, theta: Parameters) -> OptimizerState:
        state = super().initial_state(theta)
        if self.squares is None or self.share is None:
            return state
        tasks = len(next(iter(theta.values())))
        parts = torch.split(self.squares, [value[0].numel() for value in theta.values()])
        carried = {f"v {name}": part.view(theta[name].shape[1:]) for name, part in zip(theta, parts, strict=True)}
        carried[SHARE] = self.share
        return state | {name: value.expand(tasks, *value.shape) for name, value in carried.items()}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        self._led_to = []
        found = super().training_step(batch, batch_idx)
        if self.squares is not None and self.share is not None:
            led_to = torch.cat([torch.stack(parts).sum(0) for parts in zip(*self._led_to, strict=True)])
            total = self._total(torch.cat([led_to, led_to.new_tensor([sum(map(len, batch))])]))
            self._next = total[:-1] / total[-1]
        return found

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Carry the averages over, unless the step is skipped: one that is not finite would spoil all that follow."""
        if self.squares is None or self.share is None or self._next is None:
            return
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        is_taken = bool(gradients) and bool(torch.nn.utils.get_total_norm(gradients).isfinite())
        if is_taken and bool(self._next.isfinite().all()):
            self.squares.copy_(self._next[:-1])
            self.share.copy_(self._next[-1])

    def outer_gradient(self, differences: Parameters) -> Parameters:
        """mean(phi - phi_task) over the differences [T, ...] of all tasks"""
        return {name: difference.mean(0) for name, difference in differences.items()}

    def tasks_at_once(self, episode: Episode) -> int:
        return len(episode)  # no graph is kept of any task

    def training_loss(self, episode: Episode) -> TrainingStep:
        support, query = episode.support, episode.query
        examples = Examples(torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1))
        with torch.no_grad():
            result = self.run_inner_loop(examples, query.x, episode.number)
        if self.squares is not None:
            averages = [result.state[f"v {name}"].flatten(1) for name in self.adapted_names]
            self._led_to.append((torch.cat(averages, 1).sum(0), result.state[SHARE].sum()[None]))
        phi = {name: value for name, value in self.network.named_parameters() if name in self.adapted_names}
        gradient = self.outer_gradient({name: phi[name].detach() - result.parameters[name] for name in phi})
        surrogate = torch.stack([(phi[name] * gradient[name]).sum() for name in phi]).sum()  # its derivative is the gradient
        answers = result.answers[:, -1]
        loss = self.problem.loss(answers, query.y) + surrogate - surrogate.detach()  # its value is the loss after adapting
        return TrainingStep(loss, answers, result.losses)


def _refuse_other_averages(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    assert isinstance(module, Reptile)
    errors: list[str] = others[-1]
    squares, share = state.get(f"{prefix}squares"), state.get(f"{prefix}share")
    if squares is None or share is None:
        return
    if module.squares is None:
        del state[f"{prefix}squares"], state[f"{prefix}share"]
        errors.append(
            "they have averages of squared gradients, unlike what algo.carries_squares and algo.inner_optimizer say"
        )
    elif not squares.is_meta and not _are_averages(squares, share):
        errors.append("the values of squares or share cannot be averages of squared gradients")


def _are_averages(squares: Tensor, share: Tensor) -> bool:
    """Each square is divided by the share of what it is an average of."""
    if not (squares.is_floating_point() and share.is_floating_point() and share.numel() == 1):
        return False
    in_range = bool(((squares >= 0) & (squares < math.inf)).all()) and 0 <= share.item() <= 1
    return in_range and (share.item() > 0 or not squares.any())
