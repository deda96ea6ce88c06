"""The networks that gradient-based algorithms adapt: a backbone, alone or with a linear head."""

import torch
from torch import Tensor

from metashot.backbones.base import Backbone
from metashot.backbones.layers import Linear
from metashot.backbones.normalisation import normalisations
from metashot.engines.inner import Adaptable


class FeatureNetwork(Adaptable):
    """A backbone without a head: maps inputs [T, N, ...] to features [T, N, features].

    In all methods `step` is the number of the inner step that the pass belongs to.
    """

    outputs: int | None = None  # the size of an answer, if a head fixes it

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    @property
    def fused(self) -> bool:
        if any(parameter.dtype is not torch.float32 for parameter in self.parameters()):
            return False
        owners = (module for module in self.modules() if next(module.parameters(recurse=False), None) is not None)
        return self.backbone.fused_blocks and all(getattr(owner, "takes_tasks", False) for owner in owners)

    def forward(self, x: Tensor, step: int = 0) -> Tensor:
        """Features of inputs that are normalised together, such as a support set."""
        self._set(step)
        features: Tensor = self.backbone(x, support=x.shape[1])
        return features

    def answer(self, support_x: Tensor, query_x: Tensor, step: int = 0) -> Tensor:
        """Without a head: the features [T, S + Q, features] of both, to be compared."""
        return self.features(support_x, query_x, step)

    def features(self, support_x: Tensor, query_x: Tensor, step: int = 0) -> Tensor:
        """Features [T, S + Q, features] of support examples and queries, normalised by the backbone's protocol."""
        self._set(step)
        count = support_x.shape[1]
        if any(layer.by_support for layer in normalisations(self.backbone)):
            features: Tensor = self.backbone(torch.cat([support_x, query_x], dim=1), support=count)
            return features
        return torch.cat([self.backbone(x, support=x.shape[1]) for x in (support_x, query_x)], dim=1)

    def _set(self, step: int) -> None:
        for layer in normalisations(self):
            layer.step = step


class Network(FeatureNetwork):
    """A backbone with a linear head: maps inputs [T, N, ...] to answers [T, N, outputs]."""

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__(backbone)
        self.outputs = outputs
        self.head = Linear(backbone.features, outputs)

    def forward(self, x: Tensor, step: int = 0) -> Tensor:
        """Answers to inputs that are normalised together, such as a support set."""
        answers: Tensor = self.head(super().forward(x, step))
        return answers

    def answer(self, support_x: Tensor, query_x: Tensor, step: int = 0) -> Tensor:
        """Answers [T, Q, outputs] to queries, normalised by the backbone's protocol."""
        if not any(layer.by_support for layer in normalisations(self.backbone)):
            return self.forward(query_x, step)
        answers: Tensor = self.head(self.features(support_x, query_x, step)[:, support_x.shape[1] :])
        return answers
