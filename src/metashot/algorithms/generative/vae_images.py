"""The conditional variational auto-encoder of `vae`, on drawings: it moves the ink of one drawing to draw a character again.

See `vae.py` for the bound, after Kingma, Welling 2014 (arXiv:1312.6114), and for how pairs of a class train it in the manner
of the Delta-encoder (Schwartz et al. 2018, arXiv:1806.04734). The decoder is a spatial transformer (Jaderberg, Simonyan,
Zisserman, Kavukcuoglu 2015, "Spatial transformer networks", arXiv:1506.02025): from the code z and the anchor a a network
predicts the parameters theta of a transformation T_theta, which says for each place p of the new drawing what place of the
anchor it shows,

    T_theta(p) = p + A p + t + sum_ij beta_i(p_y) beta_j(p_x) d_ij,

an affine map and a smooth displacement by cubic B-splines beta with control points d_ij (free-form deformations: Rueckert et
al. 1999, "Nonrigid registration using free-form deformations"). Two convolutions turn the moved drawing into ink: they know
z, and soften or thicken strokes, but reach only three pixels far: they draw nothing else. That one drawing and a density
of transformations, learned from other characters, make a classifier is the idea of Miller, Matsakis, Viola 2000, "Learning
from one example through shared densities on transforms".

p(x | z, a) is a Bernoulli distribution for each pixel: grey values are the probabilities of ink, as usual for Omniglot
(Burda, Grosse, Salakhutdinov 2016, "Importance weighted autoencoders", arXiv:1509.00519). The bound is that of the log-
likelihood of drawings of black and white pixels which are drawn with these probabilities. Made drawings are the
probabilities of ink.

Where this departs from the Delta-encoder: everything that `vae.py` names, and pixels instead of features. From spatial
transformers: theta is bounded, since without bounds training enlarges a spot of ink until it fills the drawing; outside the
anchor is paper; and the anchor is moved twice, as it is and blurred, so that strokes which are far apart attract each other.
"""

import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.base import TrainingStep
from metashot.algorithms.generative.vae import ConditionalVAE
from metashot.arguments import AtLeast, AtMost, Channels, Units
from metashot.bad_input import BadInput
from metashot.episodes import Episode

# The bounds of |A_ij|, |t_i| and of the coordinates of d_ij; a drawing reaches from -1 to 1.
_AFFINE, _TRANSLATION, _DISPLACEMENT = 0.5, 0.15, 0.2
_SLOW = 0.3  # factor of theta: drawings grow soft before they move, or theta may stay at its bounds
_BLUR = 1.0  # pixels, of the second drawing that moves
_INK = 16  # channels between the two convolutions


class VAEImages(ConditionalVAE):
    """The conditional variational auto-encoder of drawings.

    Args:
        channels: The channels of the networks that look at drawings, at half of the side; twice as many at a quarter.
        hidden: The units of the network that predicts the transformation.
        knots: The control points of its displacement, along each side.
    """

    needs_pixels = True

    def __init__(
        self, channels: Channels, hidden: Units, knots: Annotated[int, AtLeast(4), AtMost(64)], **learner: Any
    ) -> None:
        super().__init__(**learner)
        if self.backbone.has_weights or len(self.backbone.input_shape) != 3:
            raise BadInput(
                "algo=vae_images draws pixels, and is for data of drawings whose pixels are the features: give "
                "backbone=identity with data such as glyphs or omniglot, or algo=vae for the features of a trained backbone"
            )
        if self.normalised.kind != "none":
            raise BadInput(f"algo.normalise={self.normalised.kind} leaves no pixels, which algo=vae_images draws: use none")
        self.encoder = Looks(self.backbone.input_shape, 2, channels, 2 * self.noise_size)
        self.decoder = Decoder(self.backbone.input_shape, channels, self.noise_size, hidden, knots)

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


class Looks(nn.Sequential):
    """Drawings, one on top of the other, to numbers."""

    def __init__(self, shape: tuple[int, ...], drawings: int, channels: int, outputs: int) -> None:
        height, width = map(_quarter, shape[1:])
        super().__init__(
            *_halved(drawings * shape[0], channels),
            *_halved(channels, 2 * channels),
            nn.Flatten(),
            nn.Linear(2 * channels * height * width, outputs),
        )


class Decoder(nn.Module):
    """A code and a drawing to the logits of another drawing."""

    places: Tensor  # [2, height, width]: y and x of each pixel, from -1 to 1
    rows: Tensor  # [height, knots]: beta_i(p_y)
    columns: Tensor  # [width, knots]

    def __init__(self, shape: tuple[int, ...], channels: int, code: int, hidden: int, knots: int) -> None:
        super().__init__()
        depth, height, width = shape
        self.knots = knots
        self.anchor = nn.Sequential(Looks(shape, 1, channels, hidden // 2), nn.LeakyReLU(0.2))
        self.both = nn.Sequential(
            nn.Linear(code + hidden // 2, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)
        )
        self.theta = nn.Linear(hidden, 6 + 2 * knots**2)
        nn.init.zeros_(self.theta.weight)  # nothing moves before training
        nn.init.zeros_(self.theta.bias)
        self.thickness = nn.Linear(hidden, _INK)
        self.first, self.last = nn.Conv2d(2 * depth, _INK, 5, padding=2), nn.Conv2d(_INK, depth, 3, padding=1)
        y, x = _centres(height), _centres(width)
        self.register_buffer("places", torch.stack(torch.meshgrid(y, x, indexing="ij")).float(), persistent=False)
        self.register_buffer("rows", _splines(y, knots).float(), persistent=False)
        self.register_buffer("columns", _splines(x, knots).float(), persistent=False)

    def forward(self, z: Tensor, anchors: Tensor) -> Tensor:
        """Logits [P, channels, height, width] from codes [P, code] and anchors [P, channels, height, width]."""
        both = self.both(torch.cat([z, self.anchor(anchors)], 1))
        moved = sampled(torch.cat([anchors, blurred(anchors, _BLUR)], 1), self.transformed(self.theta(both)))
        ink = F.leaky_relu(self.first(moved) + self.thickness(both)[:, :, None, None], 0.2)
        logits: Tensor = self.last(ink)
        return logits

    def transformed(self, theta: Tensor) -> Tensor:
        """T_theta of each place: [P, 2, height, width], from parameters [P, 6 + 2 knots^2] before they are bounded."""
        theta = (_SLOW * theta).tanh()
        affine = _AFFINE * theta[:, :4].view(-1, 2, 2) @ self.places.flatten(1)
        translation = _TRANSLATION * theta[:, 4:6, None, None]
        d = _DISPLACEMENT * theta[:, 6:].view(-1, 2, self.knots, self.knots)
        displacement: Tensor = self.rows @ d @ self.columns.mT
        return self.places + affine.view_as(displacement) + translation + displacement


def sampled(drawings: Tensor, places: Tensor) -> Tensor:
    """Drawings [P, channels, height, width] at places [P, 2, height, width], between pixels bilinearly; outside is paper.

    The gradient goes to the places alone. That to the drawings, which are data, would be a sum in no fixed order on a GPU;
    `grid_sample` is refused there where runs have to be reproducible, whatever needs a gradient.
    """
    height, width = drawings.shape[2:]
    pixels = F.pad(drawings, (1, 1, 1, 1)).flatten(2).detach()
    # From the centres of pixels at -1 + 1 / side, ... to 1, 2, ..., in the padded drawing.
    y = ((places[:, :1].flatten(2) + 1) * (height / 2) + 0.5).clamp(0, height + 1)  # [P, 1, pixels]
    x = ((places[:, 1:].flatten(2) + 1) * (width / 2) + 0.5).clamp(0, width + 1)
    top, left = (  # (a place that is NaN has a pixel, and makes it NaN)
        at.detach().nan_to_num(0.0).floor().clamp(max=side) for at, side in ((y, height), (x, width))
    )
    down, right = y - top, x - left
    corner = (top * (width + 2) + left).long().expand(-1, drawings.shape[1], -1)
    above = pixels.gather(2, corner) * (1 - right) + pixels.gather(2, corner + 1) * right
    corner = corner + width + 2
    below = pixels.gather(2, corner) * (1 - right) + pixels.gather(2, corner + 1) * right
    return (above * (1 - down) + below * down).view_as(drawings)


def blurred(drawings: Tensor, width: float) -> Tensor:
    """Drawings [N, channels, height, width] after a Gaussian filter with this standard deviation in pixels; 0: unchanged."""
    if not width:
        return drawings
    radius = math.ceil(3 * width)
    weights = torch.exp(-((torch.arange(-radius, radius + 1, dtype=torch.float64) / width) ** 2) / 2)
    weights = (weights / weights.sum()).to(drawings)
    planes = drawings.flatten(0, 1).unsqueeze(1)  # [N * channels, 1, height, width]
    planes = F.conv2d(planes, weights.view(1, 1, -1, 1), padding=(radius, 0))
    return F.conv2d(planes, weights.view(1, 1, 1, -1), padding=(0, radius)).view_as(drawings)


def _centres(side: int) -> Tensor:
    """The centres of pixels along a side that reaches from -1 to 1."""
    return (2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1


def _splines(places: Tensor, knots: int) -> Tensor:
    """Uniform cubic B-splines [places, knots], whose sum is 1 from -1 to 1."""
    distances = ((places.unsqueeze(1) + 1) * ((knots - 3) / 2) + 1 - torch.arange(knots, dtype=places.dtype)).abs()
    inner = 2 / 3 - distances.square() + distances**3 / 2
    return torch.where(distances < 1, inner, (2 - distances).clamp(min=0) ** 3 / 6)


def _halved(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU(0.2)


def _half(side: int) -> int:
    return (side + 1) // 2


def _quarter(side: int) -> int:
    return _half(_half(side))
