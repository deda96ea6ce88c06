"""A backbone with a linear head: the network that gradient-based algorithms adapt."""

import torch
from torch import Tensor, nn

from metashot.backbones.base import Backbone


class Classifier(nn.Module):
    """Images [T, N, ...] to scores [T, N, ways]."""

    def __init__(self, backbone: Backbone, ways: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.features, ways)

    def forward(self, images: Tensor) -> Tensor:
        """Scores of images that are normalised among themselves, such as a support set."""
        scores: Tensor = self.head(self.backbone(images, support=images.shape[1]))
        return scores

    def answer(self, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Scores of queries, normalised as the backbone's protocol says."""
        if self.backbone.normalisation != "support":
            return self.forward(query_x)
        count = support_x.shape[1]
        features = self.backbone(torch.cat([support_x, query_x], dim=1), support=count)
        scores: Tensor = self.head(features[:, count:])
        return scores
