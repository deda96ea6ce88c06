"""Four convolutional blocks, the network of most few-shot papers (Vinyals et al. 2016; Snell et al. 2017)."""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from metashot.arguments import AtLeast, AtMost, Channels
from metashot.backbones.base import Backbone, refuse_no_images
from metashot.backbones.layers import Convolution
from metashot.backbones.normalisation import Normalisation, Protocol
from metashot.bad_input import BadInput
from metashot.kernels.compiling import why_not
from metashot.kernels.images import are_available, are_usable

BLOCKS = 4


class Conv4(Backbone):
    """Maps images [T, N, channels, height, width] to features [T, N, features].

    A block is a 3x3 convolution, batch normalisation and ReLU, and halves the image by max pooling, or by the stride of
    its convolution as in Finn et al. 2017 on Omniglot (about five times cheaper).

    Args:
        input_shape: The shape of one image.
        channels: The number of channels of all blocks, or of each block as in Bertinetto et al. 2019.
        downsampling: Whether pooling or stride halves the image.
        normalisation: The statistics that normalise images.
        halvings: The number of blocks, from the first, that halve the image.
        fused: Whether to use kernels for convolutions, and for normalisation, ReLU and pooling, where they are available:
            on a CPU, in single precision, with a C compiler installed. Results are equal up to rounding.

    Raises:
        BadInput: The inputs are not images or too small, or `channels` has the wrong length.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        channels: Channels | list[Channels],
        downsampling: Literal["pool", "stride"],
        normalisation: Protocol,
        halvings: Annotated[int, AtLeast(0), AtMost(BLOCKS)] = BLOCKS,
        fused: bool = False,
    ) -> None:
        super().__init__(input_shape, normalisation)
        self.pool = downsampling == "pool"
        refuse_no_images("conv4", input_shape)
        if isinstance(channels, list) and len(channels) != BLOCKS:
            raise BadInput(f"backbone.channels={channels} cannot be used; allowed: a number, or a list of {BLOCKS}")
        self.halvings = halvings
        self.fused = fused
        inputs, height, width = input_shape
        self.convolutions = nn.ModuleList()
        self.normalisations = nn.ModuleList()
        for block, outputs in enumerate(channels if isinstance(channels, list) else [channels] * BLOCKS):
            halves = block < halvings
            self.convolutions.append(Convolution(inputs, outputs, 2 if halves and not self.pool else 1))
            self.normalisations.append(Normalisation(outputs, normalisation))
            if halves:
                height, width = (height // 2, width // 2) if self.pool else ((height + 1) // 2, (width + 1) // 2)
            inputs = outputs
        if height * width == 0:
            raise BadInput(
                f"images of {input_shape[1]}x{input_shape[2]} are too small for backbone=conv4, which halves them "
                f"{halvings} times: use larger images, backbone.downsampling=stride, or another backbone"
            )
        self.feature_shape = (inputs, height, width)

    @property
    def fused_blocks(self) -> bool:
        layers = (*self.convolutions, *self.normalisations)
        return self.fused and all(map(_is_unchanged, layers)) and are_available()

    def description(self, device_type: str) -> list[str]:
        if not self.fused or device_type != "cpu":
            return []
        if next(self.parameters()).dtype is not torch.float32:
            return ["fused blocks: not used in double precision"]
        if not are_available():
            return [f"fused blocks: not used, since {why_not()}"]
        return []

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        x = images.flatten(0, 1)
        fused = tuple(images.shape[2:]) == self.input_shape and self._kernels_can_compute(x)
        for block, (convolution, normalisation) in enumerate(zip(self.convolutions, self.normalisations, strict=True)):
            assert isinstance(convolution, Convolution)
            assert isinstance(normalisation, Normalisation)
            pool = 2 if self.pool and block < self.halvings else 1
            if fused and normalisation.is_known and not torch.is_grad_enabled():
                x = convolution.as_block(x, *normalisation.scale_and_shift(), pool)
                continue
            x = convolution.with_kernel(x) if fused else convolution(x)
            x = normalisation.activate(x, tasks, support, pool, fused)
        return x.reshape(tasks, count, self.features)

    def _kernels_can_compute(self, x: Tensor) -> bool:
        """Whether kernels can be used for these images with the present parameters, which may be those of each task."""
        layers = (*self.convolutions, *self.normalisations)
        parameters = (value for layer in layers for value in layer._parameters.values() if value is not None)
        return self.fused and are_usable(x, parameters) and self.fused_blocks


def _is_unchanged(layer: nn.Module) -> bool:
    """Whether a layer is as it was made: kernels would pass over hooks, which pruning also consists of."""
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return type(layer) in (Convolution, Normalisation) and not any(hooks)
