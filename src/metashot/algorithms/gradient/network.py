"""A backbone with a linear head: the network that gradient-based algorithms adapt."""

import torch
from torch import Tensor, nn

from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import normalisations


class Network(nn.Module):
    """Inputs [T, N, ...] to answers [T, N, outputs]. `step` is that of the inner loop which a pass belongs to."""

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.features, outputs)

    def forward(self, x: Tensor, step: int = 0) -> Tensor:
        """Answers to inputs that are normalised among themselves, such as a support set."""
        self._set(step)
        answers: Tensor = self.head(self.backbone(x, support=x.shape[1]))
        return answers

    def answer(self, support_x: Tensor, query_x: Tensor, step: int = 0) -> Tensor:
        """Answers to queries, normalised as the backbone's protocol says."""
        if not any(layer.by_support for layer in normalisations(self.backbone)):
            return self.forward(query_x, step)
        self._set(step)
        count = support_x.shape[1]
        features = self.backbone(torch.cat([support_x, query_x], dim=1), support=count)
        answers: Tensor = self.head(features[:, count:])
        return answers

    def features(self, support_x: Tensor, query_x: Tensor, step: int = 0) -> Tensor:
        """Of support examples and queries [T, S + Q, features], normalised as for their answers."""
        self._set(step)
        count = support_x.shape[1]
        if any(layer.by_support for layer in normalisations(self.backbone)):
            features: Tensor = self.backbone(torch.cat([support_x, query_x], dim=1), support=count)
            return features
        return torch.cat([self.backbone(x, support=x.shape[1]) for x in (support_x, query_x)], dim=1)

    def _set(self, step: int) -> None:
        for layer in normalisations(self):
            layer.step = step
