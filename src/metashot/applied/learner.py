"""A trained learner in the hands of a user: fitted to a few examples, it answers queries, in the manner of scikit-learn.

learner = metashot.load("runs/.../checkpoints/best.ckpt")
learner.fit(images, labels).predict(queries)
"""

import io
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot import __version__, configuration
from metashot.algorithms.base import Algorithm
from metashot.applied.images import Form, Ink, all_prepared, as_inputs, form_of
from metashot.applied.writing import named_file, write_whole
from metashot.bad_input import BadInput
from metashot.checkpoints import read_checkpoint
from metashot.data.files import shown
from metashot.episodes import Examples
from metashot.paths import given_path
from metashot.problems import Regression
from metashot.stored import BEST, OURS, of_run
from metashot.trained import Origin, origin_of, trained_algorithm

_AT_ONCE = 256  # queries, where they cannot see each other
_FITTED, _FORMAT = "metashot_fitted", 1  # what tells a fitted learner's file from others
_BUILT = ("backbone", "engine", "algo")  # the groups of a configuration that make a learner
_COMPILED = ("compile", "cuda_graph")
_PLAIN = (str, int, float, bool, type(None))  # of which labels can be saved

Labels = NDArray[Any]


class Unavailable(BadInput, AttributeError):
    """What a learner does not have before it is fitted, or never has; `hasattr` then says no."""


class Learner(ABC):
    """Trained before, it learns a task from a few examples in `fit`, as often as it is given one, and keeps the weights of
    its checkpoint as they are.

    Where `transductive` is true, the queries of one call are answered together, as those of an episode: an answer then
    depends on what is asked with it, and single queries are answered worse than many.
    """

    def __init__(self, algorithm: Algorithm, config: dict[str, Any], origin: Origin, device: torch.device) -> None:
        self.algorithm = algorithm
        self.config = config  # how the learner was made
        self.origin = origin  # the data that it was trained on
        self.device = device
        self._dtype = next(algorithm.parameters()).dtype
        self._examples: Examples | None = None  # x [N, ...] and y [N] or [N, outputs] as they are saved, once fitted
        self._learned: Any = None

    @property
    def name(self) -> str:
        """That of the algorithm."""
        return str(self.config["algo"]["name"])

    @property
    def transductive(self) -> bool:
        return self.algorithm.transductive

    @property
    def is_fitted(self) -> bool:
        return self._examples is not None

    @property
    def classes_(self) -> Labels:
        """The labels that were given to `fit`, sorted where they can be."""
        raise self._has_no_classes("classes_")

    @abstractmethod
    def fit(self, images: Any, labels: Any) -> Self:
        """Learn from a few examples; what was learned before is forgotten."""

    @abstractmethod
    def predict(self, queries: Any) -> NDArray[Any]:
        """The answer to each query."""

    def predict_proba(self, queries: Any) -> NDArray[np.float64]:
        """The probability of each class, in the order of `classes_`, for each query."""
        raise self._has_no_classes("predict_proba")

    @abstractmethod
    def score(self, queries: Any, answers: Any) -> float:
        """How good the answers to these queries are."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep the fitted learner in one file, which `metashot.load_fitted` reads."""
        examples = self.examples
        content = {
            _FITTED: _FORMAT,
            "version": __version__,
            "config": self.config,
            "origin": self.origin,
            "weights": {name: value.cpu() for name, value in self.algorithm.state_dict().items()},
            "x": examples.x,
            "y": examples.y,
            **self._saved(),
        }
        file = io.BytesIO()
        torch.save(content, file)
        write_whole(named_file(path, "path", "pets.fewshot"), file.getvalue(), "path")

    @property
    def examples(self) -> Examples:
        """Those that it was fitted to, as they are saved."""
        if self._examples is None:
            raise Unavailable("this learner has not seen any examples yet: call fit(images, labels) first")
        return self._examples

    def __repr__(self) -> str:
        fitted = f"fitted to {self._fitted_to()}" if self.is_fitted else "not fitted yet"
        return f"<{type(self).__name__}: {self.name} trained on {self.origin['name']}, {fitted}>"

    @abstractmethod
    def _saved(self) -> dict[str, Any]:
        """What has to be saved beside weights and examples."""

    @abstractmethod
    def _fitted_to(self) -> str: ...

    @abstractmethod
    def _inputs(self, x: Tensor) -> Tensor:
        """Examples or queries [N, ...] as the algorithm takes them, on its device."""

    def _learn(self, examples: Examples) -> None:
        with _own_modes():
            examples = Examples(
                examples.x.clone(), examples.y.clone()
            )  # those made in inference mode stay without gradients
            x, y = self._inputs(examples.x), examples.y.to(self.device)
            learned = self.algorithm.learn(Examples(x[None], (y.to(self._dtype) if y.is_floating_point() else y)[None]))
        self._examples, self._learned = examples, learned

    def _answers(self, x: Tensor) -> NDArray[np.float64]:
        """[N, outputs]"""
        size = len(x) if self.transductive else _AT_ONCE
        with _own_modes():
            parts = [
                self.algorithm.answers_from(self._learned, self._inputs(part)[None])[0] for part in torch.split(x, size)
            ]
        answers = torch.cat(parts).detach().cpu().double().numpy()
        if np.isnan(answers).any():
            raise BadInput(
                f"this {self.name} gives answers that are not numbers: the training of its checkpoint or its fit to these "
                "examples has diverged; take another checkpoint or other examples"
            )
        return np.asarray(answers)

    def _has_no_classes(self, what: str) -> Unavailable:
        return Unavailable(
            f"{what} is for classes, and this {self.name} was trained on {self.origin['name']} to answer with numbers"
        )


class ClassLearner(Learner):
    """Tells classes apart. Images are brought to the shape and, of drawings, to the polarity that it was trained on."""

    def __init__(self, algorithm: Algorithm, config: dict[str, Any], origin: Origin, device: torch.device, ink: Ink) -> None:
        super().__init__(algorithm, config, origin, device)
        self.ink = ink
        self.form: Form = form_of(config, origin, ink)
        self._classes: list[Hashable] = []

    @property
    def classes_(self) -> Labels:
        _ = self.examples
        return as_array(self._classes)

    def fit(self, images: Any, labels: Any) -> Self:
        """Learn classes from images (a list of paths, images of Pillow, arrays or tensors; or one array or tensor with all
        of them) and their labels, which may be anything that is hashable.

        A learner with a head for a fixed number of classes takes as many or fewer; with fewer, the outputs that are left
        over do not count and the probabilities of the given classes add up to one.
        """
        return self.fit_pixels(all_prepared(images, self.form), labels_of(labels))

    def fit_pixels(self, pixels: NDArray[np.uint8], labels: Sequence[Hashable]) -> Self:
        """As `fit`, of images that have the learner's form already: [images, channels, height, width]."""
        _refuse_other_length(len(pixels), "images", len(labels), "labels")
        classes = distinct(labels)
        if len(classes) < 2:
            raise BadInput(f"all labels are {classes[0]!r}; examples of two classes at least are needed")
        most = self.algorithm.fixed_ways
        if most is not None and len(classes) > most:
            raise BadInput(
                f"{len(classes)} classes were given, but the head of this {self.name} is for at most {most}: give fewer, "
                f"train with data.ways={len(classes)}, or use an algorithm without a head, such as protonet"
            )
        places = {label: place for place, label in enumerate(classes)}
        y = np.array([places[label] for label in labels], dtype=np.int64)
        order = np.argsort(y, kind="stable")  # as in an episode
        self._learn(Examples(torch.from_numpy(pixels[order]), torch.from_numpy(y[order])))
        self._classes = classes
        return self

    def predict(self, queries: Any) -> Labels:
        """The label of each image."""
        labels: Labels = self.classes_[self.predict_proba(queries).argmax(1)]
        return labels

    def predict_proba(self, queries: Any) -> NDArray[np.float64]:
        """The probability of each class, in the order of `classes_`: the softmax of the learner's scores."""
        _ = self.examples
        return self.probabilities(all_prepared(queries, self.form))

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """As `predict_proba`, of images that have the learner's form already."""
        answers = torch.from_numpy(self._answers(torch.from_numpy(pixels)))
        return np.asarray(answers[:, : len(self._classes)].softmax(-1).numpy())

    def score(self, queries: Any, answers: Any) -> float:
        """The accuracy: which share of the images has these labels."""
        labels, predicted = labels_of(answers), self.predict(queries).tolist()
        _refuse_other_length(len(predicted), "images", len(labels), "labels")
        return sum(bool(a == b) for a, b in zip(predicted, labels, strict=True)) / len(labels)

    def _saved(self) -> dict[str, Any]:
        odd = next((label for label in self._classes if not _is_plain(label)), None)
        if odd is not None:
            raise BadInput(
                f"the label {odd!r} is of type {type(odd).__name__} and cannot be saved; allowed: text, numbers, true or "
                "false, None, and tuples of these"
            )
        return {"classes": self._classes, "ink": self.ink}

    def _fitted_to(self) -> str:
        return f"{len(self._classes)} classes"

    def _inputs(self, x: Tensor) -> Tensor:
        return as_inputs(x.numpy(), self.form, self.device, self._dtype)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Be fitted as a learner was that was saved."""
        self._learn(Examples(content["x"], content["y"]))
        self._classes = list(content["classes"])


class NumberLearner(Learner):
    """Answers inputs [N, inputs] with numbers [N, outputs]; both may be [N] where there is one of them."""

    def fit(self, images: Any, labels: Any) -> Self:
        """Learn a function from some of its points: inputs, and what belongs to them."""
        inputs, outputs = int(self.origin["input_shape"][0]), int(self.origin["outputs"])
        x, y = _numbers(images, "x", inputs), _numbers(labels, "y", outputs)
        _refuse_other_length(len(x), "rows of x", len(y), "rows of y")
        self._learn(Examples(torch.from_numpy(x), torch.from_numpy(y)))
        return self

    def predict(self, queries: Any) -> NDArray[np.float64]:
        """[N, outputs]"""
        _ = self.examples
        return self._answers(torch.from_numpy(_numbers(queries, "x", int(self.origin["input_shape"][0]))))

    def score(self, queries: Any, answers: Any) -> float:
        """R2, as scikit-learn has it: one less the squared error as a share of the variance, the mean over outputs."""
        predicted, y = self.predict(queries), _numbers(answers, "y", int(self.origin["outputs"]))
        _refuse_other_length(len(predicted), "rows of x", len(y), "rows of y")
        if len(y) < 2:
            raise BadInput("one row was given, but R2 needs two at least")
        missed, spread = ((predicted - y) ** 2).sum(0), ((y - y.mean(0)) ** 2).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.where(spread > 0, 1 - missed / spread, np.where(missed > 0, 0.0, 1.0)).mean())

    def _saved(self) -> dict[str, Any]:
        return {}

    def _fitted_to(self) -> str:
        return f"{len(self.examples.x)} points"

    def _inputs(self, x: Tensor) -> Tensor:
        return x.to(self.device, self._dtype)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Be fitted as a learner was that was saved."""
        self._learn(Examples(content["x"], content["y"]))


def load(checkpoint: str | os.PathLike[str], device: str | torch.device = "auto", ink: Ink = "auto") -> Learner:
    """The learner in a checkpoint, or in the folder of a run (its best checkpoint).

    `ink` matters to learners of drawings with bright ink on dark ground, such as glyphs and omniglot: with "auto" each image
    whose border is bright is inverted, with "dark" all are, with "bright" none.
    """
    path = of_run(os.fspath(checkpoint), "checkpoint", BEST)
    if path.suffix == ".fewshot":
        raise BadInput(f"{shown(path)} is a fitted learner and not a checkpoint: read it with metashot.load_fitted")
    stored = read_checkpoint(path)
    ours = stored[OURS]
    config = ours["config"]
    if isinstance(config.get("engine"), dict):  # to compile takes minutes, and there is one task
        config = config | {"engine": {key: key not in _COMPILED and value for key, value in config["engine"].items()}}
    return made(config, origin_of(stored, path), stored["state_dict"], path, device, ink)


def load_fitted(path: str | os.PathLike[str], device: str | torch.device = "auto") -> Learner:
    """A learner as it was saved, which gives the answers that it gave then."""
    file = given_path(path, "path")
    content = _fitted_content(file)
    learner = made(content["config"], content["origin"], content["weights"], file, device, content.get("ink", "auto"))
    assert isinstance(learner, ClassLearner | NumberLearner)
    learner.restore(content)
    return learner


def made(config: dict[str, Any], origin: Origin, weights: dict[str, Tensor], path: Path, device: Any, ink: Ink) -> Learner:
    """The learner that a configuration describes, with these weights, which come from the file `path`."""
    place = _device(device)
    for group in (*_BUILT, "data"):
        if not isinstance(config.get(group), dict):
            raise BadInput(f"{shown(path)}: its configuration has no {group}; it was not written by metashot")
    configuration.check({"seed": 0, **{group: config[group] for group in _BUILT}})
    with _own_modes(), torch.random.fork_rng(devices=[]):
        double = any(value.dtype == torch.float64 for value in weights.values())
        algorithm = trained_algorithm(config, origin, weights, path, double)
        algorithm.to(place).eval()
    if isinstance(algorithm.problem, Regression):
        return NumberLearner(algorithm, config, origin, place)
    return ClassLearner(algorithm, config, origin, place, ink)


def labels_of(labels: Any) -> list[Hashable]:
    """One label for each image, as plain values of Python where they were numpy's or torch's."""
    if isinstance(labels, str | bytes | Mapping | Set) or not isinstance(labels, Iterable):
        raise BadInput(f"labels={labels!r} cannot be used; allowed: a list with one label for each image")
    if isinstance(labels, np.ndarray | Tensor):
        if labels.ndim != 1:
            raise BadInput(
                f"labels of shape {tuple(labels.shape)} cannot be used; allowed: one label for each image, [images]"
            )
        labels = labels.tolist()
    plain = [label.item() if isinstance(label, np.generic) or _is_number(label) else label for label in labels]
    for place, label in enumerate(plain):
        try:
            hash(label)
        except TypeError as error:
            raise BadInput(
                f"label {place} is {type(label).__name__}, which is not hashable; allowed: text, numbers, tuples"
            ) from error
        if label != label:
            raise BadInput(f"label {place} is not a number (NaN): leave such images out or give them a label")
    return plain


def distinct(labels: Iterable[Hashable]) -> list[Hashable]:
    """Each label once, sorted where that is possible, else in the order in which they come up."""
    found = list(dict.fromkeys(labels))
    if any(isinstance(label, Set) for label in found):  # of which "less" is "a part of"
        return found
    try:
        return sorted(found)  # type: ignore[type-var]
    except TypeError:
        return found


def as_array(labels: Sequence[Hashable]) -> Labels:
    """Numbers or texts as numpy has them, anything else as objects."""
    kinds = {type(label) for label in labels}
    if len(kinds) == 1 and kinds <= {str, float, bool}:
        return np.array(labels)
    if kinds == {int} and all(-(2**63) <= label < 2**63 for label in labels):  # type: ignore[operator]
        return np.array(labels, dtype=np.int64)
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


@contextmanager
def _own_modes() -> Iterator[None]:
    """Engines take gradients where they need them, which they cannot where a user has switched to inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _device(given: Any) -> torch.device:
    if isinstance(given, str) and given == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(given)
        if device.type in ("cpu", "cuda", "mps"):
            torch.zeros(1, device=device)
            return device
        why = "it is of another kind"
    except (RuntimeError, AssertionError, TypeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
    raise BadInput(
        f"device={given} cannot be used ({why}); allowed: auto, cpu, cuda, cuda:1 or mps, where this machine has it"
    )


def _fitted_content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(f"there is no fitted learner {shown(path)}")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # its checksums show a single flipped bit, which torch would read over
        if broken:
            raise BadInput(
                f"the fitted learner {shown(path)} is damaged: {broken} inside it does not match its checksum; save it again"
            )
        content = torch.load(path, map_location="cpu", weights_only=True)
    except BadInput:
        raise
    except Exception as error:  # a damaged file can make zipfile, zlib and torch raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"{shown(path)} is damaged or not a fitted learner ({reason}); allowed: a file that learner.save wrote"
        ) from error
    if isinstance(content, dict) and OURS in content:
        raise BadInput(f"{shown(path)} is a checkpoint: read it with metashot.load, and fit it")
    if not isinstance(content, dict) or _FITTED not in content:
        raise BadInput(f"{shown(path)} is not a fitted learner; allowed: a file that learner.save wrote")
    if content[_FITTED] != _FORMAT:
        raise BadInput(
            f"{shown(path)} was written by metashot {content.get('version')} in a form that this one, {__version__}, cannot "
            "read: save it again with this one"
        )
    return content


def _is_plain(label: Any) -> bool:
    return all(map(_is_plain, label)) if type(label) is tuple else type(label) in _PLAIN


def _is_number(label: Any) -> bool:
    """Whether it is a tensor that holds one number."""
    return isinstance(label, Tensor) and label.ndim == 0


def _refuse_other_length(number: int, what: str, other: int, of_what: str) -> None:
    if number != other:
        raise BadInput(f"{number} {what} and {other} {of_what} were given; allowed: as many of one as of the other")


def _numbers(given: Any, name: str, width: int) -> NDArray[np.float64]:
    """[N, width]"""
    try:
        values = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} cannot be read as numbers ({error}); allowed: an array [N, {width}]") from error
    if values.ndim == 1 and width == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != width or len(values) == 0:
        raise BadInput(f"{name} has the shape {values.shape}; allowed: [N, {width}]{' or [N]' if width == 1 else ''}")
    if not np.isfinite(values).all():
        raise BadInput(
            f"{name} has values that are no finite numbers (the first in row {int((~np.isfinite(values)).any(1).argmax())})"
        )
    return values
