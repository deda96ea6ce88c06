"""A conditional variational auto-encoder of features, in the manner of the Delta-encoder: Schwartz, Karlinsky, Shtok,
Harary, Marder, Kumar, Feris, Giryes, Bronstein 2018, "Delta-encoder: an effective sample synthesis method for few-shot
object recognition", arXiv:1806.04734.

The encoder sees two examples of a class, X and its anchor Y, and says in a small code Z how X differs from Y. The decoder
adds this difference to an anchor. Trained on the training classes, it makes examples of a new class from one example of it
and new codes.

Training maximises the evidence bound of Kingma, Welling 2014, "Auto-encoding variational Bayes", arXiv:1312.6114, for x
given its anchor a: E_q[log p(x | z, a)] - beta KL(q(z | x, a) || p(z)), with q(z | x, a) = N(mu, sigma^2), p(z) = N(0, 1)
and p(x | z, a) = N(a + f(z, a), s^2), whose variances s^2 of each feature are learned. Codes are reparametrised, z = mu +
sigma epsilon, and the divergence is computed exactly. At beta = 1 it is a bound of the log-likelihood, in nats; the loss is
divided by the number of features.

Where this departs from the Delta-encoder: its auto-encoder is not variational, and it takes codes from pairs of training
examples instead of from p(z); its loss is a weighted absolute error; its decoder does not add Y to its output; networks
have 1,024 hidden units instead of 8,192, without dropout; features are centred on the mean of the training classes and
normalised. Made examples are means a + f(z, a), without the noise of p(x | z, a), to which examples of the same class are
closer.
"""

import math
from abc import abstractmethod
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.generative.learner import GenerativeLearner, noise_of, one_hidden_layer
from metashot.arguments import AtLeast, Below, NotNegative, Units
from metashot.episodes import Episode


class Bound(NamedTuple):
    """The two terms of the evidence bound of each pair, in nats."""

    likelihood: Tensor  # log p(x | z, a) [P]
    divergence: Tensor  # KL(q(z | x, a) || p(z)) [P]


class ConditionalVAE(GenerativeLearner):
    """A variational auto-encoder of examples, given their anchors; a subclass has its networks.

    Args:
        code: The size of the code z.
        beta: The weight of the divergence.
    """

    def __init__(self, code: Units, beta: NotNegative, **learner: Any) -> None:
        super().__init__(**learner)
        self.noise_size = code
        self.beta = beta

    @abstractmethod
    def encode(self, x: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log sigma^2 of q(z | x, a): both [P, code]"""

    @abstractmethod
    def decode(self, z: Tensor, anchors: Tensor) -> Tensor:
        """What determines p(x | z, a): [P, features]"""

    @abstractmethod
    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        """log p(x | z, a): [P]"""

    def bound(self, x: Tensor, anchors: Tensor, epsilon: Tensor) -> Bound:
        """The terms of the evidence bound of x [P, features], with a code each, from noise epsilon [P, code]."""
        mu, log_variance = self.encode(x, anchors)
        z = mu + (log_variance / 2).exp() * epsilon
        divergence = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        return Bound(self.log_likelihood(x, self.decode(z, anchors)), divergence)

    def training_loss(self, episode: Episode) -> TrainingStep:
        support, query = self.features_of(episode)
        pairs = self.pairs_of(support, query)
        tasks, shots, queries = len(episode), support.y.shape[1], query.y.shape[1]
        noise = noise_of(episode.number, queries, shots, self.noise_size).to(pairs.target)  # [T, Q, S, code]
        epsilon = noise[pairs.task, pairs.target_place, pairs.anchor_place]
        with torch.autocast(pairs.target.device.type, enabled=False):
            bound = self.bound(pairs.target, pairs.anchor, epsilon)
            likelihood, divergence = (pairs.mean(term, tasks) for term in bound)
        self.terms.append((tasks, {"log_likelihood": likelihood, "divergence": divergence}))
        loss = (self.beta * divergence - likelihood) / self.backbone.features
        return TrainingStep(loss, self.training_answers(support, query, episode.number))


class VAE(ConditionalVAE):
    """The conditional variational auto-encoder of features.

    Args:
        hidden: The units of the hidden layer of each network.
        dropout: The share of hidden units that training leaves out.
    """

    def __init__(self, hidden: Units, dropout: Annotated[float, AtLeast(0), Below(1)], **learner: Any) -> None:
        super().__init__(**learner)
        features, code = self.backbone.features, self.noise_size
        self.encoder = one_hidden_layer(2 * features, hidden, 2 * code, dropout)
        self.decoder = one_hidden_layer(code + features, hidden, features, dropout)
        self.log_variance = nn.Parameter(torch.zeros(features))  # log s^2

    def encode(self, x: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_variance = self.encoder(torch.cat([x, anchors], -1)).chunk(2, -1)
        return mu, log_variance

    def decode(self, z: Tensor, anchors: Tensor) -> Tensor:
        """a + f(z, a): [P, features]"""
        difference: Tensor = self.decoder(torch.cat([z, anchors], -1))
        return anchors + difference

    def generate(self, anchors: Tensor, noise: Tensor) -> Tensor:
        return self.decode(noise, anchors)

    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        """log N(x; a + f(z, a), s^2): [P]"""
        errors = (x - decoded).square() / self.log_variance.exp()
        return -0.5 * (errors + self.log_variance + math.log(2 * math.pi)).sum(-1)
