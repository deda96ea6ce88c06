"""Frozen networks without batch normalisation: its averages are folded into the convolutions before it."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_TOLERATED = 1e-5  # difference of features, relative to the largest one


def folded(network: nn.Module, example: Tensor) -> nn.Module | None:
    """A copy of a network in evaluation mode that computes the same features faster on a CPU.

    Which convolution's output a normalisation takes is observed in one forward pass.

    Args:
        network: the network.
        example: inputs [N, channels, height, width].

    Returns:
        The copy with channels-last convolutions; None if there is nothing to fold, or the features of the example differ.
    """
    with torch.no_grad():
        made = copy.deepcopy(network)
        pairs = _pairs(made, example)
        if not pairs:
            return None
        expected = network(example)
        for convolution, normalisation in pairs:
            weight, bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                normalisation.running_mean,  # type: ignore[arg-type]
                normalisation.running_var,  # type: ignore[arg-type]
                normalisation.eps,
                normalisation.weight,
                normalisation.bias,
            )
            convolution.weight, convolution.bias = weight, bias
        _replace(made, {id(normalisation): _after(normalisation) for _, normalisation in pairs})
        made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = made(example.contiguous(memory_format=torch.channels_last))
        largest = expected.abs().max().clamp(min=1e-12)
        return made if bool((found - expected).abs().max() <= _TOLERATED * largest) else None


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each normalisation with the convolution whose output it takes."""
    outputs: list[tuple[nn.Conv2d, Tensor]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        outputs.append((layer, output))

    def match(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        if layer.running_mean is not None and outputs and outputs[-1][1] is inputs[0]:
            pairs.append((outputs[-1][0], layer))

    hooks = [layer.register_forward_hook(note) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks += [layer.register_forward_pre_hook(match) for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    network(example)
    for hook in hooks:
        hook.remove()
    used = [id(layer) for pair in pairs for layer in pair]
    return [pair for pair in pairs if all(used.count(id(layer)) == 1 for layer in pair)]


def _after(normalisation: nn.BatchNorm2d) -> nn.Module:
    """What timm's normalisation layers do after normalising."""
    after = [getattr(normalisation, name) for name in ("drop", "act") if hasattr(normalisation, name)]
    return nn.Sequential(*after) if after else nn.Identity()


def _replace(network: nn.Module, replacements: dict[int, nn.Module]) -> None:
    for parent in network.modules():
        for name, child in list(parent.named_children()):
            if id(child) in replacements:
                setattr(parent, name, replacements[id(child)])
