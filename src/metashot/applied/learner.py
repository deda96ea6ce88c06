"""Trained learners for use in Python: fit a few examples, predict queries, with the interface of scikit-learn.

learner = metashot.load("runs/.../checkpoints/best.ckpt")
learner.fit(images, labels).predict(queries)
"""

import inspect
import io
import os
import sys
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metashot.algorithms.base import Algorithm
from metashot.applied.estimating import Deadline, Estimate
from metashot.applied.images import Form, as_inputs
from metashot.applied.labelling import Suggestions
from metashot.applied.labels import Labels
from metashot.applied.network import FORMAT, Inputs, Support, TrainedNetwork, fitted_content, read_network
from metashot.applied.texts import ReadTexts
from metashot.bad_input import BadInput, BadValue
from metashot.checkpoints.restoring import Origin
from metashot.checkpoints.stored import items_of
from metashot.data.presentation.features import Features
from metashot.episodes import Examples
from metashot.files.outputs import FITTED, named_file, refuse_to_replace, write_output
from metashot.problems import PROBLEMS
from metashot.sources.getting.files import printable
from metashot.sources.source import FEATURES, PIXELS, TOKENS
from metashot.version import __version__

Device = str | torch.device
Items = NDArray[Any] | ReadTexts  # queries: in the form in which examples are saved, or as the tokens of texts


class Unavailable(BadInput, AttributeError):
    """Raised for attributes that a learner lacks, or lacks until it is fitted; `hasattr` then returns False."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """The immutable result of a fit. Another fit replaces it, while calls that are still running keep using the old one."""

    network: TrainedNetwork
    examples: Examples  # x [N, ...] and y [N] or [N, outputs], as they are saved
    support: Support  # the same, as the network takes them
    learned: Any
    classes: tuple[Hashable, ...]  # empty for regression
    form: Form | None  # for images only
    in_rows: bool  # whether predictions are [N, outputs] or, like the y that was given, [N]
    cut: int  # of texts: how many of those that are kept are longer than the learner reads

    @classmethod
    def to(
        cls,
        network: TrainedNetwork,
        examples: Examples,
        classes: Sequence[Hashable],
        form: Form | None,
        in_rows: bool = True,
        features: Tensor | None = None,
    ) -> "Fitted":
        with torch.inference_mode(False):  # tensors that are made in inference mode can never have gradients
            examples = Examples(examples.x.clone(), examples.y.clone())
            items: Items = examples.x.numpy()
            cut = 0
            if items_of(network.origin) == TOKENS:
                items = network.reader.read_kept(examples.x.numpy())
                cut = items.cut
            known = None if features is None else features.to(network.device)
            support = Support(partial(_as_inputs, items[:], network, form), examples.y, known)
            learned = network.learn(support, classes)
        return cls(network, examples, support, learned, tuple(classes), form, in_rows, cut)

    def answers(self, items: Items) -> NDArray[np.float64]:
        """The outputs for N queries: [N, outputs]."""
        with torch.inference_mode(False):
            return self.network.answers(self.learned, self._inputs(items))

    def are_unknown(self, items: Items, rate: float, together: bool) -> NDArray[np.bool_]:
        """Whether N queries belong to none of the classes: [N]."""
        with torch.inference_mode(False):
            return self.network.are_unknown(self.support, self._inputs(items), rate, together)

    def grounds(self, items: Items, features: Tensor | None, rate: float | None, steps: bool) -> "Grounds":
        """The outputs for N queries with what they rest on; see `ClassLearner.answers`."""
        network, support = self.network, self.support
        with torch.inference_mode(False):
            inputs = self._inputs(items)
            queries: Inputs | Tensor = inputs
            if network.embeds_independently:
                queries = network.embedded(inputs) if features is None else features.to(network.device)
            outputs = (
                network.answers_to_features(self.learned, queries)
                if isinstance(queries, Tensor)
                else network.answers(self.learned, inputs)
            )
            return Grounds(
                outputs,
                None if rate is None else network.are_unknown(support, queries, rate, together=False),
                network.similarities(self.learned, support, queries) if network.has_similarities else None,
                network.answers_after_steps(support, inputs) if steps and network.watched_steps else None,
            )

    def estimate(self, within: float | None) -> Estimate:
        deadline = Deadline(within)
        names = [printable(str(name)) for name in self.classes]
        with torch.inference_mode(False):
            return self.network.estimate(self.support, names, deadline)

    def next_to_label(self, items: Items, n: int) -> Suggestions:
        """Choose n of N unlabelled items to label next."""
        with torch.inference_mode(False):
            return self.network.next_to_label(self.support, self._inputs(items), n)

    def generate(self, n: int) -> NDArray[np.float64]:
        """Make n examples of each class, class by class."""
        with torch.inference_mode(False):
            return self.network.generate(self.support, n)

    def _inputs(self, items: Items) -> Inputs:
        return Inputs(len(items), lambda part: _as_inputs(items[part], self.network, self.form))

    def __reduce__(self) -> Any:
        """The adapted state may be bound to a device, so unpickling adapts again."""
        return Fitted.to, (self.network, self.examples, self.classes, self.form, self.in_rows)


class Grounds(NamedTuple):
    """The outputs for N queries, and what they rest on."""

    outputs: NDArray[np.float64]  # [N, outputs]
    unknown: NDArray[np.bool_] | None  # [N], whether a query belongs to none of the classes
    similarities: NDArray[np.float64] | None  # [N, S], the cosine of its features and of those of each example
    after_steps: NDArray[np.float64] | None  # [N, steps, outputs], after each of the `watched_steps`


class AskedAlone(UserWarning):
    """One query was asked alone of a learner that answers queries together."""


def warning_of_one(network: TrainedNetwork, queries: int) -> str | None:
    """What the answer to a query that is asked alone is worth, where it depends on the other queries; None elsewhere."""
    worth = network.algorithm.worth_alone
    if queries != 1 or worth is None:
        return None
    return f"one query was asked alone, and this {network.name} answers queries together. As for its answer, {worth}"


class Loaded(NamedTuple):
    """A network and the parameters that it was loaded with."""

    checkpoint: Any
    device: Any
    network: TrainedNetwork


class Learner(ABC):
    """A trained few-shot learner: `fit` adapts it to a few examples, `predict` answers queries.

    `fit` may be called any number of times; the weights of the checkpoint never change. Learners are thread-safe, and each
    call uses the result of one fit from start to end.

    Where `transductive` is true, the queries of one call are answered together, like the queries of an episode: a
    prediction then depends on the other queries, and a query that is asked alone raises a warning (`AskedAlone`), which says
    what its prediction is worth.
    """

    # Class attributes, since scikit-learn expects a new learner to have no attributes but its parameters.
    _loaded: Loaded | None = None
    _fitted: Fitted | None = None

    checkpoint: str | os.PathLike[str]
    device: Device
    _one = "image"  # what messages call an example

    @property
    def network(self) -> TrainedNetwork:
        """The trained network, which is read from the checkpoint on first use."""
        loaded = self._loaded
        if loaded is None or (loaded.checkpoint, loaded.device) != (self.checkpoint, self.device):
            loaded = self._loaded = Loaded(self.checkpoint, self.device, read_network(self.checkpoint, self.device))
            if (kind := kind_of(loaded.network)) != type(self).__name__:
                raise BadValue(
                    f"checkpoint={self.checkpoint} has a {kind}, and this is a {type(self).__name__}: use metashot.load"
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

    def estimate(self, within: float | None = None) -> Estimate:
        """Estimate the accuracy on further queries, from the examples of `fit` alone."""
        raise self._has_no_classes("estimate")

    def next_to_label(self, images: Any, n: int = 5) -> Suggestions:
        """Choose the unlabelled images whose labels would help most."""
        raise self._has_no_classes("next_to_label")

    def generate(self, n: int = 10) -> tuple[NDArray[np.float64], Labels]:
        """Make further examples of each class."""
        raise self._has_no_classes("generate")

    def explain(self, query: Any, words: int | None = None, of: Any = None) -> Any:
        """Say which words of a text decide how it is answered."""
        raise Unavailable(
            f"explain() is for learners of texts, and this {self.name} was trained on {self.origin['name']}, which has none"
        )

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
        _refuse_unreadable(file.getvalue())
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
        return f"<{type(self).__name__}: {network.name} trained on {network.trained_on}, {fitted}>"

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

    def _warn_of_one(self, network: TrainedNetwork, queries: int) -> None:
        """To be called by a method that the user calls."""
        if message := warning_of_one(network, queries):
            warnings.warn(message, AskedAlone, stacklevel=3)

    def _state(self) -> Fitted:
        """The current fit. Each call reads it once, since another thread may fit in the meantime."""
        fitted = self._fitted
        if fitted is None:
            raise _not_fitted()(f"this learner has not seen any examples yet: call fit({self._one}s, labels) first")
        return fitted

    def _has_no_classes(self, what: str) -> Unavailable:
        return Unavailable(
            f"{what} is for classes, and this {self.name} was trained on {self.origin['name']} to answer with numbers"
        )

    @classmethod
    def _parameters(cls) -> tuple[str, ...]:
        return tuple(inspect.signature(cls).parameters)


# Keyed by the problem that a network was trained on, then by the kind of its items.
_KINDS: Mapping[str, Mapping[str, str]] = {
    "Classification": {PIXELS: "ClassLearner", FEATURES: "VectorLearner", TOKENS: "TextLearner"},
    "Regression": {PIXELS: "NumberLearner"},
    "Returns": {PIXELS: "PolicyLearner"},
}


def kind_of(network: TrainedNetwork) -> str:
    """The name of the learner class for the problem and the kind of items that a network was trained on."""
    problem, presentation = network.origin["problem"], network.origin.get("presentation", PIXELS)
    if problem not in _KINDS:
        raise BadInput(
            f"{printable(network.path)} was trained on a {PROBLEMS[problem].kind} problem, for which learners cannot be "
            "fitted yet; evaluate.py scores it"
        )
    if presentation not in _KINDS[problem]:
        raise BadInput(
            f"{printable(network.path)} was trained on {presentation}, which cannot be given in Python yet: score it with "
            "evaluate.py"
        )
    return _KINDS[problem][presentation]


def _as_inputs(x: NDArray[Any], network: TrainedNetwork, form: Form | None) -> Tensor:
    """Examples or queries [N, ...] as inputs of the algorithm, on its device; of texts, their tokens."""
    if form is None and items_of(network.origin) == TOKENS:
        return network.reader.inputs(x, network.device)
    if form is None and network.origin.get("presentation") == FEATURES:
        features = Features(standardise=False)
        features.expect(tuple(network.origin["input_shape"]))
        features.look_like(network.origin, network.origin["name"])
        return features.inputs(torch.from_numpy(x).to(network.device)).to(network.dtype)
    if form is None:
        return torch.from_numpy(x).to(network.device, network.dtype)
    return as_inputs(x, form, network.device, network.dtype)


def _not_fitted() -> type[Unavailable]:
    """The exception for an unfitted learner; it is also scikit-learn's `NotFittedError` where scikit-learn is imported."""
    exceptions = sys.modules.get("sklearn.exceptions")
    return Unavailable if exceptions is None else _with(exceptions.NotFittedError)


@cache
def _with(other: type[Exception]) -> type[Unavailable]:
    return type("NotFitted", (Unavailable, other), {})


def _refuse_unreadable(content: bytes) -> None:
    """Refuse to save what would not be read again, such as labels beyond the limits of files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "saved.fewshot")
        path.write_bytes(content)
        try:
            fitted_content(path)
        except BadInput as error:
            reason = str(error).partition(" cannot be used: ")[2].partition("; allowed")[0] or str(error)
            raise BadInput(
                f"this learner cannot be saved, since it could not be read again: {reason}: give other labels"
            ) from error
