"""MAML++: Antoniou, Edwards, Storkey 2019, "How to train your MAML", arXiv:1810.09502.

MAML with improvements that can each be switched off. The outer loss is a weighted sum of the query losses after every
inner step, whose weights move to the last step while training goes on (`multi_step_loss`); each parameter tensor has a
learned step size for each inner step (`learned_step_sizes`); batch normalisation has averages, and weights and biases, for
each inner step (`averages_per_step`, `affine_per_step`); second derivatives are left out at the beginning
(`first_order_share`). The outer rate falls along a cosine (`optimizer.schedule`), the outer gradient's norm is limited
(`trainer.gradient_clip`).

Where this departs from the paper: with `backbone.normalisation=running` the averages of each step are really used at test
time, while the authors' code normalises by the batch at hand there too, which is `transductive`. The discounted form of the
outer loss (weight gamma^k for the loss k steps before the last) and `least_fall`, with which a task takes fewer steps, are
not in the paper. Steps beyond those of training use the step sizes and the normalisation of the last one. Step sizes begin
at 0.01 on photographs, for five steps, as in the authors' settings for miniImageNet (conf/paper/photographs/mamlpp.yaml); on
drawings at 0.4, for three, where the authors have 0.1 and five.
"""

from typing import Annotated, Any, Literal

import torch
from torch import nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.gradient.descent import descended
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.arguments import AtLeast, AtMost
from metashot.backbones.normalisation import normalisations
from metashot.bad_input import BadInput
from metashot.engines.inner import Parameters
from metashot.episodes import Episode

Share = Annotated[float, AtLeast(0), AtMost(1)]
_LEAST = 0.03  # of an equal weight: what losses before the last keep while the weights are annealed, as in the authors' code


class MAMLpp(GradientLearner):
    def __init__(
        self,
        multi_step_loss: Literal["annealed", "discounted"] | None,
        annealed_share: Share,
        gamma: Share,
        learned_step_sizes: bool,
        averages_per_step: bool,
        affine_per_step: bool,
        first_order_share: Share,
        **learner: Any,
    ) -> None:
        self.learned_step_sizes = learned_step_sizes
        super().__init__(**learner)
        self.multi_step_loss = multi_step_loss
        self.annealed_share = annealed_share
        self.gamma = gamma
        self.first_order_share = first_order_share
        protocol = self.network.backbone.normalisation
        if averages_per_step and protocol != "running":
            raise BadInput(
                f"algo.averages_per_step=true needs backbone.normalisation=running, because {protocol} learns no averages"
            )
        for layer in normalisations(self.network):
            layer.separate_steps(self.inner_steps, averages_per_step, affine_per_step)

    def step_sizes(self, inner_lr: float) -> Any:
        if not self.learned_step_sizes:
            return inner_lr
        self.positions = {name: position for position, name in enumerate(self.adapted_names)}  # in the rows of alpha
        return nn.Parameter(torch.full((len(self.adapted_names), self.inner_steps), inner_lr))

    def update(self, theta: Parameters, directions: Parameters, step: int) -> Parameters:
        """theta' = theta - alpha * gradient, with an alpha for each layer and step"""
        if not self.learned_step_sizes:
            return descended(theta, self.alpha, directions)
        own = self.alpha[:, min(step, self.inner_steps - 1)]
        return descended(theta, {name: own[self.positions[name]] for name in theta}, directions)

    def training_loss(self, episode: Episode) -> TrainingStep:
        """L = sum over steps i of v_i * L_query(theta_i)"""
        weights = {step: weight for step, weight in enumerate(self.step_weights(), 1) if weight}
        adapted = self.run_inner_loop(
            episode.support,
            episode.query.x,
            episode.number,
            answer_after=tuple(weights),
            first_order=self.first_order or self.progress < self.first_order_share,
        )
        losses = [
            weight * self.problem.loss(adapted.answers[:, position], episode.query.y)
            for position, weight in enumerate(weights.values())
        ]
        return TrainingStep(torch.stack(losses).sum(), adapted.answers[:, -1], adapted.losses)

    def step_weights(self) -> list[float]:
        """v_i of the query loss after each inner step; those that begin equal move to the last step as training goes on."""
        steps = self.inner_steps
        if self.multi_step_loss == "discounted":
            weights = [self.gamma ** (steps - step) for step in range(1, steps + 1)]
            return [weight / sum(weights) for weight in weights]
        if self.multi_step_loss is None or self.progress >= self.annealed_share:
            return [0.0] * (steps - 1) + [1.0]
        early = max(1 - self.progress / self.annealed_share, _LEAST) / steps
        return [early] * (steps - 1) + [1 - early * (steps - 1)]
