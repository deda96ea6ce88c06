"""Fit a classifier to the support features of each task, with a frozen backbone."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.arguments import AtLeast, Below, NotNegative, Positive, Steps
from metashot.episodes import Examples

Classifier = tuple[Tensor, ...]  # the parameters of T classifiers, each tensor [T, ...]
Logits = Callable[[Classifier, Tensor], Tensor]  # maps features [T, N, features] to logits [T, N, ways]


class Fit:
    """Gradient descent on the mean cross-entropy of the whole support set, with the momentum of `torch.optim.SGD`.

    Args:
        steps: The number of steps.
        lr: The learning rate.
        momentum: The momentum.
        weight_decay: The weight decay.
        dampening: The share of each gradient after the first that is not added to the velocity.
    """

    def __init__(
        self,
        steps: Steps,
        lr: Positive,
        momentum: Annotated[float, AtLeast(0), Below(1)],
        weight_decay: NotNegative,
        dampening: Annotated[float, AtLeast(0), Below(1)] = 0.0,  # older checkpoints do not store it
    ) -> None:
        self.steps = steps
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.dampening = dampening

    def __call__(self, logits: Logits, start: Classifier, support: Examples) -> Classifier:
        """Fit the classifiers of T tasks, independently of each other and without gradients to the features.

        Args:
            logits: Computes the logits of classifiers on features.
            start: The initial classifiers.
            support: Support features [T, S, features] with labels [T, S].

        Returns:
            The fitted classifiers.
        """
        x, y = support.x.detach(), support.y
        classifier = tuple(part.detach() for part in start)
        velocity = tuple(torch.zeros_like(part) for part in classifier)
        for step in range(self.steps):
            share = 1 - self.dampening if step else 1.0
            with torch.enable_grad():
                classifier = tuple(part.requires_grad_() for part in classifier)
                losses = F.cross_entropy(logits(classifier, x).flatten(0, 1), y.flatten(), reduction="none")
                gradients = torch.autograd.grad(losses.view_as(y).mean(1).sum(), classifier)
            velocity = tuple(
                self.momentum * v + share * gradient + share * self.weight_decay * part.detach()
                for v, gradient, part in zip(velocity, gradients, classifier, strict=True)
            )
            classifier = tuple(part.detach() - self.lr * v for part, v in zip(classifier, velocity, strict=True))
        return classifier
