"""Baseline++: Chen, Liu, Kira, Wang, Huang 2019, "A closer look at few-shot classification", arXiv:1904.04232.

As Baseline, but a class's score is the cosine between an image's features and the class's weights, times a constant. This
pulls the features of a class together, in training and when a classifier is fitted to a support set.

Where this departs from the paper: the weights of a fitted classifier begin at the mean directions of the classes' features
instead of at random numbers, and it is fitted to the whole support set in each step instead of to four examples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.base import Learned
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import class_means, cosines
from metashot.algorithms.transfer.fitting import Classifier, Fit
from metashot.arguments import Positive
from metashot.backbones.base import Backbone
from metashot.episodes import Episode, Examples
from metashot.problems import Problem


class BaselinePlusPlus(FeatureLearner):
    supervised = True

    def __init__(
        self, name: str, backbone: Backbone, problem: Problem, scale: Positive, fit: Fit, optimizer: Optimization
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.scale = scale
        self.fit = fit
        self.head = torch.nn.Linear(backbone.features, problem.outputs, bias=False)

    def training_loss(self, episode: Episode) -> Learned:
        images = episode.query
        features = self.embed(images.x, support=images.x.shape[1])
        answers = self.scores((self.head.weight[None],), features)  # [T, N, training classes]
        return Learned(self.problem.loss(answers, images.y), answers)

    def summary(self, support: Examples) -> Classifier:
        start = class_means(F.normalize(support.x, dim=-1), support.y)
        return self.fit(self.scores, (start,), support)

    def answer(self, classifier: Classifier, query: Tensor) -> Tensor:
        return self.scores(classifier, query)

    def scores(self, classifier: Classifier, features: Tensor) -> Tensor:
        """[T, N, ways]"""
        (weight,) = classifier
        return self.scale * cosines(features, weight)
