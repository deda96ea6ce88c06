"""Networks of open_clip: their names, how they are built, and their published weights; none of them can run code."""

import copy
import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metashot.backbones.published import (
    HUB,
    load_weights,
    not_downloaded,
    read_file,
    read_weights,
    refuse_no_connection,
    trained_on,
)
from metashot.bad_input import BadInput

_SUGGESTED = 5  # names in a message

# A tiny network for tests, which has no published weights.
_TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
_OWN: Mapping[str, Mapping[str, Any]] = {"test-clip": _TINY}


@dataclass(frozen=True)
class Named:
    """A network that open_clip knows.

    Attributes:
        name: its name, with the tag of its weights after a dot where one was given.
        architecture: the arguments of its class.
        published: what open_clip knows about the weights with this tag; empty without a tag.
    """

    name: str
    architecture: Mapping[str, Any]
    published: Mapping[str, Any]

    @property
    def side(self) -> int:
        """The side of its images in pixels."""
        return int(self.architecture["vision_cfg"].get("image_size", 224))

    @property
    def inputs(self) -> dict[str, Any]:
        """The mean, the standard deviation and the interpolation of the images that weights were trained on."""
        open_clip = imported_open_clip()
        found = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD, **self.published}
        interpolation = "bilinear" if found.get("interpolation") == "bilinear" else "bicubic"
        return {"mean": list(found["mean"]), "std": list(found["std"]), "interpolation": interpolation}


def imported_open_clip() -> Any:
    """Import open_clip, which is slow and optional."""
    if importlib.util.find_spec("open_clip") is None:
        raise BadInput("backbone=clip needs open_clip, which is not installed: pip install 'metashot[clip]'")
    import open_clip

    return open_clip


def named(name: str) -> Named:
    """Look a network up.

    Args:
        name: its name in open_clip, with the tag of its weights after a dot, or without.

    Raises:
        BadInput: if open_clip has no such network, or no such weights of it, or not all that it needs.
    """
    open_clip = imported_open_clip()
    architecture, dot, tag = name.partition(".")
    known = open_clip.list_models()
    if architecture not in _OWN and architecture not in known:
        near = difflib.get_close_matches(architecture, known, _SUGGESTED, 0.5)
        suggested = f"did you mean {', '.join(near)}?" if near else "open_clip.list_models() lists all"
        raise BadInput(f"backbone.name={name} is not a network of open_clip {open_clip.__version__}; {suggested}")
    found: dict[str, Any] = copy.deepcopy(dict(_OWN.get(architecture) or open_clip.get_model_config(architecture)))
    if "multimodal_cfg" in found or any(key.startswith("hf_") for key in found["text_cfg"]):
        raise BadInput(
            f"backbone.name={name} cannot be used, since its text tower or its tokenizer is not part of open_clip: choose "
            "another network, such as ViT-B-32"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if dot and tag not in tags:
        allowed = ", ".join(f"{architecture}.{one}" for one in tags)
        raise BadInput(
            f"backbone.name={name} names weights that open_clip does not know; "
            + (f"allowed: {allowed}" if tags else f"it has none of {architecture}: give backbone.weights=FILE")
        )
    published = dict(open_clip.get_pretrained_cfg(architecture, tag)) if dot else {}
    if dot:  # as the weights were trained, whatever the network's own file says
        found["quick_gelu"] = bool(published.get("quick_gelu", False))
    return Named(name, found, published)


def built(network: Named) -> nn.Module:
    """Build a network, with random weights."""
    open_clip = imported_open_clip()
    arguments: dict[str, Any] = copy.deepcopy(dict(network.architecture))
    arguments["vision_cfg"]["timm_model_pretrained"] = False  # nothing is downloaded here
    kind = open_clip.CustomTextCLIP if arguments.pop("custom_text", False) else open_clip.CLIP
    found: nn.Module = kind(**arguments)
    return found.eval()


def tokenizer_of(network: Named) -> Any:
    """What turns texts into tokens [texts, length]; its vocabulary is a file of open_clip."""
    text = network.architecture["text_cfg"]
    length, options = text.get("context_length", 77), text.get("tokenizer_kwargs", {})
    return imported_open_clip().SimpleTokenizer(context_length=length, **options)


def data_of(network: Named, weights: str) -> str:
    """The data that weights were trained on, as far as they are known."""
    return trained_on(network.name, "open_clip") if weights == HUB else f"{weights}, for {network.name}"


def load_published_clip(module: nn.Module, network: Named, weights: str) -> None:
    """Load published weights into a network.

    Args:
        module: what `built` returned.
        network: the network.
        weights: `hub` or a file.

    Raises:
        BadInput: if they cannot be found, or do not fit.
    """
    if weights == HUB:
        what, found = f"the weights {network.name}", _from_hub(network)
    else:
        what, found = f"backbone.weights={weights}", read_file(weights, "hub, or a .safetensors or .pt file")
    load_weights(module, _converted(found, module, what), what)


def _from_hub(network: Named) -> dict[str, Tensor]:
    open_clip = imported_open_clip()
    repository = str(network.published.get("hf_hub", "")).rpartition("/")[0]
    if not repository:
        tags = open_clip.list_pretrained_tags_by_model(network.name.partition(".")[0])
        choice = f"choose one, such as backbone.name={network.name}.{tags[-1]}" if tags else "open_clip has none"
        raise BadInput(f"backbone.name={network.name} does not name its weights: {choice}, or give backbone.weights=FILE")
    refuse_no_connection(network.name, repository)
    try:
        file = Path(open_clip.download_pretrained(dict(network.published)))
    except (Exception, SystemExit) as error:  # whatever its downloads raise
        raise not_downloaded(network.name, error) from error
    return read_weights(file, f"the weights {network.name}")


def _converted(weights: dict[str, Tensor], module: nn.Module, what: str) -> dict[str, Tensor]:
    """The weights with the names of the network."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    try:
        found: dict[str, Tensor] = convert_state_dict(module, weights)
        if "positional_embedding" in found and not hasattr(module, "positional_embedding"):
            found = convert_to_custom_text_state_dict(found)
    except Exception as error:
        raise BadInput(f"{what} has weights that do not fit backbone.name: {type(error).__name__}: {error}") from error
    # Only training needs them, and some files have them in another shape, or not at all.
    scales = {name: value for name, value in module.state_dict().items() if name in ("logit_scale", "logit_bias")}
    return found | {name: torch.as_tensor(value).clone() for name, value in scales.items()}
