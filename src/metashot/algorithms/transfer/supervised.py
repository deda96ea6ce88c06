"""The base class of algorithms whose backbone is trained to classify all training classes, on shuffled images."""

from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.episodes import Episode
from metashot.problems import Problem


class SupervisedFeatures(FeatureLearner):
    """A feature learner that is trained with a linear head and cross-entropy; tasks do not use the head."""

    supervised = True

    def __init__(self, backbone: Backbone, problem: Problem, optimizer: Optimization) -> None:
        super().__init__(backbone, problem, optimizer)
        self.head = nn.Linear(backbone.features, problem.outputs)

    @property
    def trains_for_tasks(self) -> bool:
        return any(parameter.requires_grad for name, parameter in self.named_parameters() if not name.startswith("head."))

    def training_loss(self, episode: Episode) -> TrainingStep:
        features = self.query_features(episode)
        answers: Tensor = self.head(features)  # [T, N, training classes]
        return TrainingStep(self.problem.loss(answers, episode.query.y), answers)
