"""Reptile: Nichol, Achiam, Schulman 2018, "On first-order meta-learning algorithms", arXiv:1803.02999.

The network takes a few inner steps on mini-batches of each task, and the meta-parameters phi then move part of the way
towards the adapted parameters: phi <- phi + epsilon * mean(phi_task - phi). No query set is needed, so training uses all
examples of an episode. `test_inner_steps` and `test_inner_batch` apply in tests, which are transductive in most results of
the paper (`backbone.normalisation=transductive`); with `support` queries are normalised independently of each other.

phi - phi_task is passed to the outer optimiser as if it were a gradient: with `optimizer.name=sgd`, no momentum and the rate
epsilon, which decays from 1 to 0, this is the paper's update. The inner optimiser is the paper's too, Adam without momentum
(beta1 = 0). Both are the default; `experiment=reptile_omniglot` has all hyperparameters of the paper for Omniglot, and
photographs have its hyperparameters for miniImageNet (conf/paper/photographs/reptile.yaml).

Where this departs from the paper: its code carries Adam's second moments over from one training task to the next, here every
task starts without any; inductive queries are normalised by the support set alone; and on drawings the inner rate is 0.01 by
default instead of 0.001, for runs of thousands of steps instead of a hundred thousand. On Omniglot (`data.tasks_per_step=5
backbone.downsampling=stride`, 5-way 1-shot) this reaches 78.6 % ± 2.1 after 200 steps, plain inner steps of 0.1 with an
outer Adam reach 75.3 % ± 2.1, and the paper's rate with its inner loop 63.0 % ± 1.5 after 400.
"""

from typing import Any

import torch

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.arguments import Count
from metashot.engines.inner import Parameters
from metashot.episodes import Episode, Examples


class Reptile(GradientLearner):
    def __init__(self, test_inner_batch: Count | None, **learner: Any) -> None:
        super().__init__(**learner)
        self.test_inner_batch = test_inner_batch
        self.refuse_to_compare_parts("test_inner_batch", test_inner_batch)
        for name, parameter in self.network.named_parameters():  # parameters that do not adapt are never updated
            parameter.requires_grad_(name in self.adapted_names)

    @property
    def batch_size(self) -> int | None:
        return self.inner_batch if self.training else self.test_inner_batch

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha * gradient"""
        return descended(theta, self.alpha, directions)

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
        phi = {name: value for name, value in self.network.named_parameters() if name in self.adapted_names}
        gradient = self.outer_gradient({name: phi[name].detach() - result.parameters[name] for name in phi})
        surrogate = torch.stack([(phi[name] * gradient[name]).sum() for name in phi]).sum()  # its derivative is the gradient
        answers = result.answers[:, -1]
        loss = self.problem.loss(answers, query.y) + surrogate - surrogate.detach()  # its value is the loss after adapting
        return TrainingStep(loss, answers, result.losses)
