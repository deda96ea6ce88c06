"""Reptile: Nichol, Achiam, Schulman 2018, "On first-order meta-learning algorithms", arXiv:1803.02999.

The network is trained on each task by a few inner steps on mini-batches, and the meta-parameters phi then move a part of
the way towards where that led: phi <- phi + epsilon * mean(phi_task - phi). No query is needed, so all examples of a
training episode are trained on. `test_inner_steps` and `test_inner_batch` are those of testing, which is transductive in
most results of the paper (`backbone.normalisation=transductive`); `support` normalises queries without each other.

phi - phi_task is handed to the outer optimiser as if it were a gradient: with `optimizer.name=sgd`, no momentum and the rate
epsilon, which falls from 1 to 0, that is the paper's update. The inner optimiser is the paper's too, Adam without momentum
(beta1 = 0). Both are the default; `experiment=reptile_omniglot` has all of the paper's numbers for Omniglot, and photographs
have its numbers for miniImageNet (conf/paper/photographs/reptile.yaml).

Where this departs from the paper: its code keeps Adam's second moments from task to task of training, here every task begins
with none; inductive queries are normalised by the support set alone; and on drawings the inner rate is 0.01 by default
instead of 0.001, for runs of thousands of steps instead of a hundred thousand. On Omniglot (`data.tasks_per_step=5
backbone.downsampling=stride`, 5-way 1-shot) that reaches 78.6 % ± 2.1 after 200 steps, plain inner steps of 0.1 under an
outer Adam 75.3 % ± 2.1, and the paper's rate with its inner loop 63.0 % ± 1.5 after 400.
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
        for name, parameter in self.network.named_parameters():  # what no task changes stays as it begins
            parameter.requires_grad_(name in self.adapted_names)

    @property
    def batch_size(self) -> int | None:
        return self.inner_batch if self.training else self.test_inner_batch

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha * gradient"""
        return descended(theta, self.alpha, directions)

    def outer_gradient(self, differences: Parameters) -> Parameters:
        """mean(phi - phi_task), of the differences [T, ...] of all tasks"""
        return {name: difference.mean(0) for name, difference in differences.items()}

    def training_loss(self, episode: Episode) -> TrainingStep:
        support, query = episode.support, episode.query
        examples = Examples(torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1))
        with torch.no_grad():
            adapted = self.run_inner_loop(examples, query.x, episode.number)
        phi = {name: value for name, value in self.network.named_parameters() if name in self.adapted_names}
        gradient = self.outer_gradient({name: phi[name].detach() - adapted.parameters[name] for name in phi})
        towards = torch.stack([(phi[name] * gradient[name]).sum() for name in phi]).sum()  # its derivative is the gradient
        answers = adapted.answers[:, -1]
        loss = self.problem.loss(answers, query.y) + towards - towards.detach()  # its value is the loss after adapting
        return TrainingStep(loss, answers, adapted.losses)
