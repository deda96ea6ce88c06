"""LEO: Rusu, Rao, Sygnowski, Vinyals, Pascanu, Osindero, Hadsell 2019, "Meta-learning with latent embedding optimization",
arXiv:1807.05960.

On the features of a frozen network, an encoder and a relation network, which compares all pairs of support examples, give
the mean and the deviation of a latent code z_n for each class n. A decoder turns z_n into the mean and the deviation of the
class's weights w_n in a linear classifier. Inner steps lower the support loss by changing z in the latent space, and
fine-tuning steps by changing the weights themselves; the step sizes of both, one for each dimension, are learned. Training
minimises the query loss + beta KL(q(z) || N(0, 1)) + gamma |stopgrad(z') - z|^2, where z' is the code after the inner steps
and both are means over dimensions, and lambda times the mean squared difference between the correlations of the decoder's
rows and the identity. As in the authors' code (deepmind/leo), deviations are exp(u) minus a constant and at least 1e-10, so
that at u = 0 a code has no noise and weights have that of Glorot's initialisation.

In training, codes, weights and dropout are drawn at random, as functions of the episode's number. In validation, tests and
use nothing is drawn: codes and weights are their means.

Where this departs from the authors' code: a class has one code and one draw of its weights, as in the paper, where the code
has one for each example and averages the logits; the KL divergence is computed exactly instead of from the draw; dropout
leaves out the same features of an example in the encoder and in all steps of an episode; features can be centred
(`normalise`); the L2 penalty is `optimizer.weight_decay`; gradients are clipped by `trainer.gradient_clip` alone.
"""

from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.centring import CentresFeatures, FeatureNormalisation, Normalise
from metashot.algorithms.model.draws import Draws
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.similarities import class_means, memberships
from metashot.arguments import AtLeast, AtMost, Below, NotNegative, Positive, Units
from metashot.backbones.base import Backbone
from metashot.episodes import Episode, Examples
from metashot.problems import Problem

_LEAST = 1e-10  # of a deviation
_PAIRS = 2**16  # of examples that the relation network compares at once, so that memory stays bounded

InnerSteps = Annotated[int, AtLeast(0), AtMost(10_000)]


class Gaussian(NamedTuple):
    """Independent normal distributions."""

    mean: Tensor
    u: Tensor  # of which deviations are made
    deviation: Tensor


class Adapted(NamedTuple):
    """The course of the inner loop."""

    codes: Gaussian  # of z [T, ways, latents]
    start: Tensor  # z before the inner steps
    end: Tensor  # z' after them
    weights: Tensor  # w [T, ways, features] after fine-tuning
    losses: Tensor  # [T, steps], the support loss before each step of both kinds


class LEO(CentresFeatures):
    """LEO.

    Args:
        backbone: Embeds the inputs; it is frozen.
        latents: The size of a class's latent code.
        inner_steps: The number of steps in the latent space.
        inner_lr: Their initial step size.
        finetuning_steps: The number of steps on the weights.
        finetuning_lr: Their initial step size.
        dropout: The share of features that training leaves out.
        kl: beta, the weight of the KL divergence.
        encoder_penalty: gamma, the weight of the distance between a code and the adapted one.
        orthogonality: lambda, the weight of the correlations of the decoder's rows.
        normalise: How features are normalised.
    """

    needs_features = True

    def __init__(
        self,
        backbone: Backbone,
        problem: Problem,
        latents: Units,
        inner_steps: InnerSteps,
        inner_lr: Positive,
        finetuning_steps: InnerSteps,
        finetuning_lr: Positive,
        dropout: Annotated[float, AtLeast(0), Below(1)],
        kl: NotNegative,
        encoder_penalty: NotNegative,
        orthogonality: NotNegative,
        normalise: Normalise,
        optimizer: Optimization,
    ) -> None:
        super().__init__(backbone, problem, optimizer)
        features = backbone.features
        self.normalised = FeatureNormalisation(normalise, features)
        self.inner_steps = inner_steps
        self.finetuning_steps = finetuning_steps
        self.dropout = dropout
        self.kl = kl
        self.encoder_penalty = encoder_penalty
        self.orthogonality = orthogonality
        self.encoder = nn.Linear(features, latents, bias=False)
        layers = [nn.Linear(2 * latents, 2 * latents, bias=False) for _ in range(3)]
        self.relation = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.decoder = nn.Linear(latents, 2 * features, bias=False)
        for layer in (self.encoder, *layers, self.decoder):
            nn.init.xavier_uniform_(layer.weight)
        self.alpha = nn.Parameter(torch.full((latents,), float(inner_lr)), requires_grad=inner_steps > 0)
        self.finetuning_alpha = nn.Parameter(
            torch.full((features,), float(finetuning_lr)), requires_grad=finetuning_steps > 0
        )

    @property
    def task_steps(self) -> int:
        return self.inner_steps + self.finetuning_steps

    def on_train_start(self) -> None:
        """Frozen features have their mean before the first step."""
        super().on_train_start()
        if not self.global_step:  # a resumed run has the mean in its state
            self.centre()

    def summary(self, support: Examples) -> Tensor:
        return self.adapted(Examples(self.normalised(support.x), support.y), None).weights

    def answer(self, weights: Tensor, query: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            logits: Tensor = self.normalised(query) @ weights.mT  # [T, Q, ways]
            return logits

    def training_loss(self, episode: Episode) -> TrainingStep:
        """L + beta KL + gamma |stopgrad(z') - z|^2 + lambda R"""
        support, query = episode.support, episode.query
        features = torch.cat([support.x, query.x], dim=1)
        if not episode.embedded:
            features = self.embed(features, support=support.x.shape[1])
        with torch.autocast(features.device.type, enabled=False):
            draws = Draws("leo", episode.number)
            features = draws.dropout(self.normalised(features), self.dropout)
            count = support.x.shape[1]
            shown = Examples(features[:, :count], support.y)
            adapted = self.adapted(shown, draws)
            answers = features[:, count:] @ adapted.weights.mT
            loss = self.problem.loss(answers, query.y) + self.kl * divergence(adapted.codes)
            loss = loss + self.encoder_penalty * (adapted.end.detach() - adapted.start).square().mean()
            loss = loss + self.orthogonality * decorrelation(self.decoder.weight.mT)
        return TrainingStep(loss, answers, adapted.losses)

    def codes(self, support: Examples) -> Gaussian:
        """The distribution of the latent code z [T, ways, latents] of each class."""
        h = self.encoder(support.x)  # [T, S, latents]
        count = h.shape[1]
        related = []
        for left in h.split(max(1, _PAIRS // count), dim=1):  # [T, L, latents]
            pairs = [left.unsqueeze(2).expand(-1, -1, count, -1), h.unsqueeze(1).expand(-1, left.shape[1], -1, -1)]
            related.append(self.relation(torch.cat(pairs, dim=-1)).mean(2))
        return gaussian(class_means(torch.cat(related, dim=1), support.y), least_noise=0.0)

    def weights(self, z: Tensor) -> Gaussian:
        """The distribution of the weights w [T, ways, features] that belong to codes z [T, ways, latents]."""
        ways, features = z.shape[1], self.backbone.features
        return gaussian(self.decoder(z), least_noise=(2 / (ways + features)) ** 0.5)

    def adapted(self, support: Examples, draws: Draws | None) -> Adapted:
        """Adapt codes and weights to support sets of normalised features.

        Args:
            support: The support sets.
            draws: What codes and weights are drawn with; None for their means.
        """
        with torch.autocast(support.x.device.type, enabled=False):
            codes = self.codes(support)
            members = memberships(support.y, support.x)  # [T, S, ways]
            z = codes.mean
            if draws is not None:
                z = z + codes.deviation * draws.normal(z, *z.shape[1:])
            start = z
            losses = []
            for _ in range(self.inner_steps):
                distribution, noise, w = self._decoded(z, draws)
                loss, gradient = support_loss(support.x, members, w)
                losses.append(loss)
                z = z - self.alpha * self._to_codes(gradient, distribution, noise)
            _, _, w = self._decoded(z, draws)
            for _ in range(self.finetuning_steps):
                loss, gradient = support_loss(support.x, members, w)
                losses.append(loss)
                w = w - self.finetuning_alpha * gradient
            recorded = torch.stack(losses, dim=1) if losses else w.new_empty(len(w), 0)
        return Adapted(codes, start, z, w, recorded.detach())

    def _decoded(self, z: Tensor, draws: Draws | None) -> tuple[Gaussian, Tensor | None, Tensor]:
        """The distribution of the weights, the noise, and the weights that are used."""
        found = self.weights(z)
        if draws is None:
            return found, None, found.mean
        noise = draws.normal(found.mean, *found.mean.shape[1:])
        return found, noise, found.mean + found.deviation * noise

    def _to_codes(self, gradient: Tensor, weights: Gaussian, noise: Tensor | None) -> Tensor:
        """The gradient [T, ways, latents] of the support loss by z, from that by the weights [T, ways, features]."""
        features = self.backbone.features
        by_mean = gradient @ self.decoder.weight[:features]
        if noise is None:
            return by_mean
        by_u = gradient * noise * weights.u.exp() * (weights.deviation > _LEAST)
        return by_mean + by_u @ self.decoder.weight[features:]


def gaussian(parameters: Tensor, least_noise: float) -> Gaussian:
    """Normal distributions from means and u [..., 2 n]; the deviation is exp(u) - 1 + `least_noise`, and at least 1e-10."""
    mean, u = parameters.chunk(2, dim=-1)
    return Gaussian(mean, u, (u.exp() - (1 - least_noise)).clamp(min=_LEAST))


def support_loss(x: Tensor, members: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy [T] of a linear classifier, and its gradient [T, ways, features] by the weights.

    The gradient is written out: adapting needs no graph in evaluation, and one that can be differentiated in training.

    Args:
        x: [T, S, features].
        members: One-hot labels [T, S, ways].
        w: [T, ways, features].
    """
    logarithms = (x @ w.mT).log_softmax(-1)  # [T, S, ways]
    loss = -(members * logarithms).sum((1, 2)) / x.shape[1]
    return loss, (logarithms.exp() - members).mT @ x / x.shape[1]


def divergence(codes: Gaussian) -> Tensor:
    """KL(q || N(0, 1)), the mean over all dimensions."""
    return (codes.mean.square() / 2 + codes.deviation.square() / 2 - codes.deviation.log() - 0.5).mean()


def decorrelation(rows: Tensor) -> Tensor:
    """The mean squared difference between the correlations of rows [n, ...] and the identity."""
    unit = nn.functional.normalize(rows, dim=1)
    identity = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    return (unit @ unit.mT - identity).square().mean()
