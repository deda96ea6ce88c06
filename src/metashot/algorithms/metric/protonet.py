"""Prototypical networks: Snell, Swersky, Zemel 2017, "Prototypical networks for few-shot learning", arXiv:1703.05175.

Each class is represented by its prototype, the mean of its support features. A query is assigned to the class of the nearest
prototype: its logits are the negative squared distances, and training minimises their cross-entropy. The paper's batch
normalisation accumulates running averages over whole episodes and uses them at test time, which is `normalisation: running`.

The paper compares the squared Euclidean distance with the cosine distance. Logits are divided by a temperature, which can be
learned and which the paper does not have (it is 1): cosines, which lie between -1 and 1, need one well below 1.

With `normalise` it is SimpleShot: Wang, Chao, Weinberger, van der Maaten 2019, "SimpleShot: revisiting nearest-neighbor
classification for few-shot learning", arXiv:1911.04623. Features are divided by their lengths (`l2`), for `centre_l2` after
the mean feature of the training classes is subtracted. In the paper the backbone is trained to classify all those classes:
`algo=baseline`, given with `init_from`, and `trainer.max_steps=0`. Where this departs from the paper: the mean is that of at
most 2,000 training items instead of all, and in training on episodes that of the last validation.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from metashot.algorithms.centring import CentresFeatures, FeatureNormalisation, Normalise
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import class_means, cosines, squared_distances
from metashot.arguments import Positive
from metashot.backbones.base import Backbone
from metashot.episodes import Examples
from metashot.problems import Problem


class ProtoNet(CentresFeatures):
    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        distance: Literal["euclidean", "cosine"],
        temperature: Positive,
        learned_temperature: bool,
        optimizer: Optimization,
        normalise: Normalise = "none",  # older checkpoints do not store it
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.distance = distance
        self.normalised = FeatureNormalisation(normalise, backbone.features)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learned_temperature)

    def summary(self, support: Examples) -> Tensor:
        return class_means(self.normalised(support.x), support.y)  # prototypes [T, ways, features]

    def answer(self, prototypes: Tensor, query: Tensor) -> Tensor:
        query = self.normalised(query)
        similarities = cosines(query, prototypes) if self.distance == "cosine" else -squared_distances(query, prototypes)
        return similarities / self.log_temperature.exp()
