"""Fitting a classifier to the support set of each task, on features that stay as they are."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.arguments import AtLeast, Below, NotNegative, Positive, Steps
from metashot.episodes import Examples

Classifier = tuple[Tensor, ...]  # the parameters of T classifiers, [T, ...] each
Scores = Callable[[Classifier, Tensor], Tensor]  # of features [T, N, features]: [T, N, ways]


class Fit:
    """Gradient descent on the mean cross-entropy of the whole support set, with momentum as `torch.optim.SGD` has it:
    `dampening` is the share of each gradient but the first that the velocity leaves out."""

    def __init__(
        self,
        steps: Steps,
        lr: Positive,
        momentum: Annotated[float, AtLeast(0), Below(1)],
        weight_decay: NotNegative,
        dampening: Annotated[float, AtLeast(0), Below(1)] = 0.0,  # checkpoints from before this key had none
    ) -> None:
        self.steps = steps
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.dampening = dampening

    def __call__(self, scores: Scores, start: Classifier, support: Examples) -> Classifier:
        """The classifiers of T tasks, each fitted to its support features [T, S, features] and to nothing else."""
        x, y = support.x.detach(), support.y
        classifier = tuple(part.detach() for part in start)
        velocity = tuple(torch.zeros_like(part) for part in classifier)
        for step in range(self.steps):
            share = 1 - self.dampening if step else 1.0
            with torch.enable_grad():
                classifier = tuple(part.requires_grad_() for part in classifier)
                losses = F.cross_entropy(scores(classifier, x).flatten(0, 1), y.flatten(), reduction="none")
                gradients = torch.autograd.grad(losses.view_as(y).mean(1).sum(), classifier)
            velocity = tuple(
                self.momentum * v + share * gradient + share * self.weight_decay * part.detach()
                for v, gradient, part in zip(velocity, gradients, classifier, strict=True)
            )
            classifier = tuple(part.detach() - self.lr * v for part, v in zip(classifier, velocity, strict=True))
        return classifier
