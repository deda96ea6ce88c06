"""ResNet12, the residual network of few-shot papers: Oreshkin, Rodriguez, Lacoste 2018, "TADAM", arXiv:1805.10123, with the
widths, activations and DropBlock of Lee, Maji, Ravichandran, Soatto 2019, "MetaOptNet", arXiv:1904.03758.

DropBlock (Ghiasi, Lin, Le 2018, arXiv:1810.12890) zeroes squares of the last two blocks' maps in training. Departures from
MetaOptNet's code: the rate is constant, while theirs increases over the first 40,000 batches; the first two blocks drop
nothing, while theirs drop single activations; and the remaining activations are rescaled by the share kept in their image,
not in the batch, so that no image depends on others.
"""

from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from metashot.arguments import AtLeast, Below, Channels, Count
from metashot.backbones.base import Backbone, refuse_no_images
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.bad_input import BadInput

BLOCKS = 4
SLOPE = 0.1  # of the leaky ReLUs


class ResNet12(Backbone):
    """Maps images [T, N, channels, height, width] to features [T, N, features]; each of four blocks halves the image.

    Args:
        input_shape: The shape of one image.
        widths: The number of channels of each block.
        pooling: Whether features are the averages of the last maps or the maps themselves.
        drop_block: The share of the last two blocks' maps that is dropped in training.
        drop_block_size: The side of the dropped squares.
        normalisation: The statistics that normalise images.

    Raises:
        BadInput: The inputs are not images or too small, or `widths` has the wrong length.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        widths: list[Channels],
        pooling: Literal["average", "none"],
        drop_block: Annotated[float, AtLeast(0), Below(1)],
        drop_block_size: Count,
        normalisation: Protocol,
    ) -> None:
        super().__init__(input_shape, normalisation)
        self.pooling = pooling
        self.drop_block = drop_block
        self.drop_block_size = drop_block_size
        self.draws = drop_block > 0
        refuse_no_images("resnet12", input_shape)
        if len(widths) != BLOCKS:
            raise BadInput(f"backbone.widths={widths} cannot be used; allowed: a list of {BLOCKS}")
        image_channels, height, width = input_shape
        if min(height, width) < 2**BLOCKS:
            raise BadInput(
                f"images of {height}x{width} are too small for backbone=resnet12, which halves them {BLOCKS} times: "
                f"use images of at least {2**BLOCKS}x{2**BLOCKS}, or another backbone such as backbone=mlp"
            )
        self.blocks = nn.ModuleList(
            ResidualBlock(inputs, outputs, normalisation)
            for inputs, outputs in zip([image_channels, *widths[:-1]], widths, strict=True)
        )
        maps = (height // 2**BLOCKS, width // 2**BLOCKS)
        self.feature_shape = (widths[-1],) if pooling == "average" else (widths[-1], *maps)

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        x = images.flatten(0, 1)
        for number, block in enumerate(self.blocks):
            x = F.max_pool2d(block(x, tasks, support), 2)
            if self.training and self.drop_block and number >= BLOCKS - 2:
                x = drop_squares(x, self.drop_block, self.drop_block_size)
        if self.pooling == "average":
            x = x.mean((2, 3))
        return x.reshape(tasks, count, self.features)


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with a shortcut, a 1x1 convolution that is the last of `convolutions`."""

    def __init__(self, inputs: int, outputs: int, normalisation: Protocol) -> None:
        super().__init__()
        shapes = [(inputs, 3), (outputs, 3), (outputs, 3), (inputs, 1)]
        # The normalisation would cancel a bias.
        convolutions = [nn.Conv2d(channels, outputs, size, padding=size // 2, bias=False) for channels, size in shapes]
        for convolution in convolutions:
            nn.init.kaiming_normal_(convolution.weight, SLOPE, mode="fan_out", nonlinearity="leaky_relu")
        self.convolutions = nn.ModuleList(convolutions)
        self.normalisations = nn.ModuleList(Normalisation(outputs, normalisation) for _ in shapes)

    def forward(self, x: Tensor, tasks: int, support: int) -> Tensor:
        def layer(number: int, x: Tensor) -> Tensor:
            normalised: Tensor = self.normalisations[number](self.convolutions[number](x), tasks, support)
            return normalised

        shortcut = layer(3, x)
        x = F.leaky_relu(layer(0, x), SLOPE)
        x = F.leaky_relu(layer(1, x), SLOPE)
        return F.leaky_relu(layer(2, x) + shortcut, SLOPE)


def drop_squares(x: Tensor, rate: float, size: int) -> Tensor:
    """Set random squares to zero, different ones in each image and channel, and rescale the rest.

    Squares lie inside the map, are at most as large as it is, and cover a share `rate` of it on average, somewhat less where
    they overlap. The remaining activations of an image are rescaled so that its mask has a mean of 1.

    Args:
        x: Maps [N, channels, height, width].
        rate: The share to drop.
        size: The side of a square.
    """
    images, channels, height, width = x.shape
    size = min(size, height, width)
    rows, columns = height - size + 1, width - size + 1  # the possible upper left corners of a square
    gamma = rate / size**2 * height * width / (rows * columns)  # the paper's probability of a square at each corner
    corners = x.new_empty(images, channels, rows, columns).bernoulli_(gamma)
    kept = 1 - F.max_pool2d(F.pad(corners, [size - 1] * 4), size, stride=1)  # [N, channels, height, width]
    share = kept.mean((1, 2, 3), keepdim=True)  # [N, 1, 1, 1]
    return x * (kept / share.clamp(min=1 / kept[0].numel()))  # zero if nothing of an image is kept
