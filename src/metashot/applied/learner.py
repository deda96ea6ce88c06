"""Trained learners for use in Python: fit a few examples, predict queries, with the interface of scikit-learn.

learner = metashot.load("runs/.../checkpoints/best.ckpt")
learner.fit(images, labels).predict(queries)
"""

import inspect
import io
import math
import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.applied.images import Form, Ink, as_inputs, each_prepared, form_of, ink_of
from metashot.applied.labels import Labels, as_array, distinct, is_plain, labels_of
from metashot.applied.network import FORMAT, TrainedNetwork, fitted_content, made, read_network
from metashot.applied.photographs import PhotographsGiven, warning_of
from metashot.bad_input import BadInput, BadValue
from metashot.checkpoints.restoring import Origin
from metashot.checkpoints.stored import BEST, LONGEST_LABEL, MOST_CLASSES, can_be_stored, find_checkpoint
from metashot.configuration.plugins import enable
from metashot.data.presentation.features import Features
from metashot.episodes import Examples
from metashot.files.outputs import FITTED, holds_fit, named_file, refuse_to_replace, write_output
from metashot.files.paths import given_path
from metashot.problems import PROBLEMS
from metashot.sources.getting.files import printable
from metashot.sources.source import FEATURES, PIXELS
from metashot.version import __version__

Device = str | torch.device


class Unavailable(BadInput, AttributeError):
    """Raised for attributes that a learner lacks, or lacks until it is fitted; `hasattr` then returns False."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """The immutable result of a fit. Another fit replaces it, while calls that are still running keep using the old one."""

    network: TrainedNetwork
    examples: Examples  # x [N, ...] and y [N] or [N, outputs], as they are saved
    learned: Any
    classes: tuple[Hashable, ...]  # empty for regression
    form: Form | None  # for images only
    in_rows: bool  # whether predictions are [N, outputs] or, like the y that was given, [N]

    @classmethod
    def to(
        cls,
        network: TrainedNetwork,
        examples: Examples,
        classes: Sequence[Hashable],
        form: Form | None,
        in_rows: bool = True,
    ) -> "Fitted":
        with torch.inference_mode(False):  # tensors that are made in inference mode can never have gradients
            examples = Examples(examples.x.clone(), examples.y.clone())
            learned = network.learn(_as_inputs(examples.x, network, form), examples.y)
        return cls(network, examples, learned, tuple(classes), form, in_rows)

    def answers(self, x: Tensor) -> NDArray[np.float64]:
        """The outputs for queries x [N, ...]: [N, outputs]."""
        with torch.inference_mode(False):
            return self.network.answers(self.learned, _as_inputs(x, self.network, self.form))

    def __reduce__(self) -> Any:
        """The adapted state may be bound to a device, so unpickling adapts again."""
        return Fitted.to, (self.network, self.examples, self.classes, self.form, self.in_rows)


class _Loaded(NamedTuple):
    """A network and the parameters that it was loaded with."""

    checkpoint: Any
    device: Any
    network: TrainedNetwork


class Learner(ABC):
    """A trained few-shot learner: `fit` adapts it to a few examples, `predict` answers queries.

    `fit` may be called any number of times; the weights of the checkpoint never change. Learners are thread-safe, and each
    call uses the result of one fit from start to end.

    Where `transductive` is true, the queries of one call are answered together, like the queries of an episode: a
    prediction then depends on the other queries, and single queries are predicted worse than many.
    """

    # Class attributes, since scikit-learn expects a new learner to have no attributes but its parameters.
    _loaded: _Loaded | None = None
    _fitted: Fitted | None = None

    checkpoint: str | os.PathLike[str]
    device: Device

    @property
    def network(self) -> TrainedNetwork:
        """The trained network, which is read from the checkpoint on first use."""
        loaded = self._loaded
        if loaded is None or (loaded.checkpoint, loaded.device) != (self.checkpoint, self.device):
            loaded = self._loaded = _Loaded(self.checkpoint, self.device, read_network(self.checkpoint, self.device))
            if kind_of(loaded.network) is not type(self):
                raise BadValue(
                    f"checkpoint={self.checkpoint} has a {kind_of(loaded.network).__name__}, and this is a "
                    f"{type(self).__name__}: use metashot.load"
                )
        return loaded.network

    @property
    def algorithm(self) -> Algorithm:
        return self.network.algorithm

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the learner was trained with."""
        return self.network.config

    @property
    def origin(self) -> Origin:
        """The data that the learner was trained on."""
        return self.network.origin

    @property
    def name(self) -> str:
        """The name of the algorithm."""
        return self.network.name

    @property
    def transductive(self) -> bool:
        """Whether a prediction depends on the other queries of the same call."""
        return self.algorithm.transductive

    @property
    def is_fitted(self) -> bool:
        return self._fitted is not None

    @property
    def classes_(self) -> Labels:
        """The distinct labels that were given to `fit`, sorted where they can be compared."""
        raise self._has_no_classes("classes_")

    @abstractmethod
    def fit(self, images: Any, labels: Any) -> Self:
        """Adapt to a few labelled examples. An earlier fit is replaced.

        Args:
            images: The support examples.
            labels: One label or target per example.

        Returns:
            The learner itself, now fitted.

        Raises:
            BadInput: The examples or labels cannot be used.
        """

    @abstractmethod
    def predict(self, queries: Any) -> NDArray[Any]:
        """Predict the label or the target of each query.

        Args:
            queries: Given in the same way as the examples of `fit`.

        Returns:
            One prediction per query.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: The queries cannot be used, or the learner's outputs are not finite.
        """

    def predict_proba(self, queries: Any) -> NDArray[np.float64]:
        """The class probabilities of each query [N, classes], in the order of `classes_`."""
        raise self._has_no_classes("predict_proba")

    @abstractmethod
    def score(self, queries: Any, answers: Any) -> float:
        """Score the predictions of these queries; higher is better.

        Args:
            queries: Given in the same way as the examples of `fit`.
            answers: The true label or target of each query.

        Returns:
            The accuracy for classes, R2 for regression.
        """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The learner's parameters, as in scikit-learn."""
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self, **parameters: Any) -> Self:
        """Change some parameters for the next `fit`, which checks their values."""
        for name in parameters:
            if name not in self._parameters():
                allowed = ", ".join(self._parameters())
                raise BadValue(f"{name} is not a parameter of {type(self).__name__}; allowed: {allowed}")
        for name, value in parameters.items():
            setattr(self, name, value)
        return self

    def save(self, path: str | os.PathLike[str], key: str = "path") -> None:
        """Save the fitted learner to one file, which `metashot.load_fitted` reads.

        Args:
            path: The file to write, such as pets.fewshot.
            key: The argument or configuration key that error messages name.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: The labels cannot be saved, or the file cannot be written.
        """
        place = named_file(path, key, "pets.fewshot")
        fitted = self._state()
        refuse_to_replace(place, key, "fitted learner")
        content = {
            FITTED: FORMAT,
            "version": __version__,
            "config": fitted.network.config,
            "origin": fitted.network.origin,
            "weights": fitted.network.weights(),
            "x": fitted.examples.x,
            "y": fitted.examples.y,
            **self._saved(fitted),
        }
        file = io.BytesIO()
        torch.save(content, file)
        write_output(place, file.getvalue(), key, "fitted learner")

    @property
    def examples(self) -> Examples:
        """The examples that the learner was fitted to, as they are saved."""
        return self._state().examples

    def __repr__(self) -> str:
        """A short description, which does not read the checkpoint."""
        if self._loaded is None:
            return f"<{type(self).__name__}: checkpoint={self.checkpoint}, not fitted yet>"
        network = self._loaded.network
        fitted = "not fitted yet" if self._fitted is None else f"fitted to {self._fitted_to(self._fitted)}"
        return f"<{type(self).__name__}: {network.name} trained on {network.origin['name']}, {fitted}>"

    def __sklearn_clone__(self) -> Self:
        """An unfitted learner with the same parameters. It shares the network, which never changes."""
        other = type(self)(**self.get_params())
        other._loaded = self._loaded
        return other

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_fitted

    @abstractmethod
    def __sklearn_tags__(self) -> Any:
        """The tags that scikit-learn asks for."""

    @abstractmethod
    def restore(self, content: Mapping[str, Any]) -> None:
        """Restore the fit from the content of a fitted learner's file."""

    @abstractmethod
    def _saved(self, fitted: Fitted) -> dict[str, Any]:
        """The entries to save beside the weights and examples."""

    @abstractmethod
    def _fitted_to(self, fitted: Fitted) -> str: ...

    def _state(self) -> Fitted:
        """The current fit. Each call reads it once, since another thread may fit in the meantime."""
        fitted = self._fitted
        if fitted is None:
            raise _not_fitted()("this learner has not seen any examples yet: call fit(images, labels) first")
        return fitted

    def _has_no_classes(self, what: str) -> Unavailable:
        return Unavailable(
            f"{what} is for classes, and this {self.name} was trained on {self.origin['name']} to answer with numbers"
        )

    @classmethod
    def _parameters(cls) -> tuple[str, ...]:
        return tuple(inspect.signature(cls).parameters)


class Classifier(Learner):
    """A learner that predicts classes. Subclasses define how inputs become examples."""

    @property
    def classes_(self) -> Labels:
        return as_array(self._state().classes)

    def predict(self, queries: Any) -> Labels:
        """Predict the label of each query; see `Learner.predict`."""
        fitted = self._state()
        labels: Labels = as_array(fitted.classes)[_probabilities(fitted, self._prepared(queries, fitted)).argmax(1)]
        return labels

    def predict_proba(self, queries: Any) -> NDArray[np.float64]:
        """The class probabilities of each query, the softmax of the logits.

        Args:
            queries: Given in the same way as the examples of `fit`.

        Returns:
            Probabilities [N, classes], in the order of `classes_`.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: The queries cannot be used, or the logits are not finite.
        """
        fitted = self._state()
        return _probabilities(fitted, self._prepared(queries, fitted))

    def score(self, queries: Any, answers: Any) -> float:
        """The accuracy: the share of queries whose predicted label is the given one."""
        labels, predicted = labels_of(answers), self.predict(queries).tolist()
        _refuse_other_length(len(predicted), self._noun, len(labels), "labels")
        return sum(bool(a == b) for a, b in zip(predicted, labels, strict=True)) / len(labels)

    _noun: str  # what messages call the inputs, in the plural

    @abstractmethod
    def _prepared(self, queries: Any, fitted: Fitted) -> NDArray[Any]:
        """The queries in the form in which examples are saved: [N, ...]."""

    def _fit(self, items: NDArray[Any], labels: Sequence[Hashable], form: Form | None) -> Self:
        network = self.network
        _refuse_other_length(len(items), self._noun, len(labels), "labels")
        classes = distinct(labels)
        if len(classes) < 2:
            raise BadValue(f"all labels are {classes[0]!r}; examples of two classes at least are needed")
        most = network.algorithm.fixed_ways
        if most is not None and len(classes) > most:
            raise BadValue(
                f"{len(classes)} classes were given, but the head of this {network.name} is for at most {most}: give fewer, "
                f"train with data.ways={len(classes)}, or use an algorithm without a head, such as protonet"
            )
        places = {label: place for place, label in enumerate(classes)}
        y = np.array([places[label] for label in labels], dtype=np.int64)
        order = np.argsort(y, kind="stable")  # sorted by label, as in an episode
        examples = Examples(torch.from_numpy(items[order]), torch.from_numpy(y[order]))
        self._fitted = Fitted.to(network, examples, classes, form)
        return self

    def _saved(self, fitted: Fitted) -> dict[str, Any]:
        odd = next((label for label in fitted.classes if not is_plain(label)), None)
        if odd is not None:
            raise BadInput(
                f"the label {odd!r} is of type {type(odd).__name__} and cannot be saved; allowed: text, numbers, true or "
                "false, None, and tuples of these"
            )
        if not can_be_stored(fitted.classes):
            raise BadInput(
                f"these labels cannot be saved; allowed: at most {MOST_CLASSES:,} classes, and UTF-8 text of at most "
                f"{LONGEST_LABEL:,} characters, in tuples of at most {LONGEST_LABEL:,} that are not deep in one another"
            )
        return {"classes": list(fitted.classes)}

    def _fitted_to(self, fitted: Fitted) -> str:
        return f"{len(fitted.classes)} classes"


class ClassLearner(Classifier):
    """A classifier of images. Images are converted to the shape and, for drawings, to the polarity of its training data."""

    _noun = "images"

    def __init__(self, checkpoint: str | os.PathLike[str], device: Device = "auto", ink: Ink = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.ink = ink

    @property
    def form(self) -> Form:
        """The form that images are converted to."""
        return form_of(self.config, self.origin, self.ink)

    def fit(self, images: Any, labels: Any) -> Self:
        """Adapt to labelled images. An earlier fit is replaced.

        A learner whose head has a fixed number of classes accepts up to that number; with fewer, the unused outputs are
        ignored and the probabilities of the given classes add up to one.

        Args:
            images: A list of paths, Pillow images, arrays or tensors, or one array or tensor of images. Arrays are
                [images, height, width] or [images, height, width, channels], tensors [images, height, width] or
                [images, channels, height, width]; values are uint8, bool, or floats between 0 and 1.
            labels: One hashable label per image, from at least two classes.

        Returns:
            The learner itself, now fitted.

        Raises:
            BadInput: An image cannot be read, or the images or labels cannot be used.
        """
        pixels = _pixels_of(images, self.form, self.network)
        return self.fit_pixels(pixels, labels_of(labels))

    def fit_pixels(self, pixels: NDArray[np.uint8], labels: Sequence[Hashable]) -> Self:
        """Like `fit`, for images that are already in the learner's form: [images, channels, height, width]."""
        return self._fit(pixels, labels, self.form)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Like `predict_proba`, for images that are already in the learner's form."""
        return _probabilities(self._state(), pixels)

    def restore(self, content: Mapping[str, Any]) -> None:
        examples = Examples(content["x"], content["y"])
        self._fitted = Fitted.to(self.network, examples, content["classes"], self.form)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        images = InputTags(two_d_array=False, three_d_array=True, string=True)
        target = TargetTags(required=True)
        return Tags("classifier", target, classifier_tags=ClassifierTags(), input_tags=images)

    def _prepared(self, queries: Any, fitted: Fitted) -> NDArray[np.uint8]:
        assert fitted.form is not None
        return _pixels_of(queries, fitted.form, fitted.network, above=4)

    def _saved(self, fitted: Fitted) -> dict[str, Any]:
        assert fitted.form is not None
        return super()._saved(fitted) | {"ink": ink_of(fitted.form)}


class VectorLearner(Classifier):
    """A classifier of vectors [N, features], which are standardised like its training data."""

    _noun = "rows of x"

    def __init__(self, checkpoint: str | os.PathLike[str], device: Device = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = device

    def fit(self, x: Any, y: Any) -> Self:
        """Adapt to labelled vectors. An earlier fit is replaced.

        Args:
            x: The vectors [N, features].
            y: One hashable label per vector, from at least two classes.

        Returns:
            The learner itself, now fitted.

        Raises:
            BadInput: The vectors or labels cannot be used.
        """
        return self._fit(_features_of(x, self.network), labels_of(y), None)

    def restore(self, content: Mapping[str, Any]) -> None:
        self._fitted = Fitted.to(self.network, Examples(content["x"], content["y"]), content["classes"], None)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        classes = ClassifierTags(poor_score=True)  # it predicts poorly for vectors unlike its training data
        return Tags("classifier", TargetTags(required=True), classifier_tags=classes, input_tags=InputTags())

    @property
    def n_features_in_(self) -> int:
        """The number of features of the vectors that it was fitted to."""
        return math.prod(self._state().examples.x.shape[1:])

    def _prepared(self, queries: Any, fitted: Fitted) -> NDArray[np.float32]:
        return _features_of(queries, fitted.network)


class NumberLearner(Learner):
    """A learner for regression, from inputs [N, inputs] to targets [N, outputs]; a single input or output may be [N]."""

    def __init__(self, checkpoint: str | os.PathLike[str], device: Device = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = device

    def fit(self, x: Any, y: Any) -> Self:
        """Adapt to some points of a function. An earlier fit is replaced.

        Args:
            x: The inputs [N, inputs], or [N] for a single input.
            y: The targets [N, outputs], or [N] for a single output; predictions have the same number of dimensions.

        Returns:
            The learner itself, now fitted.

        Raises:
            BadInput: The inputs or targets cannot be used.
        """
        network = self.network
        points, values = _inputs_of(x, network), _outputs_of(y, network)
        _refuse_other_length(len(points), "rows of x", len(values), "rows of y")
        examples = Examples(torch.from_numpy(points), torch.from_numpy(values))
        in_rows = (y if isinstance(y, Tensor) else np.asarray(y)).ndim > 1
        self._fitted = Fitted.to(network, examples, (), None, in_rows)
        return self

    def predict(self, x: Any) -> NDArray[np.float64]:
        """Predict the targets of inputs [N, inputs]: [N, outputs], or [N] where `fit` was given y as [N]."""
        fitted = self._state()
        answers = fitted.answers(torch.from_numpy(_inputs_of(x, fitted.network)))
        return answers if fitted.in_rows else answers[:, 0]

    def score(self, x: Any, y: Any) -> float:
        """R2 as in scikit-learn: 1 minus the squared error divided by the variance, averaged over outputs."""
        values = _outputs_of(y, self.network)
        predicted = self.predict(x).reshape(-1, values.shape[1])
        _refuse_other_length(len(predicted), "rows of x", len(values), "rows of y")
        if len(values) < 2:
            raise BadValue("one row was given, but R2 needs two at least")
        missed, spread = ((predicted - values) ** 2).sum(0), ((values - values.mean(0)) ** 2).sum(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.where(spread > 0, 1 - missed / spread, np.where(missed > 0, 0.0, 1.0)).mean())

    def restore(self, content: Mapping[str, Any]) -> None:
        in_rows = content.get("in_rows", True)  # missing from files of earlier versions
        self._fitted = Fitted.to(self.network, Examples(content["x"], content["y"]), (), None, in_rows)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        one = int(self.origin["input_shape"][0]) == 1
        target, inputs = TargetTags(required=True), InputTags(one_d_array=one, two_d_array=True)
        functions = RegressorTags(poor_score=True)  # it predicts poorly for functions unlike its training data
        return Tags("regressor", target, regressor_tags=functions, input_tags=inputs)

    @property
    def n_features_in_(self) -> int:
        """The number of inputs of the function that it was fitted to."""
        return int(self._state().examples.x.shape[1])

    @property
    def predict_proba(self) -> Any:  # type: ignore[override]
        raise self._has_no_classes("predict_proba")

    def _saved(self, fitted: Fitted) -> dict[str, Any]:
        return {"in_rows": fitted.in_rows}

    def _fitted_to(self, fitted: Fitted) -> str:
        return f"{len(fitted.examples.x)} points"


def load(
    checkpoint: str | os.PathLike[str], device: Device = "auto", ink: Ink = "auto", plugins: Sequence[str] = ()
) -> Learner:
    """Load a trained learner, to be fitted to a few examples.

    Args:
        checkpoint: A checkpoint, or the folder of a run, whose best checkpoint is then loaded.
        device: "auto" (the GPU where there is one), "cpu", "cuda", "cuda:1" or "mps".
        ink: Only for learners of drawings with bright ink on a dark background, such as glyphs and omniglot: "auto" inverts
            each image whose border is bright, "dark" inverts all images, "bright" none.
        plugins: Packages with classes that the checkpoint names. A checkpoint never imports them by itself.

    Returns:
        A `ClassLearner` for images, a `VectorLearner` for vectors, or a `NumberLearner` for regression.

    Raises:
        BadInput: The checkpoint cannot be read, or an argument cannot be used.
    """
    enable(plugins)
    path = find_checkpoint(checkpoint, "checkpoint", BEST)
    if holds_fit(path):
        raise BadInput(f"{printable(path)} is a fitted learner and not a checkpoint: read it with metashot.load_fitted")
    return learner_of(read_network(checkpoint, device), checkpoint, device, ink)


def load_fitted(path: str | os.PathLike[str], device: Device = "auto", plugins: Sequence[str] = ()) -> Learner:
    """Load a fitted learner that `Learner.save` wrote. Its predictions are the same as before it was saved.

    Args:
        path: The file.
        device: As in `load`.
        plugins: As in `load`.

    Returns:
        The fitted learner, ready to predict.

    Raises:
        BadInput: The file is not a fitted learner, or cannot be read.
    """
    enable(plugins)
    file = given_path(path, "path")
    content = fitted_content(file)
    network = made(content["config"], content["origin"], content["weights"], file, device)
    return restored(network, content, path, device)


def restored(network: TrainedNetwork, content: Mapping[str, Any], path: str | os.PathLike[str], device: Device) -> Learner:
    """The learner with this network, fitted as stored in its file."""
    learner = learner_of(network, path, device, content.get("ink", "auto"))
    learner.restore(content)
    return learner


def learner_of(network: TrainedNetwork, checkpoint: str | os.PathLike[str], device: Device, ink: Ink) -> Learner:
    """An unfitted learner with a network that was read from this checkpoint."""
    learner: Learner
    kind = kind_of(network)
    if kind is not ClassLearner:
        if ink != "auto":
            raise BadValue(f"ink={ink} is for learners of drawings, and this one was not trained on images: leave ink out")
        learner = NumberLearner(checkpoint, device) if kind is NumberLearner else VectorLearner(checkpoint, device)
    else:
        form_of(network.config, network.origin, ink)  # for its check of `ink`
        learner = ClassLearner(checkpoint, device, ink)
    learner._loaded = _Loaded(checkpoint, device, network)
    return learner


# Keyed by the problem that a network was trained on, then by the kind of its items.
_LEARNERS: Mapping[str, Mapping[str, type[Learner]]] = {
    "Classification": {PIXELS: ClassLearner, FEATURES: VectorLearner},
    "Regression": {PIXELS: NumberLearner},
}


def kind_of(network: TrainedNetwork) -> type[Learner]:
    """The learner class for the problem and the kind of items that a network was trained on."""
    problem, presentation = network.origin["problem"], network.origin.get("presentation", PIXELS)
    if problem not in _LEARNERS:
        raise BadInput(
            f"{printable(network.path)} was trained on a {PROBLEMS[problem].kind} problem, of which nothing can be fitted "
            "yet; evaluate.py scores it"
        )
    if presentation not in _LEARNERS[problem]:
        raise BadInput(
            f"{printable(network.path)} was trained on {presentation}, which cannot be given in Python yet: score it with "
            "evaluate.py"
        )
    return _LEARNERS[problem][presentation]


def _as_inputs(x: Tensor, network: TrainedNetwork, form: Form | None) -> Tensor:
    """Examples or queries [N, ...] as inputs of the algorithm, on its device."""
    if form is None and network.origin.get("presentation") == FEATURES:
        features = Features(standardise=False)
        features.expect(tuple(network.origin["input_shape"]))
        features.look_like(network.origin, network.origin["name"])
        return features.inputs(x.to(network.device)).to(network.dtype)
    if form is None:
        return x.to(network.device, network.dtype)
    return as_inputs(x.numpy(), form, network.device, network.dtype)


def _pixels_of(images: Any, form: Form, network: TrainedNetwork, above: int = 3) -> NDArray[np.uint8]:
    """Convert images to the learner's form, and warn of photographs given to a learner of drawings.

    `above` is the warning's stack level: the number of calls between the user's code and the warning.
    """
    found = each_prepared(images, form)
    photographs = sum(image.is_photographic for image in found)
    if message := warning_of(photographs, len(found), network.origin["name"]):
        warnings.warn(message, PhotographsGiven, stacklevel=above)
    return np.stack([image.pixels for image in found])


def _features_of(x: Any, network: TrainedNetwork) -> NDArray[np.float32]:
    """Vectors in the form in which a vector learner's examples are saved: [N, *input_shape]."""
    shape = tuple(network.origin["input_shape"])
    rows = _numbers(x, "x", math.prod(shape))
    with np.errstate(over="ignore"):
        found = rows.astype(np.float32).reshape(-1, *shape)
    if not np.isfinite(found).all():
        raise BadValue("x has values that are too large for 32 bits")
    return found


def _probabilities(fitted: Fitted, items: NDArray[Any]) -> NDArray[np.float64]:
    answers = torch.from_numpy(fitted.answers(torch.from_numpy(items)))
    return np.asarray(answers[:, : len(fitted.classes)].softmax(-1).numpy())


def _not_fitted() -> type[Unavailable]:
    """The exception for an unfitted learner; it is also scikit-learn's `NotFittedError` where scikit-learn is imported."""
    exceptions = sys.modules.get("sklearn.exceptions")
    return Unavailable if exceptions is None else _with(exceptions.NotFittedError)


@cache
def _with(other: type[Exception]) -> type[Unavailable]:
    return type("NotFitted", (Unavailable, other), {})


def _refuse_other_length(number: int, what: str, other: int, of_what: str) -> None:
    if number != other:
        raise BadValue(f"{number} {what} and {other} {of_what} were given; allowed: as many of one as of the other")


def _inputs_of(x: Any, network: TrainedNetwork) -> NDArray[np.float64]:
    return _numbers(x, "x", int(network.origin["input_shape"][0]))


def _outputs_of(y: Any, network: TrainedNetwork) -> NDArray[np.float64]:
    return _numbers(y, "y", int(network.origin["outputs"]))


def _numbers(given: Any, name: str, width: int) -> NDArray[np.float64]:
    """Check that an argument is a finite array [N, width], and return it in 64 bits."""
    if given is None:
        raise BadValue(f"a learner of numbers requires {name} to be passed, but the target {name} is None")
    given = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    allowed = f"allowed: an array [N, {width}]"
    if hasattr(given, "toarray"):
        raise BadValue(f"{name} is a sparse matrix; {allowed}, as {name}.toarray() is")
    try:
        found = np.asarray(given)
        values = None if found.dtype.kind == "c" else found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise BadValue(f"{name} cannot be read as numbers ({error}); {allowed}") from error
    if values is None:
        raise BadValue(f"{name} has complex numbers (Complex data not supported); {allowed} of real ones")
    if values.ndim == 1 and width == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != width or len(values) == 0:
        raise BadValue(f"{name} has the shape {values.shape}; allowed: [N, {width}]{' or [N]' if width == 1 else ''}")
    if not np.isfinite(values).all():
        raise BadValue(
            f"{name} has non-finite values, NaN or inf (the first in row {int((~np.isfinite(values)).any(1).argmax())})"
        )
    return values
