"""What algorithms of this package share."""

from torch import Tensor

from metashot.algorithms.features import FeatureLearner
from metashot.algorithms.similarities import class_means
from metashot.episodes import Examples


class WithPrototypes(FeatureLearner):
    """A class is represented by the mean of its support features."""

    def summary(self, support: Examples) -> Tensor:
        return class_means(support.x, support.y)  # the prototypes [T, ways, features]
