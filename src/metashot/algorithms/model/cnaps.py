"""Simple CNAPS: Bateni, Goyal, Masrani, Wood, Sigal 2020, "Improved few-shot visual classification", arXiv:1912.03432,
after CNAPS: Requeima, Gordon, Bronskill, Nowozin, Turner 2019, "Fast and flexible multi-task classification using
conditional neural adaptive processes", arXiv:1906.07697.

A task encoder turns the support set into a code z, the mean over its examples, whatever their number and order. From z a
generator makes FiLM parameters, a scale 1 + gamma and a shift of each channel of a frozen network. Classes are then
compared in the task's features: a query's logit is minus half its squared Mahalanobis distance to the class mean mu_k, with

    Q_k = lambda_k S_k + (1 - lambda_k) S + beta I,    lambda_k = n_k / (n_k + 1),

where S_k and S are the covariances of the class's n_k support examples and of the whole support set. A single example has
no covariance: S_k = 0. Any numbers of classes and examples are answered by the same model. Only the encoder and the
generator, and with `learned_regularisation` and `learned_temperature` two numbers, are trained; the generator begins with
gamma = shift = 0.

Where this departs from the papers: with `film=features`, the default, FiLM is applied to the network's output features,
after they are normalised (`normalise`), so that each image is embedded only once; with `film=blocks` it is applied to each
normalisation layer of conv4, resnet12 or mlp, as in the papers. The task encoder reads the frozen network's features
instead of images, and all layers' FiLM parameters are made of the same code, without the auto-regressive encoder; FiLM
parameters are not penalised. beta, which is 1 in the paper, is a setting, since it depends on the features' lengths; logits
are divided by a temperature.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metashot.algorithms.centring import CentresFeatures, FeatureNormalisation, Normalise
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import memberships
from metashot.arguments import Positive, Units
from metashot.backbones.base import Backbone
from metashot.backbones.normalisation import Normalisation
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.problems import Problem


class Task(NamedTuple):
    """What queries are compared with."""

    film: Tensor | None  # gamma and shift [T, 1, 2, features] of the features; None if they belong to the blocks
    classes: "Classes"


class Classes(NamedTuple):
    """The means and covariances of the classes of T tasks, in double precision."""

    origin: Tensor  # [T, 1, features], the mean of the support set
    x: Tensor  # [T, S, features], support features without it
    means: Tensor  # mu [T, ways, features], without it
    rows: Tensor  # A [T, ways, R, S]: Q_k = (A_k x)' (A_k x) + beta I
    beta: Tensor
    inverse: Tensor  # of Q_k [T, ways, features, features], or of beta I + B_k B_k' [T, ways, R, R], where B_k = A_k x


class CNAPS(CentresFeatures):
    """Simple CNAPS.

    Args:
        backbone: Embeds the inputs; it is frozen.
        encoding: The size of a task's code.
        film: Whether FiLM parameters scale and shift the output features, or the channels of each normalisation layer.
        regularisation: beta, or the initial one if it is learned.
        learned_regularisation: Whether to train beta.
        temperature: What the distances are divided by, or the initial one if it is learned.
        learned_temperature: Whether to train the temperature.
        normalise: How features are normalised.

    Raises:
        BadInput: `film` is `blocks`, but the backbone has no layers with scales.
    """

    needs_features = True

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        encoding: Units,
        film: Literal["features", "blocks"],
        regularisation: Positive,
        learned_regularisation: bool,
        temperature: Positive,
        learned_temperature: bool,
        normalise: Normalise,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        self.film = film
        self.normalised = FeatureNormalisation(normalise, backbone.features)
        self.log_beta = nn.Parameter(torch.tensor(math.log(regularisation)), requires_grad=learned_regularisation)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learned_temperature)
        self.channels = {"": backbone.features}
        if film == "blocks":
            layers = {name: layer for name, layer in backbone.named_modules() if isinstance(layer, Normalisation)}
            self.channels = {name: len(layer.bias) for name, layer in layers.items() if layer.protocol != "none"}
            if not self.channels:
                raise BadInput(
                    f"algo.film=blocks scales the channels of normalisation layers, and the backbone "
                    f"{type(backbone).__name__.lower()} has none that it could scale: use algo.film=features"
                )
        self.encoder = nn.Sequential(
            nn.Linear(backbone.features, encoding), nn.ReLU(), nn.Linear(encoding, encoding), nn.ReLU()
        )
        self.generator = nn.Linear(encoding, 2 * sum(self.channels.values()))
        nn.init.zeros_(self.generator.weight)
        nn.init.zeros_(self.generator.bias)

    @property
    def embeds_independently(self) -> bool:
        return self.film == "features" and super().embeds_independently

    def on_train_start(self) -> None:
        """Frozen features have their mean before the first step."""
        super().on_train_start()
        if not self.global_step:  # a resumed run has the mean in its state
            self.centre()

    def embed(self, images: Tensor, support: int) -> Tensor:
        features = super().embed(images, support)
        if self.film == "features":
            return features
        found = [self._modulated(*task, support) for task in zip(images, self._film(features[:, :support]), strict=True)]
        return torch.stack(found).to(self.dtype)

    def _film(self, support: Tensor) -> Tensor:
        """The scales and shifts [T, 2 channels] from support features [T, S, features], as the frozen network gives them."""
        film: Tensor = self.generator(self.encoder(support).mean(1))
        return film

    def _modulated(self, images: Tensor, film: Tensor, support: int) -> Tensor:
        """The features [N, features] of one task's images, by a network with its scales and shifts [2 channels]."""
        theta = {}
        gammas, shifts = (torch.split(part, list(self.channels.values())) for part in film.chunk(2))
        for name, gamma, shift in zip(self.channels, gammas, shifts, strict=True):
            layer = self.backbone.get_submodule(name)
            assert isinstance(layer, Normalisation)
            theta[f"{name}.weight"] = layer.weight * (1 + gamma)
            theta[f"{name}.bias"] = layer.bias * (1 + gamma) + shift
        features: Tensor = functional_call(self.backbone, theta, (images.unsqueeze(0), support))
        return features[0]

    def summary(self, support: Examples) -> Task:
        x = self.normalised(support.x)
        film = None
        if self.film == "features":
            film = self._film(x).view(len(x), 1, 2, -1)
        with torch.autocast(x.device.type, enabled=False):
            return Task(film, classes_of(Examples(modulated(x, film), support.y), self.log_beta.exp()))

    def answer(self, task: Task, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            distances = mahalanobis(task.classes, modulated(self.normalised(query), task.film))
            return -distances.to(query.dtype) / 2 / self.log_temperature.exp()


def modulated(x: Tensor, film: Tensor | None) -> Tensor:
    """(1 + gamma) x + shift"""
    return x if film is None else (1 + film[:, :, 0]) * x + film[:, :, 1]


def classes_of(support: Examples, beta: Tensor) -> Classes:
    """The means and covariances of classes.

    Args:
        support: Features [T, S, features] with their labels.
        beta: Added to the diagonal of the covariances.
    """
    x, y, beta = support.x.double(), memberships(support.y, support.x).double(), beta.double()  # y [T, S, ways]
    origin = x.mean(1, keepdim=True)
    x = x - origin
    n = y.sum(1)  # [T, ways]
    averages = (y / n.unsqueeze(1)).mT  # [T, ways, S]: each class's mean as a sum over examples
    of_class = (n / (n + 1) / (n - 1).clamp(min=1)).sqrt()[..., None, None]
    of_task = (1 / (n + 1) / max(x.shape[1] - 1, 1)).sqrt()[..., None, None]
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    from_class_mean = y.mT.unsqueeze(-1) * (identity - averages.unsqueeze(2))  # [T, ways, S, S]
    rows = torch.cat([of_class * from_class_mean, of_task * identity.expand_as(from_class_mean)], dim=2)
    if rows.shape[2] > x.shape[2]:
        b = rows @ x.unsqueeze(1)  # [T, ways, R, features]
        matrix = b.mT @ b
    else:
        matrix = rows @ (x @ x.mT).unsqueeze(1) @ rows.mT
    diagonal = beta * torch.eye(matrix.shape[-1], dtype=x.dtype, device=x.device)
    # Unchecked: non-finite features give non-finite answers, which training and evaluation know how to handle.
    return Classes(origin, x, averages @ x, rows, beta, torch.linalg.inv_ex(matrix + diagonal).inverse)


def mahalanobis(classes: Classes, query: Tensor) -> Tensor:
    """The squared distances (q - mu_k)' Q_k^-1 (q - mu_k) [T, Q, ways] of queries [T, Q, features], in double precision.

    The smaller one of two equivalent matrices was inverted: by Woodbury's identity
    Q_k^-1 = (I - B_k' (beta I + B_k B_k')^-1 B_k) / beta.
    """
    _, x, means, rows, beta, inverse = classes
    query = query.double() - classes.origin
    if rows.shape[2] > x.shape[2]:
        difference = query.unsqueeze(1) - means.unsqueeze(2)  # [T, ways, Q, features]
        return ((difference @ inverse) * difference).sum(3).mT
    projected = rows @ ((x @ query.mT).unsqueeze(1) - (means @ x.mT).unsqueeze(-1))  # B_k (q - mu_k) [T, ways, R, Q]
    explained = (projected * (inverse @ projected)).sum(2)  # [T, ways, Q]
    lengths = query.square().sum(-1, keepdim=True) - 2 * query @ means.mT + means.square().sum(-1).unsqueeze(1)
    return (lengths - explained.mT) / beta
