"""Networks of timm with published weights, such as DINOv2, CLIP, ConvNeXt and EfficientNet; Wightman 2019, "PyTorch image
models".

Inputs get the size, the interpolation, the mean and the standard deviation that belong to the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from metashot.arguments import Matching, Side
from metashot.backbones.folding import folded
from metashot.backbones.published import full_name, imported_timm, load_published, trained_on
from metashot.backbones.published_network import PublishedNetwork, identity_of
from metashot.bad_input import BadInput

# Names that timm knows; a path or the address of a hub is none.
NameInTimm = Annotated[str, Matching(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_-]{1,100})?", "the name of a network of timm")]
_SHOWN = 8  # names of parts in a message


@dataclass(frozen=True, eq=False)
class _Folded:
    """The network without batch normalisation; None if there is nothing to fold."""

    weights: list[tuple[int, int]] | None  # what `identity_of` said when it was made
    network: nn.Module | None


class Pretrained(PublishedNetwork):
    """A network of timm up to its features.

    Args:
        input_shape: The shape of one image of the data, which is resized to that of the weights.
        name: The name in timm, with the name of its weights after a dot where it has several.
        weights: `auto` for those of an installed package or else of timm's hub, `hub`, or a file.
        image_size: The side of images in pixels; None for that of the weights.
        train: Patterns for the names of the parameters that are trained; all others are frozen.

    Raises:
        BadInput: timm is not installed, or does not know the name, or an argument does not fit the network.
    """

    def __init__(
        self, input_shape: tuple[int, ...], name: NameInTimm, weights: str, image_size: Side | None, train: list[str]
    ) -> None:
        self.name = full_name(name)
        network = self._build(image_size)
        shape, mean, std, interpolation = _inputs_of(network)
        side = image_size or shape[1]
        _refuse_too_small(self.name, network, side)
        super().__init__((3, side, side), "running")
        self.weights = weights
        self.image_size = image_size
        self.network = network
        self.wants: Mapping[str, Any] = {
            "input_shape": [3, side, side],
            "mean": mean,
            "std": std,
            "interpolation": interpolation,
            "augmented": bool(train),
        }
        self.feature_shape = (_features_of(self.name, self._build, image_size, side),)
        self.external_data = trained_on(self.name) if weights in ("auto", "hub") else f"{weights}, for {self.name}"
        self._folded = _Folded(None, None)
        self._train_parts(train)

    def load_published(self) -> None:
        load_published(self.network, self.name, self.weights, lambda **how: self._build(self.image_size, **how))

    def forward(self, images: Tensor, support: int) -> Tensor:
        tasks, count = images.shape[:2]
        features: Tensor = self._network_for(images)(images.flatten(0, 1))
        return features.reshape(tasks, count, self.features)

    def _network_for(self, images: Tensor) -> nn.Module:
        is_plain = images.device.type == "cpu" and images.dtype is torch.float32 and not images.requires_grad
        if not is_plain or not self.frozen or torch.is_autocast_enabled("cpu") or _is_transformed() or not images.numel():
            return self.network
        weights = identity_of(self.network)
        if weights is None:
            return self.network
        found = self._folded  # once, since another thread may replace it
        if found.weights != weights:
            found = self._folded = _Folded(weights, folded(self.network, images[0, :1]))
        return found.network or self.network

    def _build(self, image_size: int | None, **how: Any) -> nn.Module:
        timm = imported_timm()
        architecture = self.name.partition(".")[0]
        if image_size is not None and timm.models.get_pretrained_cfg(self.name).fixed_input_size:
            how["img_size"] = image_size
        try:
            found: nn.Module = timm.create_model(self.name if "." in self.name else architecture, num_classes=0, **how)
        except (AssertionError, ValueError, TypeError) as error:
            if "img_size" not in how:
                raise
            reason = f" ({error})" if str(error) else ""
            raise BadInput(f"backbone.image_size={image_size} does not fit backbone.name={self.name}{reason}") from error
        return found.eval()

    def _train_parts(self, patterns: list[str]) -> None:
        if not patterns:
            self.freeze()
            return
        names = [name for name, _ in self.network.named_parameters()]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                parts = list(dict.fromkeys(name.rpartition(".")[0] + ".*" for name in names if "." in name))
                raise BadInput(
                    f"backbone.train={pattern} matches no parameter of {self.name}; allowed: patterns such as "
                    f"{', '.join(parts[-_SHOWN:])}"
                )
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_folded": _Folded(None, None)}  # it is made again


def _is_transformed() -> bool:
    """Whether a function transform of torch.func is active, or a graph is traced, where values cannot be compared."""
    return torch._C._functorch.maybe_current_level() is not None or torch.compiler.is_compiling()


def _inputs_of(network: nn.Module) -> tuple[tuple[int, ...], list[float], list[float], str]:
    """The shape, the mean, the standard deviation and the interpolation of the images that weights were trained on."""
    found = imported_timm().data.resolve_model_data_config(network)
    interpolation = found["interpolation"] if found["interpolation"] in ("bilinear", "bicubic") else "bicubic"
    return found["input_size"], list(found["mean"]), list(found["std"]), interpolation


def _refuse_too_small(name: str, network: nn.Module, side: int) -> None:
    """Refuse images of which nothing would be left, or a part that fills no patch."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if patch is not None and side % max(patch):
        raise BadInput(
            f"backbone.image_size={side} does not fit {name}, which sees patches of {max(patch)} pixels: give a multiple"
        )
    least = max([stage["reduction"] for stage in getattr(network, "feature_info", [])], default=1)
    if side < least:
        raise BadInput(
            f"backbone.image_size={side} is too small for {name}, which makes one feature of {least}x{least} pixels: give "
            f"at least {least}, or null for the size that its weights were trained with"
        )


def _features_of(name: str, build: Any, image_size: int | None, side: int) -> int:
    """The number of features, from a forward pass that computes nothing."""
    with torch.device("meta"):
        network = build(image_size)
        try:
            with torch.no_grad():
                found = network(torch.empty(1, 3, side, side, device="meta"))
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise BadInput(f"backbone.image_size={side} does not fit {name}: {error}") from error
    return int(found.flatten(1).shape[1])
