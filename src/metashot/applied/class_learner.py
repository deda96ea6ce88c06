"""Learners that predict classes: of images, and of vectors."""

import math
import os
import warnings
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from metashot.applied.answering import Answers, nearest_of, softmax_of
from metashot.applied.arrays import features_of, number_of, refuse_other_length
from metashot.applied.estimating import Estimate
from metashot.applied.images import Form, Ink, as_inputs, each_prepared, form_of, ink_of
from metashot.applied.labelling import NotBetterThanRandom, Suggestions
from metashot.applied.labels import UNKNOWN, Labels, as_array, distinct, is_plain, labels_of
from metashot.applied.learner import Device, Fitted, Items, Learner
from metashot.applied.network import Inputs, TrainedNetwork
from metashot.applied.photographs import PhotographsGiven, warning_of
from metashot.bad_input import BadInput, BadValue, shown
from metashot.checkpoints.stored import LONGEST_LABEL, MOST_CLASSES, can_be_stored
from metashot.episodes import Examples

_MOST_GENERATED = 10_000  # examples of a class
_USUAL_RATE = 0.05  # of false alarms


class EqualExamples(UserWarning):
    """Some examples are equal, so that an estimate of the accuracy may be too high."""


def warning_of_equal(examples: Examples) -> str | None:
    """What equal examples mean for an estimate; None where all differ."""
    rows = [row.tobytes() for row in examples.x.numpy()]
    if (count := len(rows) - len(set(rows))) == 0:
        return None
    equal = "1 example is a copy of another" if count == 1 else f"{count:,} examples are copies of others"
    return f"{equal}, and an example that is left out is answered by its copy: the estimate may be too high; give each once"


class Classifier(Learner):
    """A learner that predicts classes. Subclasses define how inputs become examples."""

    @property
    def classes_(self) -> Labels:
        return as_array(self._state().classes)

    def predict(self, queries: Any, unknown: bool | float = False, together: bool = False) -> Labels:
        """Predict the label of each query.

        Args:
            queries: Given in the same way as the examples of `fit`.
            unknown: Whether a query that looks like none of the classes is answered with "unknown": the share of the queries
                of known classes for which this may happen, such as 0.05; True stands for 0.05.
            together: Whether queries are judged together, which finds more of the unknown ones where a call has many
                queries. An answer then depends on the other queries.

        Returns:
            One label per query; "unknown" is one of them where `unknown` is given.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: The queries cannot be used, the logits are not finite, or the learner cannot tell what is unknown.
        """
        fitted, rate = self._state(), _rate_of(unknown)
        if not isinstance(together, bool):
            raise BadValue(f"together={together!r} cannot be used; allowed: True or False")
        if together and rate is None:
            raise BadValue("together=True is for queries that may be unknown: give unknown=0.05, too, or leave it out")
        items = self._prepared(queries, fitted)
        self._warn_of_one(fitted.network, len(items))
        labels: Labels = as_array(fitted.classes)[self._probabilities(fitted, items).argmax(1)]
        if rate is None:
            return labels
        if UNKNOWN in fitted.classes:
            raise BadValue(f"unknown={unknown} cannot be used: a class is called {UNKNOWN!r} itself; give it another name")
        answers = labels.astype(object)
        answers[self._unknown(fitted, items, rate, together)] = UNKNOWN
        return answers

    def estimate(self, within: float | None = None) -> Estimate:
        """Estimate the accuracy on further queries of the same classes, from the examples of `fit` alone.

        It is the accuracy on queries with equally many of each class, however many examples `fit` was given of each.

        Args:
            within: Seconds after which to give up; None for never.

        Returns:
            The accuracy, with an interval that holds the true one in about 90 % of tasks, where the classes are about as
            hard to tell apart as those that the learner was validated on. An `EqualExamples` warning is given where examples
            are equal.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: A class has only one example, the learner cannot estimate, or it takes longer than `within`.
        """
        fitted = self._state()
        found = fitted.estimate(within)
        if message := warning_of_equal(fitted.examples):
            warnings.warn(message, EqualExamples, stacklevel=2)
        return found

    def next_to_label(self, images: Any, n: int = 5) -> Suggestions:
        """Choose the unlabelled images whose labels would help most.

        Args:
            images: Unlabelled images, given like the examples of `fit`. Some may belong to none of the classes.
            n: The number of images to choose.

        Returns:
            The `indices` of the images, the best first, and the `gain` in accuracy over as many random images, with its 95 %
            interval. It is simulated with validation classes. A `NotBetterThanRandom` warning is given where the interval
            is not above zero.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: The images or their number cannot be used, or the learner cannot compare them.
        """
        fitted = self._state()
        items = self._prepared(images, fitted)
        found = fitted.next_to_label(items, number_of(n, len(items), f"the number of {self._noun}, "))
        if not found.better_than_random:
            warnings.warn(str(found), NotBetterThanRandom, stacklevel=2)
        return found

    def generate(self, n: int = 10) -> tuple[NDArray[np.float64], Labels]:
        """Make further examples of each class from the examples of `fit`, by a learner that was trained to.

        Args:
            n: The number of examples of each class. Fewer are the first of more.

        Returns:
            The examples, class by class, and their labels. Drawings are [images, height, width], between 0 (paper) and 1
            (ink), in the size of the training data, and [images, height, width, 3] in colour; features are [N, features],
            as far apart as the normalised ones of the learner.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: The number cannot be used, or the learner makes no examples.
        """
        fitted, count = self._state(), number_of(n, _MOST_GENERATED)
        made = fitted.generate(count)
        if made.ndim == 4:  # as `fit` takes images
            made = made[:, 0] if made.shape[1] == 1 else np.moveaxis(made, 1, -1)
        return made, np.repeat(as_array(fitted.classes), count)

    def probabilities(self, items: Items) -> NDArray[np.float64]:
        """Like `predict_proba`, for items in the form in which examples are saved, or texts that are read already."""
        return self._probabilities(self._state(), items)

    def unknown(self, items: Items, rate: float, together: bool) -> NDArray[np.bool_]:
        """Whether items, given as in `probabilities`, belong to none of the classes; see `predict`."""
        return self._unknown(self._state(), items, rate, together)

    def _unknown(self, fitted: Fitted, items: Items, rate: float, together: bool) -> NDArray[np.bool_]:
        return fitted.are_unknown(items, rate, together)

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
        items = self._prepared(queries, fitted)
        self._warn_of_one(fitted.network, len(items))
        return self._probabilities(fitted, items)

    def score(self, queries: Any, answers: Any) -> float:
        """The accuracy: the share of queries whose predicted label is the given one."""
        labels, predicted = labels_of(answers, self._one), self.predict(queries).tolist()
        refuse_other_length(len(predicted), self._noun, len(labels), "labels")
        return sum(bool(a == b) for a, b in zip(predicted, labels, strict=True)) / len(labels)

    @staticmethod
    def _probabilities(fitted: Fitted, items: Items) -> NDArray[np.float64]:
        return softmax_of(fitted.answers(items)[:, : len(fitted.classes)])

    _noun: str  # what messages call the inputs, in the plural

    @abstractmethod
    def _prepared(self, queries: Any, fitted: Fitted) -> Items:
        """The queries in the form in which examples are saved, [N, ...], or read."""

    def _fit(
        self, items: NDArray[Any], labels: Sequence[Hashable], form: Form | None, features: torch.Tensor | None = None
    ) -> Self:
        self._fitted = self._adapted(items, labels, form, features)
        return self

    def _adapted(
        self, items: NDArray[Any], labels: Sequence[Hashable], form: Form | None, features: torch.Tensor | None = None
    ) -> Fitted:
        network = self.network
        refuse_other_length(len(items), self._noun, len(labels), "labels")
        classes = distinct(labels)
        if len(classes) < 2:
            raise BadValue(f"all labels are {classes[0]!r}; at least two classes are needed")
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
        return Fitted.to(network, examples, classes, form, features=None if features is None else features[order])

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

    def fit_pixels(
        self, pixels: NDArray[np.uint8], labels: Sequence[Hashable], features: torch.Tensor | None = None
    ) -> Self:
        """Like `fit`, for images that are already in the learner's form.

        Args:
            pixels: The images [images, channels, height, width].
            labels: As in `fit`.
            features: What `embedded` returned for these images, so that they are not embedded again.
        """
        return self._fit(pixels, labels, self.form, features)

    def embedded(self, pixels: NDArray[np.uint8]) -> torch.Tensor | None:
        """The features [images, features] of images in the learner's form, on the CPU.

        They can be kept for other fits and answers of the same network. None where the features of an image depend on other
        images or change with each fit.
        """
        network = self.network
        if not network.embeds_independently:
            return None
        form = self.form
        with torch.inference_mode(False):
            inputs = Inputs(len(pixels), lambda part: as_inputs(pixels[part], form, network.device, network.dtype))
            return network.embedded(inputs).cpu()

    def answers(
        self,
        pixels: NDArray[np.uint8],
        features: torch.Tensor | None = None,
        rate: float | None = None,
        steps: bool = False,
        nearest: int = 5,
    ) -> Answers:
        """The class probabilities of queries, with the examples that they are near to.

        Args:
            pixels: The queries in the learner's form [N, channels, height, width].
            features: What `embedded` returned for them, so that they are not embedded again.
            rate: Where it is asked which queries belong to none of the classes, each by itself: the rate of false alarms.
            steps: Whether the answers after each inner step are wanted, of a learner that takes some.
            nearest: The number of examples that are named for each query.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: The logits are not finite, or the learner cannot tell what is unknown.
        """
        fitted = self._state()
        found = fitted.grounds(pixels, features, rate, steps)
        count = len(fitted.classes)
        return Answers(
            softmax_of(found.outputs[..., :count]),
            found.unknown,
            None if found.similarities is None else nearest_of(found.similarities, fitted.examples.y.numpy(), nearest),
            None if found.after_steps is None else softmax_of(found.after_steps[..., :count]),
        )

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
        return self._fit(features_of(x, self.network), labels_of(y), None)

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
        return features_of(queries, fitted.network)


def _pixels_of(images: Any, form: Form, network: TrainedNetwork, above: int = 3) -> NDArray[np.uint8]:
    """Convert images to the learner's form, and warn of photographs given to a learner of drawings.

    `above` is the warning's stack level: the number of calls between the user's code and the warning.
    """
    found = each_prepared(images, form)
    photographs = sum(image.is_photographic for image in found)
    if message := warning_of(photographs, len(found), network.origin["name"]):
        warnings.warn(message, PhotographsGiven, stacklevel=above)
    return np.stack([image.pixels for image in found])


def _rate_of(unknown: bool | float) -> float | None:
    """The rate of false alarms that `unknown` asks for; None if queries are not to be called unknown."""
    if unknown is True or unknown is False:
        return _USUAL_RATE if unknown else None
    if not isinstance(unknown, int | float | np.floating) or not 0 < unknown < 1:
        raise BadValue(
            f"unknown={shown(unknown)} cannot be used; allowed: a rate of false alarms such as 0.05, True for "
            f"{_USUAL_RATE}, or False"
        )
    return float(unknown)
