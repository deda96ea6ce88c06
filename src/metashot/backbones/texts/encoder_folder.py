"""Folders of encoders in the form of transformers and sentence-transformers, read without running any code of theirs."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from metashot.backbones.published import HUB, not_downloaded, refuse_no_connection
from metashot.bad_input import BadInput
from metashot.files.paths import given_path, quoted, read_file, reason_of

Pooling = Literal["mean", "cls"]

_CONFIG, _TOKENIZER, _MODULES = "config.json", "tokenizer.json", "modules.json"
_FROM_HUB = [_CONFIG, _TOKENIZER, _MODULES, "*.safetensors", "*.safetensors.index.json", "*/config.json"]
_MOST_BYTES = 2**26  # of a file that is no weights
_INSIDE = re.compile(r"[\w.-]{0,100}", re.ASCII)  # the path of a module of sentence-transformers in its folder
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[\w.-]{1,200}\.safetensors")
_POOLINGS: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class EncoderFolder(NamedTuple):
    """An encoder in a folder, and what the folder says of it."""

    folder: Path
    what: str  # that messages call it
    config: Any  # of transformers
    tokenizer: bytes  # the content of its `tokenizer.json`
    pooling: Pooling
    normalise: bool  # whether features are divided by their lengths
    longest: int | None  # the most tokens of a text; None if any number
    padding: int  # the id of padding
    rows: int  # of its table of tokens


def encoder_folder(name: str, weights: str, pooling: Literal["auto", "mean", "cls"]) -> EncoderFolder:
    """Find an encoder, and read all but its weights.

    Args:
        name: Its name on the Hugging Face hub.
        weights: `hub`, or its folder.
        pooling: How the tokens of a text become one feature; `auto` for what the folder says, and else the mean.

    Raises:
        BadInput: If a package or a file is missing or broken, or it is no encoder that can be used.
    """
    transformers = imported_transformers()
    what = f"backbone.name={name}" if weights == HUB else f"backbone.weights={quoted(weights)}"
    top = _from_hub(name) if weights == HUB else given_path(weights, "backbone.weights")
    if not top.is_dir():
        reason = "it is no folder" if top.exists() else "there is no such folder"
        raise BadInput(f"{what} cannot be used: {reason}; allowed: hub, or a folder with {_CONFIG} and {_TOKENIZER}")
    modules = _modules_of(top, what)
    folder = top / modules.get("Transformer", "")
    # Read by us first, since the package's messages advise to run code of a folder.
    described = _json(folder / _CONFIG, what)
    kind = described.get("model_type") if isinstance(described, dict) else None
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise BadInput(
            f"{what} is no encoder that transformers itself knows: its {_CONFIG} names the type {str(kind)[:100]}"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever a broken file makes it raise
        raise BadInput(f"{what} has a {_CONFIG} that transformers cannot read: {_reason(error)}") from error
    if config.is_encoder_decoder:
        raise BadInput(
            f"{what} has a decoder, so that it is not clear what its features are: choose an encoder such as BERT"
        )
    content = _read(folder / _TOKENIZER, what)
    rows, padding = getattr(config, "vocab_size", None), getattr(config, "pad_token_id", None) or 0
    if type(rows) is not int or type(padding) is not int or not 0 <= padding < rows:
        raise BadInput(f"{what} cannot be used: its {_CONFIG} has the ids {padding} for padding and {rows} in all")
    return EncoderFolder(
        folder,
        what,
        config,
        content,
        _pooling_of(top / modules["Pooling"], what) if pooling == "auto" and "Pooling" in modules else _given(pooling),
        "Normalize" in modules,
        _longest(config),
        padding,
        rows,
    )


def built(found: EncoderFolder) -> nn.Module:
    """The network with random weights.

    Raises:
        BadInput: If transformers cannot build it.
    """
    make = imported_transformers().AutoModel.from_config
    try:
        with torch.device("meta"):  # a configuration may describe a network larger than the memory of any machine
            outline = make(found.config, trust_remote_code=False, attn_implementation="eager")
        numbers, held = sum(value.numel() for value in outline.parameters()), _bytes_of_weights(found)
        if numbers > held:
            raise BadInput(
                f"{found.what} has weights that do not fit its {_CONFIG}: it describes {numbers:,} numbers, and the weights "
                f"are {held:,} bytes"
            )
        network: nn.Module = make(found.config, trust_remote_code=False, attn_implementation="eager")
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{found.what} cannot be built by transformers: {_reason(error)}") from error
    return without_pooler(network).float().eval()


def _bytes_of_weights(found: EncoderFolder) -> int:
    """The size of the files with weights, which have to be safetensors in the folder itself.

    Raises:
        BadInput: If an index names other files: they could be of another form, and lie anywhere.
    """
    index = found.folder / _INDEX
    if index.exists():
        content = _json(index, found.what)
        named = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(named, dict):
            raise BadInput(f"{found.what} has an {_INDEX} without a weight_map")
        if odd := [name for name in named.values() if not isinstance(name, str) or not _SHARD.fullmatch(name)]:
            raise BadInput(
                f"{found.what} has an {_INDEX} that names {str(odd[0])[:100]!r}; allowed: files of safetensors beside it"
            )
    files = sorted(found.folder.glob("*.safetensors"))
    if odd_file := next((file for file in files if not file.is_file()), None):
        raise BadInput(f"{found.what} has weights that cannot be loaded: {odd_file.name} is no file")
    if not files:
        raise BadInput(
            f"{found.what} has no weights in the form of safetensors, and others could run code: convert them, or choose "
            "another encoder"
        )
    return sum(file.stat().st_size for file in files)


def loaded(found: EncoderFolder) -> dict[str, Tensor]:
    """The weights in a folder, which have to be all there.

    Raises:
        BadInput: If they are missing, are no safetensors, or do not fit.
    """
    _bytes_of_weights(found)
    try:
        with torch.device("cpu"):
            network, said = imported_transformers().AutoModel.from_pretrained(
                found.folder,
                config=found.config,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:
        raise BadInput(f"{found.what} has weights that cannot be loaded: {_reason(error)}") from error
    unfit = [str(name) for key in ("missing_keys", "mismatched_keys") for name in said[key]]
    if unfit := [name for name in unfit if not name.startswith("pooler.")]:
        raise BadInput(f"{found.what} has weights that do not fit its {_CONFIG}: {unfit[0]} is missing or has another shape")
    weights: dict[str, Tensor] = without_pooler(network).state_dict()
    return weights


def without_pooler(network: nn.Module) -> nn.Module:
    """The network without the layer behind the first token, which is not used, and whose weights are often missing."""
    if getattr(network, "pooler", None) is not None:
        network.add_module("pooler", None)
    return network


def imported_transformers() -> Any:
    """Import transformers, which is slow and optional."""
    for package in ("transformers", "tokenizers", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise BadInput(
                f"backbone=sentence needs the package {package}, which is not installed: pip install 'metashot[text]'"
            )
    import transformers

    said: Any = transformers.logging
    said.set_verbosity_error()
    said.disable_progress_bar()
    return transformers


def _from_hub(name: str) -> Path:
    import huggingface_hub as hub

    try:
        return Path(hub.snapshot_download(name, allow_patterns=_FROM_HUB, local_files_only=True))
    except Exception:  # it was not downloaded before
        refuse_no_connection(name, None, "give backbone.weights=FOLDER of an encoder that you have, or ")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=_FROM_HUB))
    except Exception as error:
        raise not_downloaded(name, error, "give backbone.weights=FOLDER of an encoder that you have, or ") from error


def _modules_of(top: Path, what: str) -> dict[str, str]:
    """The folders of the modules of sentence-transformers, by their kind; empty for a folder of transformers."""
    if not (top / _MODULES).is_file():
        return {"Pooling": "1_Pooling"} if (top / "1_Pooling" / _CONFIG).is_file() else {}
    listed = _json(top / _MODULES, what)
    found: dict[str, str] = {}
    for one in listed if isinstance(listed, list) else [None]:
        path, kind = (one.get("path"), one.get("type")) if isinstance(one, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(path, str) or not _INSIDE.fullmatch(path) or ".." in path:
            raise BadInput(f"{what} has a {_MODULES} that does not list modules of sentence-transformers")
        name = kind.rpartition(".")[2]
        if name not in ("Transformer", "Pooling", "Normalize"):
            raise BadInput(
                f"{what} has the module {name[:100]}, which backbone=sentence does not know: choose an encoder of "
                "Transformer, Pooling and Normalize"
            )
        found[name] = path
    return found


def _given(pooling: Literal["auto", "mean", "cls"]) -> Pooling:
    return "mean" if pooling == "auto" else pooling


def _pooling_of(folder: Path, what: str) -> Pooling:
    described = _json(folder / _CONFIG, what)
    described = described if isinstance(described, dict) else {}
    modes = [key for key, value in described.items() if key.startswith("pooling_mode_") and value is True]
    named = described.get("pooling_mode")
    if not modes and named in ("mean", "cls"):
        return "mean" if named == "mean" else "cls"
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        said = ", ".join(key.removeprefix("pooling_mode_") for key in modes)[:200] or str(named)[:100]
        raise BadInput(f"{what} pools by {said}, which backbone=sentence does not know: give backbone.pooling=mean or cls")
    return _POOLINGS[modes[0]]


def _longest(config: Any) -> int | None:
    """The most tokens of a text, as far as the positions of an encoder say."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    # The encoders of RoBERTa's kind begin to count behind the id of padding.
    shifted = config.model_type in (
        "roberta",
        "xlm-roberta",
        "camembert",
        "mpnet",
        "xmod",
        "longformer",
        "roberta-prelayernorm",
    )
    return positions - (config.pad_token_id or 0) - 1 if shifted else positions


def _json(path: Path, what: str) -> Any:
    try:
        return json.loads(_read(path, what))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} has a {path.name} that is no JSON: {_reason(error)}") from error


def _read(path: Path, what: str) -> bytes:
    try:
        return read_file(path, _MOST_BYTES)
    except FileNotFoundError as error:
        advice = ""
        if path.name == _TOKENIZER:
            advice = "; transformers' AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes one"
        raise BadInput(f"{what} has no {path.name}{advice}") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{what} has a {path.name} that cannot be read: {reason_of(error)}") from error


def _reason(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
