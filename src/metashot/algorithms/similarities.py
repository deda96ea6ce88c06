"""Class means, distances and cosines of features, for all tasks at once and without mixed precision."""

import torch
import torch.nn.functional as F
from torch import Tensor


def memberships(y: Tensor, like: Tensor) -> Tensor:
    """One-hot labels [T, N, ways] with the dtype of `like`."""
    return F.one_hot(y).to(like.dtype)


def class_means(features: Tensor, y: Tensor) -> Tensor:
    """The mean feature of each class: [T, ways, features]."""
    members = memberships(y, features)  # [T, S, ways]
    with torch.autocast(features.device.type, enabled=False):
        return members.transpose(1, 2) @ features / members.sum(1).unsqueeze(-1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """The squared Euclidean distances [T, N, M] between the rows of `a` [T, N, features] and of `b` [T, M, features]."""
    with torch.autocast(a.device.type, enabled=False):
        return a.square().sum(-1, keepdim=True) - 2 * a @ b.transpose(1, 2) + b.square().sum(-1).unsqueeze(1)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """The cosine similarities [T, N, M] between the rows of `a` [T, N, features] and of `b` [T, M, features]."""
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).transpose(1, 2)


def weighted_absolute_differences(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """sum_j weights_j |a_j - b_j| [T, N, M] between the rows of `a` [T, N, features] and of `b` [T, M, features].

    Weights may be negative. The sum is computed as the difference of two distances, which avoids a tensor
    [T, N, M, features]. A weight of exactly zero gets no gradient.
    """
    with torch.autocast(a.device.type, enabled=False):
        positive, negative = (torch.cdist(a * size, b * size, p=1) for size in (weights.relu(), (-weights).relu()))
        return positive - negative
