"""Baseline: Chen, Liu, Kira, Wang, Huang 2019, "A closer look at few-shot classification", arXiv:1904.04232.

The backbone and a linear layer are trained to classify all training classes, on shuffled images. For each task the backbone
is frozen, and a new linear classifier is fitted to the features of the support set: by 100 steps of gradient descent with
the learning rate, momentum, dampening and weight decay of the authors' code.

Where this departs from the paper: a classifier is initialised to zero instead of at random, and is fitted to the whole
support set in each of 100 steps instead of to four examples in each of 200 (5-way 1-shot) or 700 (5-way 5-shot).
"""

from torch import Tensor

from metashot.algorithms.optimization import Optimization
from metashot.algorithms.transfer.fitting import Classifier, Fit
from metashot.algorithms.transfer.supervised import SupervisedFeatures
from metashot.backbones.base import Backbone
from metashot.episodes import Examples
from metashot.problems import Problem


class Baseline(SupervisedFeatures):
    def __init__(self, backbone: Backbone, problem: Problem, fit: Fit, optimizer: Optimization) -> None:
        super().__init__(backbone, problem, optimizer)
        self.fit = fit

    @property
    def task_steps(self) -> int:
        return self.fit.steps

    def summary(self, support: Examples) -> Classifier:
        tasks, _, features = support.x.shape
        ways = int(support.y.max()) + 1
        start = support.x.new_zeros(tasks, ways, features), support.x.new_zeros(tasks, ways)
        return self.fit(linear_logits, start, support)

    def answer(self, classifier: Classifier, query: Tensor) -> Tensor:
        return linear_logits(classifier, query)


def linear_logits(classifier: Classifier, features: Tensor) -> Tensor:
    """W f + b: [T, N, ways]"""
    weight, bias = classifier
    return features @ weight.transpose(1, 2) + bias.unsqueeze(1)
