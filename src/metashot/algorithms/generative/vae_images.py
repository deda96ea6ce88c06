"""The conditional variational auto-encoder of `vae`, on the pixels of drawings: it draws a character again from one drawing.

See `vae.py` for the bound, after Kingma, Welling 2014 (arXiv:1312.6114), and for how pairs of a class train it in the manner
of the Delta-encoder (Schwartz et al. 2018, arXiv:1806.04734). Encoder and decoder are convolutional. The decoder sees the
anchor at a quarter of its size, with the code beside it, and brings it back to its size; there is no other way for the
anchor's pixels.

p(x | z, a) is a Bernoulli distribution for each pixel: grey values are the probabilities of ink, as usual for Omniglot
(Burda, Grosse, Salakhutdinov 2016, "Importance weighted autoencoders", arXiv:1509.00519). The bound is that of the log-
likelihood of drawings of black and white pixels which are drawn with these probabilities. Made drawings are the
probabilities of ink.

Where this departs from the Delta-encoder: everything that `vae.py` names, and pixels instead of features.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.generative.vae import ConditionalVAE
from metashot.arguments import Channels
from metashot.bad_input import BadInput
from metashot.episodes import Episode


class VAEImages(ConditionalVAE):
    """The conditional variational auto-encoder of drawings; its networks have `channels` at half of the side, then twice."""

    needs_pixels = True

    def __init__(self, channels: Channels, **learner: Any) -> None:
        super().__init__(**learner)
        if self.backbone.has_weights or len(self.backbone.input_shape) != 3:
            raise BadInput(
                "algo=vae_images draws pixels, and is for data of drawings whose pixels are the features: give "
                "backbone=identity with data such as glyphs or omniglot, or algo=vae for the features of a trained backbone"
            )
        if self.normalised.kind != "none":
            raise BadInput(f"algo.normalise={self.normalised.kind} leaves no pixels, which algo=vae_images draws: use none")
        self.encoder = Encoder(self.backbone.input_shape, channels, 2 * self.noise_size)
        self.decoder = Decoder(self.backbone.input_shape, channels, self.noise_size)

    def encode(self, x: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_variance = self.encoder(torch.cat([self._drawn(x), self._drawn(anchors)], 1)).chunk(2, -1)
        return mu, log_variance

    def decode(self, z: Tensor, anchors: Tensor) -> Tensor:
        """The logits of ink: [P, pixels]"""
        logits: Tensor = self.decoder(z, self._drawn(anchors))
        return logits.flatten(1)

    def generate(self, anchors: Tensor, noise: Tensor) -> Tensor:
        return self.decode(noise, anchors).sigmoid()

    def log_likelihood(self, x: Tensor, decoded: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(decoded, x, reduction="none").sum(-1)

    def training_loss(self, episode: Episode) -> TrainingStep:
        x = episode.query.x
        if x.min() < 0 or x.max() > 1:
            raise BadInput(
                f"algo=vae_images draws grey values from 0 to 1, and these data have values from {float(x.min()):.3g} to "
                f"{float(x.max()):.3g}: give data.presentation.mean=null data.presentation.std=null"
            )
        return super().training_loss(episode)

    def _drawn(self, pixels: Tensor) -> Tensor:
        """[P, channels, height, width]"""
        return pixels.view(-1, *self.backbone.input_shape)


class Encoder(nn.Sequential):
    """Two drawings, one on top of the other, to numbers."""

    def __init__(self, shape: tuple[int, ...], channels: int, outputs: int) -> None:
        height, width = map(_quarter, shape[1:])
        super().__init__(
            *_halved(2 * shape[0], channels),
            *_halved(channels, 2 * channels),
            nn.Flatten(),
            nn.Linear(2 * channels * height * width, outputs),
        )


class Decoder(nn.Module):
    """A code and a drawing to the logits of another drawing."""

    def __init__(self, shape: tuple[int, ...], channels: int, code: int) -> None:
        super().__init__()
        self.sizes = [tuple(map(_half, shape[1:])), shape[1:]]
        self.small = 2 * channels, *map(_quarter, shape[1:])
        self.anchor = nn.Sequential(*_halved(shape[0], channels), *_halved(channels, 2 * channels))
        self.code = nn.Linear(code, self.small[0] * self.small[1] * self.small[2])
        self.together = nn.Sequential(nn.Conv2d(4 * channels, 2 * channels, 3, padding=1), nn.LeakyReLU(0.2))
        self.larger = nn.Sequential(nn.Conv2d(2 * channels, channels, 3, padding=1), nn.LeakyReLU(0.2))
        self.last = nn.Conv2d(channels, shape[0], 3, padding=1)

    def forward(self, z: Tensor, anchors: Tensor) -> Tensor:
        """Logits [P, channels, height, width] from codes [P, code] and anchors [P, channels, height, width]."""
        found = self.together(torch.cat([self.anchor(anchors), self.code(z).view(-1, *self.small)], 1))
        found = self.larger(F.interpolate(found, size=self.sizes[0]))
        logits: Tensor = self.last(F.interpolate(found, size=self.sizes[1]))
        return logits


def _halved(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(0.2)


def _half(side: int) -> int:
    return (side + 1) // 2


def _quarter(side: int) -> int:
    return _half(_half(side))
