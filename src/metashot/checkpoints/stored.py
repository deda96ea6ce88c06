"""Finds stored configurations and checkpoints, and validates them before anything is built from them.

Files are not trusted. The contents are checked to be plain, bounded in size, and in the form that metashot writes;
`configuration.buildable` decides which classes a configuration may name.
"""

import contextlib
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml

from metashot.arguments import AtLeast, AtMost, Buckets, Horizon, Matching, Positive, Seed, Watched, check_value
from metashot.bad_input import BadInput, one_of
from metashot.checkpoints.ready_made import READY_MADE, ready_made
from metashot.configuration import signatures
from metashot.configuration.buildable import TARGET, refuse_misplaced
from metashot.configuration.checking import GROUPS, Container, Name, check_group
from metashot.configuration.former_names import bring_state_up_to_date, bring_up_to_date
from metashot.files.archives import Outline, Unusable, outline
from metashot.files.outputs import holds_fit
from metashot.files.paths import given_path, kind_of_file, read_file
from metashot.sources.source import FEATURES, PIXELS, TOKENS
from metashot.sources.texts.code_points import PADDING

BEST, LAST = "best.ckpt", "last.ckpt"
CONFIG = "config.yaml"  # in a run's folder
OURS = "metashot"  # the key of metashot's own part of a checkpoint

_KEY = re.compile(r"(?!defaults$)[A-Za-z]\w{0,99}")  # Hydra interprets other keys as directives
_MOST_BYTES = 2**20  # the largest configuration file
_MOST_VALUES, _DEEPEST, _LONGEST = 20_000, 20, 10_000  # limits of a configuration: values, nesting, characters of a text
_OWN_KEYS: Mapping[str, Any] = {  # top-level keys of a stored configuration that a new run inherits
    "seed": Seed,
    "init_from": Annotated[str, Matching(r"[^'\"\n].*", "a path")] | None,
    "freeze_backbone": bool,
    "allow_seen_classes": bool,
    "pictures": signatures.alias("metashot.evaluation.gallery.Pictures"),
    "curve": Watched,
}
_LONGEST_NUMBER = 40  # digits
MOST_CLASSES, LONGEST_LABEL = 100_000, 1000  # limits of a fitted learner
_Size = Annotated[int, AtLeast(1), AtMost(1024)]  # pixels of an image side, or the length of a regression input
_Length = Annotated[int, AtLeast(1), AtMost(65_536)]  # the length of a vector, or the tokens of a text
_DTYPES = {PIXELS: "torch.uint8", FEATURES: "torch.float32", TOKENS: "torch.int32"}  # of a fitted learner's examples
_MOST_VOCABULARY = 2**25  # bytes of a compressed vocabulary
LONGEST_TEXT = 100_000  # characters of an example
_Step = Annotated[int, AtLeast(0), AtMost(2**53)]


class _Kept(NamedTuple):
    """What a stored learner may contain, depending on the problem that it was trained on."""

    of_items: bool  # whether inputs are items of a bank rather than points of a curve
    most_outputs: int
    fitted: bool  # whether fitted learners of this problem can be stored
    named_classes: bool = False  # whether their files contain class names
    of_worlds: bool = False  # whether inputs are what is observed in worlds

    @property
    def described_by(self) -> Mapping[str, Any]:
        """What an origin without items says beside the keys that all have."""
        return _ORIGIN_OF_WORLDS if self.of_worlds else {}


_PROBLEMS: Mapping[str, _Kept] = {
    "Classification": _Kept(of_items=True, most_outputs=1_000_000, fitted=True, named_classes=True),
    "Regression": _Kept(of_items=False, most_outputs=1_000_000, fitted=True),
    "DenseLabels": _Kept(of_items=True, most_outputs=255, fitted=False),
    "Returns": _Kept(of_items=False, most_outputs=16_384, fitted=False, of_worlds=True),
}
_ORIGIN: Mapping[str, Any] = {
    "name": Name,
    "problem": signatures.alias("metashot.problems.ProblemName"),
    "input_shape": list[_Size],
}
_ORIGIN_OF_WORLDS: Mapping[str, Any] = {
    "actions": Literal["discrete", "continuous"],
    "horizon": Horizon,
    "told": bool,
    "input_shape": list[_Length],
}
_MOST_NUMBERS, _MOST_DIMENSIONS = 10**7, 4  # limits of the shape of an input
_MOST_AXES = 32  # of a space
_CONSTANTS: Mapping[str, Any] = {"mean": list[float] | None, "std": list[Positive] | None}
# Additional keys for each kind of items; kinds added by plug-ins use the last entry.
_ORIGIN_OF_ITEMS: Mapping[str, Mapping[str, Any]] = {
    PIXELS: {**_CONSTANTS, "images": str | None, "interpolation": Literal["bilinear", "bicubic"] | None},
    FEATURES: {**_CONSTANTS, "items": str | None, "input_shape": list[_Length]},
    TOKENS: {"items": str | None, "input_shape": list[_Length]},
    "others": {"items": str | None, "input_shape": list[_Length]},
}


class _Loader(yaml.SafeLoader):
    """Reads only the YAML that metashot writes: no aliases, no merge keys, and no sexagesimal or very long numbers."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has references (*)")
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: Any) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("it has merge keys (<<)")

    def construct_scalar(self, node: Any) -> Any:
        number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if number and (":" in node.value or len(node.value) > _LONGEST_NUMBER):
            raise yaml.YAMLError(f"it has the number {node.value[:30]}")
        return super().construct_scalar(node)


def find_checkpoint(given: str | os.PathLike[str], key: str, preferred: str) -> Path:
    """Find the checkpoint that a user gives as a file, as the folder of a run, or as the name of a ready-made learner.

    Args:
        given: the file, the folder or the name.
        key: the configuration key with this value, for messages.
        preferred: the name of the checkpoint to use from a folder.

    Raises:
        BadInput: if there is no such checkpoint.
    """
    path = ready_made(given, key) or given_path(given, key)
    if path.is_file():
        return path
    if not path.is_dir():
        what = "there is no such file or folder"
        if path.exists():
            what = f"it is {kind_of_file(path.stat().st_mode)} and not a file"
        raise BadInput(
            f"{key}={given}: {what}; give a checkpoint, the folder of a run, or the name of a "
            f"ready-made learner: {one_of(READY_MADE, str(given))}"
        )
    folder = path / "checkpoints"
    found = folder / preferred
    if found.is_file():
        return found
    others = sorted(folder.glob("*.ckpt")) if folder.is_dir() else []
    advice = f"; it has {', '.join(map(str, others))}" if others else ": is it the folder of a run?"
    raise BadInput(f"{key}={given}: the folder has no checkpoints/{preferred}{advice}")


def configuration_of_checkpoint(given: str, key: str, preferred: str) -> Container:
    """Read the configuration in a checkpoint, without importing torch.

    Args:
        given: the checkpoint, or the folder of a run.
        key: the configuration key with this value, for messages.
        preferred: the name of the checkpoint to use from a folder.

    Raises:
        BadInput: if there is no such checkpoint, or it cannot be used.
    """
    path = find_checkpoint(given, key, preferred)
    try:
        return checked(outline(path))[OURS]["config"]  # type: ignore[no-any-return]
    except Unusable as error:
        raise unusable(path, error) from error


def configuration_of_learner(given: str, key: str) -> Container:
    """Read the configuration in a checkpoint or in the file of a fitted learner.

    Args:
        given: the file, or the folder of a run.
        key: the configuration key with this value, for messages.

    Raises:
        BadInput: if there is no such file, or it cannot be used.
    """
    path = find_checkpoint(given, key, BEST)
    if not holds_fit(path):
        return configuration_of_checkpoint(given, key, BEST)
    try:
        content = outline(path)
        return refuse_unsafe(content.get("config") if isinstance(content, dict) else None, "its configuration")
    except (Unusable, BadInput) as error:
        raise BadInput(f"the fitted learner {path} cannot be used: {error}") from error


def configuration_of_run(given: str, key: str) -> Container:
    """Read the configuration of a run's folder or of a checkpoint.

    Args:
        given: the folder or the checkpoint.
        key: the configuration key with this value, for messages.

    Raises:
        BadInput: if there is no configuration, or it cannot be used.
    """
    path = given_path(given, key)
    if path.is_dir() and (path / CONFIG).is_file():
        return configuration_of_folder(path)
    return configuration_of_checkpoint(given, key, LAST)


def configuration_of_folder(folder: Path) -> Container:
    """Read the configuration in the folder of a run.

    Raises:
        BadInput: if it is missing or cannot be used.
    """
    file = folder / CONFIG
    try:
        config = yaml.load(read_file(file, _MOST_BYTES).decode(), _Loader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"{file} cannot be read: {reason}; is {folder} the folder of a run?") from error
    return refuse_unsafe(config, str(file))


def unusable(path: Path, reason: Unusable) -> BadInput:
    """Create the error for an unusable checkpoint, which names the newest intact checkpoint in its folder."""
    whole = newest_intact(path.parent)
    advice = f"the newest intact checkpoint beside it is {whole}" if whole else "no intact checkpoint lies beside it"
    return BadInput(f"the checkpoint {path} cannot be used: {reason}; {advice}")


def newest_intact(folder: Path) -> Path | None:
    """Find the most recently written valid checkpoint in a folder."""
    for path in sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True):
        with contextlib.suppress(Unusable):
            checked(outline(path))
            return path
    return None


def checked(checkpoint: Any) -> dict[str, Any]:
    """Validate the contents of a checkpoint, and update those of older versions.

    Args:
        checkpoint: the contents, with tensors or with their outlines.

    Returns:
        The same contents.

    Raises:
        Unusable: if a part is missing or broken.
    """
    ours = checkpoint.get(OURS) if isinstance(checkpoint, dict) else None
    if not isinstance(ours, dict) or not isinstance(ours.get("config"), dict):
        raise Unusable("it is not a checkpoint of metashot, since it holds no metashot configuration")
    try:
        refuse_unsafe(ours["config"], "its configuration")
        refuse_broken_weights(checkpoint.get("state_dict"))
        if ours.get("origin") is not None:
            refuse_broken_origin(ours["origin"])
        check_value(checkpoint.get("global_step"), _Step, "its global_step")
    except BadInput as error:
        raise Unusable(str(error)) from error
    bring_state_up_to_date(checkpoint)
    return checkpoint  # type: ignore[no-any-return]


def checked_fitted(content: dict[str, Any]) -> dict[str, Any]:
    """Validate the contents of a fitted learner's file.

    Args:
        content: the contents, with tensors.

    Returns:
        The same contents.

    Raises:
        Unusable: if a part is missing or broken.
    """
    try:
        refuse_unsafe(content.get("config"), "its configuration")
        refuse_broken_origin(content.get("origin"))
        refuse_broken_weights(content.get("weights"))
        x: Any = content.get("x")
        y: Any = content.get("y")
        origin = content["origin"]
        tensors = hasattr(x, "untyped_storage") and hasattr(y, "untyped_storage")
        if not tensors or not x.dim() or not y.dim() or len(x) != len(y) or not len(x):
            raise BadInput("its examples are missing or broken")
        if any(part.numel() * part.element_size() > part.untyped_storage().nbytes() for part in (x, y)):
            raise BadInput("its examples are broken: they are the same values again and again")
        of_texts = origin.get("presentation") == TOKENS  # whose examples are characters, of any length
        is_text = x.dim() == 2 and 1 <= x.shape[1] <= LONGEST_TEXT
        if not (is_text if of_texts else tuple(x.shape[1:]) == tuple(origin["input_shape"])):
            raise BadInput(f"its examples have the shape {list(x.shape)}, which its origin.input_shape does not allow")
        kept = _PROBLEMS[origin["problem"]]
        if not kept.fitted:
            raise BadInput(f"there are no fitted learners of its origin.problem={origin['problem']}")
        if kept.named_classes:
            classes = content.get("classes")
            # x has the dimensions of origin.input_shape after one for the examples.
            allowed = _DTYPES.get(origin.get("presentation", PIXELS))
            kinds = (str(x.dtype), str(y.dtype), y.dim())
            if not isinstance(classes, list) or kinds != (allowed, "torch.int64", 1):
                raise BadInput("its examples or classes are missing or broken")
            if x.is_floating_point() and not x.isfinite().all():
                raise BadInput("its examples have non-finite numbers")
            if of_texts:
                _refuse_broken_texts(x)
            if len(classes) == 1:
                raise BadInput("its examples are of one class, and at least two are needed")
            if len(classes) > len(y) or not can_be_stored(classes):
                raise BadInput("its classes are not those of its examples")
            # Compared as strings, because a file could choose other labels so that their hashes collide.
            if len(set(map(repr, classes))) < len(classes):
                raise BadInput("its classes are not those of its examples: one of them is named twice")
            if not 0 <= int(y.min()) <= int(y.max()) < len(classes):
                raise BadInput(f"its examples are of {int(y.max()) + 1} classes, and it names {len(classes)}")
            if len(y.unique()) < len(classes):
                raise BadInput("its classes are not those of its examples: some have no example")
    except BadInput as error:
        raise Unusable(str(error)) from error
    return content


def _refuse_broken_texts(x: Any) -> None:
    """Validate examples that are texts, as code points [N, length]."""
    if not PADDING <= int(x.min()) <= int(x.max()) <= sys.maxunicode:
        raise BadInput("its examples have numbers that are no characters")
    # Control characters could change what a terminal shows.
    for first, last, what in ((0, 0x1F, "control"), (0x7F, 0x9F, "control"), (0xD800, 0xDFFF, "halves of")):
        if bool(((x >= first) & (x <= last)).any()):
            raise BadInput(f"its examples have {what} characters")
    is_there = x != PADDING
    if not bool(is_there[:, 0].all()):
        raise BadInput("its examples have texts without characters")
    if bool((is_there[:, 1:] & ~is_there[:, :-1]).any()):
        raise BadInput("its examples have texts with gaps")


def can_be_stored(classes: Sequence[Any]) -> bool:
    """Whether the class labels of a fitted learner are within the limits that apply when its file is read."""
    return len(classes) <= MOST_CLASSES and all(map(_is_label, classes))


def _is_label(label: Any, depth: int = 0) -> bool:
    if isinstance(label, tuple):
        return depth < _DEEPEST and len(label) <= LONGEST_LABEL and all(_is_label(part, depth + 1) for part in label)
    if isinstance(label, str):
        return len(label) <= LONGEST_LABEL and not any("\ud800" <= letter <= "\udfff" for letter in label)
    return label is None or (isinstance(label, int | float) and label == label)  # excludes NaN


def items_of(origin: Mapping[str, Any]) -> str:
    """The kind of the items that a learner was trained on, such as `pixels`."""
    usual = PIXELS if _PROBLEMS[origin["problem"]].of_items else FEATURES
    return str(origin.get("presentation", usual))


def refuse_broken_weights(weights: Any) -> None:
    if not isinstance(weights, dict) or not weights:
        raise BadInput("its state_dict is missing, empty or broken")
    claimed, held = 0, {}
    for name, value in weights.items():
        if not isinstance(name, str) or not (isinstance(value, Outline) or hasattr(value, "untyped_storage")):
            raise BadInput(f"its state_dict is broken: {str(name)[:60]} is a {type(value).__name__} and no tensor")
        if isinstance(value, Outline):
            claimed, held[value.storage] = claimed + value.claimed_bytes, value.bytes
        else:
            storage = value.untyped_storage()
            claimed, held[storage.data_ptr()] = claimed + value.numel() * value.element_size(), storage.nbytes()
    if claimed > sum(held.values()):  # otherwise a small file could claim a network of any size
        raise BadInput("its state_dict is broken: several of its tensors are the same values")


def refuse_broken_origin(origin: Any) -> None:
    """Validate the description of the training data, which determines the sizes of the network and of its inputs.

    Raises:
        BadInput: if it is broken or exceeds the limits.
    """
    if not isinstance(origin, dict):
        raise BadInput("its origin is broken")
    check_value(origin.get("problem"), _ORIGIN["problem"], "its origin.problem")
    kept, kind = _PROBLEMS[origin["problem"]], origin.get("presentation", PIXELS)
    check_value(kind, Name, "its origin.presentation")
    outputs = Annotated[int, AtLeast(1), AtMost(kept.most_outputs)]
    more = _ORIGIN_OF_ITEMS.get(kind, _ORIGIN_OF_ITEMS["others"]) if kept.of_items else kept.described_by
    for key, hint in {**_ORIGIN, "outputs": outputs, **more}.items():
        check_value(origin.get(key), hint, f"its origin.{key}")
    shape, constants = origin["input_shape"], [origin.get("mean"), origin.get("std")]
    if not kept.of_items:
        if len(shape) != 1:
            raise BadInput(f"its origin.input_shape={shape} is not that of vectors")
        if kept.of_worlds:
            _refuse_broken_worlds(origin)
        return
    if kind == PIXELS and (len(shape) != 3 or shape[0] not in (1, 3)):
        raise BadInput(f"its origin.input_shape={shape} is not that of images")
    if kind == TOKENS:
        if len(shape) != 2 or shape[0] != 2:
            raise BadInput(f"its origin.input_shape={shape} is not that of texts")
        _refuse_broken_tokenizer(origin.get("tokenizer"))
    if not 1 <= len(shape) <= _MOST_DIMENSIONS or math.prod(shape) > _MOST_NUMBERS:
        raise BadInput(f"its origin.input_shape={shape} is not that of any input")
    expected = {PIXELS: shape[0], FEATURES: math.prod(shape)}.get(kind)
    given = [len(values) for values in constants if values is not None]
    if len(given) == 1 or any(length != expected for length in given):
        raise BadInput("its origin.mean and origin.std do not belong to its origin.input_shape")


def _refuse_broken_worlds(origin: Mapping[str, Any]) -> None:
    """Validate what is observed and done in the worlds that a policy was trained in."""
    spaces = origin.get("spaces")
    if not isinstance(spaces, dict) or spaces.keys() != {"observations", "actions"}:
        raise BadInput("its origin.spaces is missing or broken")
    for name, space in spaces.items():
        _refuse_broken_space(space, f"its origin.spaces.{name}")
    seen, done = (_size_of(spaces[name]) for name in ("observations", "actions"))
    if not (seen == origin["input_shape"][0] or (origin["told"] and seen < origin["input_shape"][0])):
        raise BadInput("its origin.spaces.observations do not belong to its origin.input_shape")
    continuous = spaces["actions"]["kind"] == "box"
    expected = ("continuous", 2 * done) if continuous else ("discrete", done)
    if expected != (origin["actions"], origin["outputs"]):
        raise BadInput("its origin.spaces.actions do not belong to its origin.actions and origin.outputs")


def _refuse_broken_space(space: Any, key: str) -> None:
    if not isinstance(space, dict):
        raise BadInput(f"{key} is missing or broken")
    check_value(space.get("kind"), Literal["discrete", "box"], f"{key}.kind")
    if space["kind"] == "discrete":
        check_value(space.get("n"), _Length, f"{key}.n")
        check_value(space.get("start"), Annotated[int, AtLeast(-(2**53)), AtMost(2**53)], f"{key}.start")
        return
    check_value(space.get("shape"), list[_Length], f"{key}.shape")
    for bound in ("low", "high"):
        check_value(space.get(bound), list[float | None], f"{key}.{bound}")
        if len(space[bound]) != math.prod(space["shape"]):
            raise BadInput(f"{key}.{bound} does not belong to its shape")
    if len(space["shape"]) > _MOST_AXES:
        raise BadInput(f"{key}.shape={space['shape']} is not that of any space")
    both = zip(space["low"], space["high"], strict=True)
    if any(low is not None and high is not None and low > high for low, high in both):
        raise BadInput(f"{key}.low is above its high")


def _size_of(space: Mapping[str, Any]) -> int:
    return space["n"] if space["kind"] == "discrete" else len(space["low"])


def _refuse_broken_tokenizer(described: Any) -> None:
    """Validate how texts become tokens; whether a vocabulary can be read turns out when it is."""
    if not isinstance(described, dict):
        raise BadInput("its origin.tokenizer is missing or broken")
    kind = described.get("kind")
    check_value(kind, Literal["characters", "words", "json"], "its origin.tokenizer.kind")
    if kind == "words":
        check_value(described.get("buckets"), Buckets, "its origin.tokenizer.buckets")
    if kind == "json":
        content: Any = described.get("json")
        check_value(described.get("marks"), bool, "its origin.tokenizer.marks")
        if not isinstance(content, Outline) and not hasattr(content, "untyped_storage"):
            raise BadInput("its origin.tokenizer.json is missing or broken")
        dtype, size = str(content.dtype).removeprefix("torch."), tuple(content.shape)
        if dtype != "uint8" or len(size) != 1 or not 0 < size[0] <= _MOST_VOCABULARY:
            raise BadInput(f"its origin.tokenizer.json is {dtype} of the shape {list(size)}")


def refuse_unsafe(config: Any, where: str) -> Container:
    """Validate a configuration from a file: plain, bounded, resolved, and with each class where it belongs.

    Args:
        config: the configuration, which is updated if an older version wrote it.
        where: the name of its source, for messages.

    Returns:
        The same configuration.

    Raises:
        BadInput: if it is not valid.
    """
    if not isinstance(config, dict):
        raise BadInput(f"{where} is not a configuration")
    count = 0

    def refuse(value: Any, depth: int) -> None:
        nonlocal count
        count += 1
        if count > _MOST_VALUES or depth > _DEEPEST:
            raise BadInput(f"{where} has more values than any of metashot's")
        if isinstance(value, dict):
            for name, inner in value.items():
                if not isinstance(name, str) or (name != TARGET and not _KEY.fullmatch(name)):
                    raise BadInput(f"{where} has the key {str(name)[:60]!r}, which is not one of metashot's")
                refuse(inner, depth + 1)
        elif isinstance(value, list):
            for inner in value:
                refuse(inner, depth + 1)
        elif isinstance(value, str):
            if "${" in value or len(value) > _LONGEST:  # a stored configuration is resolved
                raise BadInput(f"{where} holds the text {value[:60]!r}, which metashot does not store")
        elif not _is_number_or_null(value):
            raise BadInput(f"{where} holds a {type(value).__name__}, which metashot does not store")

    refuse(config, 0)
    bring_up_to_date(config)
    try:
        refuse_misplaced({group: config[group] for group in GROUPS if group in config})
        refuse_misplaced({key: value for key, value in config.items() if key not in GROUPS})
        for group in GROUPS:  # a group without a class is refused later, where it is needed
            if isinstance(config.get(group), dict) and TARGET in config[group]:
                check_group(config[group], group)
        for key, hint in _OWN_KEYS.items():
            if key in config:
                check_value(config[key], hint, key)
        for group in ("algo", "data"):
            if isinstance(config.get(group), dict) and "name" in config[group]:
                check_value(config[group]["name"], Name, f"{group}.name")
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error
    return config


def _is_number_or_null(value: Any) -> bool:
    if value is None or type(value) is bool:
        return True
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) is float and not math.isinf(value)
