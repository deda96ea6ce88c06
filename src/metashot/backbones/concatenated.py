"""The network of Bertinetto et al. 2019, as in bertinetto/r2d2, `models/load_model.py`: the last two blocks side by side."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.arguments import AtLeast, Below, Channels
from metashot.backbones.base import refuse_no_images
from metashot.backbones.conv4 import BLOCKS, Conv4
from metashot.backbones.layers import Convolution
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.bad_input import BadInput
from metashot.kernels.images import are_usable

_HALVINGS = BLOCKS - 1


class ConcatenatedConv4(Conv4):
    """Maps images [T, N, channels, height, width] to features [T, N, features]: the maps of the last two blocks.

    A block is a 3x3 convolution, batch normalisation, max pooling and a leaky ReLU. Three blocks halve the image; after that
    the maps of the third and of the fourth block are pooled with a stride of 1, as in the authors' code.

    Args:
        input_shape: The shape of one image.
        channels: The number of channels of all blocks, or of each block.
        slope: The slope of the leaky ReLUs for negative values.
        dropout: The share of the values of the last two blocks that is dropped in training.
        normalisation: The statistics that normalise images.
        fused: Whether to use kernels for convolutions, where they are available (see `Conv4`).

    Raises:
        BadInput: The inputs are not images or too small, or `channels` has the wrong length.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        channels: Channels | list[Channels],
        slope: Annotated[float, AtLeast(0), Below(1)],
        dropout: Annotated[float, AtLeast(0), Below(1)],
        normalisation: Protocol,
        fused: bool = False,
    ) -> None:
        refuse_no_images("conv4_concatenated", input_shape)
        if min(input_shape[1:]) < 2 ** (_HALVINGS + 1):
            raise BadInput(
                f"images of {input_shape[1]}x{input_shape[2]} are too small for backbone=conv4_concatenated, which halves "
                f"them {_HALVINGS} times and then pools them once more: use images of at least "
                f"{2 ** (_HALVINGS + 1)}x{2 ** (_HALVINGS + 1)}, or another backbone such as backbone=mlp"
            )
        super().__init__(input_shape, channels, "pool", normalisation, _HALVINGS, fused)
        self.slope = slope
        self.dropout = dropout
        self.draws = dropout > 0
        last, (_, height, width) = self.convolutions[-1], self.feature_shape
        assert isinstance(last, Convolution)
        self.feature_shape = (last.in_channels + last.out_channels, height - 1, width - 1)

    @property
    def fused_blocks(self) -> bool:
        return False  # kernels for whole blocks have ReLUs that are not leaky

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        x = images.flatten(0, 1)
        with_kernels = super().fused_blocks and are_usable(x, self.parameters())
        maps: list[Tensor] = []  # of the last two blocks
        for block, (convolution, normalisation) in enumerate(zip(self.convolutions, self.normalisations, strict=True)):
            assert isinstance(convolution, Convolution)
            assert isinstance(normalisation, Normalisation)
            x = normalisation(convolution.with_kernel(x) if with_kernels else convolution(x), tasks, support)
            x = F.leaky_relu(F.max_pool2d(x, 2, 2 if block < _HALVINGS else 1), self.slope)
            if block >= _HALVINGS - 1:
                x = F.dropout(x, self.dropout, self.training and self.dropout > 0)
                maps.append(x)
        maps[0] = F.max_pool2d(maps[0], 2, 1)
        return torch.cat(maps, dim=1).reshape(tasks, count, self.features)
