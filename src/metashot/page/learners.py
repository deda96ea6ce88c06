"""The learners that the page can use: that of the command line, and those of fitted learners' files that it was given."""

import base64
import contextlib
import hashlib
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metashot.applied.class_learner import ClassLearner
from metashot.applied.export import export
from metashot.applied.images import Form, Prepared, form_of, prepared_file
from metashot.applied.loading import learner_of
from metashot.applied.network import fitted_content, made
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.files.paths import printable
from metashot.page.facts import OWN, facts_of, named, refuse_many, refuse_others
from metashot.page.messages import GivenClass, told_label
from metashot.page.tabs import Fit, Images
from metashot.sources.images.decoding import claimed_pixels

_LARGE = 25_000_000  # pixels of an image that is decoded while no other such one is, since it takes a gigabyte
_MOST_LOADED = 4
_BUILT = ("backbone", "algo")  # the groups of a configuration that decide what a network answers


class NoLearner(Exception):
    """A learner that was loaded is not kept any longer."""


@dataclass(frozen=True)
class Served:
    """A learner that is not fitted, and what the page says of it."""

    name: str  # its id
    learner: ClassLearner
    form: Form
    facts: dict[str, Any]


class Learners:
    """All learners of a server.

    Args:
        own: That of the command line, fitted or not.
        checkpoint: What the user gave for it.
        images: Where pixels and features are kept.
        forget: Called with the id of a learner that is no longer kept.
    """

    def __init__(self, own: ClassLearner, checkpoint: str, images: Images, forget: Callable[[str], None]) -> None:
        self._images = images
        self._forget = forget
        self._checkpoint = checkpoint
        self._own = own
        self._served = _served(OWN, own, checkpoint)
        self._loaded: OrderedDict[str, Served] = OrderedDict()
        self._lock = threading.Lock()
        self._large = threading.Lock()

    def get(self, name: str) -> Served:
        """The learner with this id.

        Raises:
            NoLearner: It is not kept.
        """
        if name == OWN:
            return self._served
        with self._lock:
            if name not in self._loaded:
                raise NoLearner
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def facts(self, name: str) -> dict[str, Any]:
        """What the page says of a learner, with the classes of the own one if it is fitted."""
        served = self.get(name)
        fitted = self._own if name == OWN and self._own.is_fitted else None
        classes = [] if fitted is None else self._classes(fitted.examples, fitted.classes_.tolist(), self._checkpoint)
        return served.facts | {"classes": classes}

    def load(self, path: Path, name: str, checkpoint: str) -> dict[str, Any]:
        """Read a fitted learner's file that somebody gave to the page, and keep its learner.

        Args:
            path: The file.
            name: How the user calls it, for messages.
            checkpoint: The same as it is, for the Python lines.

        Returns:
            What the page says of the learner, with the classes that it was fitted to.

        Raises:
            BadInput: It cannot be read, or is no learner that predicts classes of images.
        """
        try:
            return self._load(path, checkpoint)
        except BadInput as error:
            raise BadInput(str(error).replace(printable(path), name)) from error

    def _load(self, path: Path, checkpoint: str) -> dict[str, Any]:
        content = fitted_content(path)
        examples = Examples(content["x"], content["y"])
        refuse_many(examples, len(content["classes"]), printable(path))
        own = self._served.learner
        same = self._is_own(content)
        network = own.network if same else made(content["config"], content["origin"], content["weights"], path, own.device)
        # It is not fitted yet: the page asks for that, perhaps after it has changed its classes.
        learner = learner_of(network, self._checkpoint if same else checkpoint, own.device, content.get("ink", "auto"))
        refuse_others(learner, printable(path))
        assert isinstance(learner, ClassLearner)
        classes = self._classes(examples, content["classes"], printable(path))
        if same:
            return self._served.facts | {"classes": classes}
        served = _served(_digest(path), learner, checkpoint)
        with self._lock:
            self._loaded[served.name] = self._loaded.get(served.name, served)
            self._loaded.move_to_end(served.name)
            gone = [self._loaded.popitem(last=False)[0] for _ in range(len(self._loaded) - _MOST_LOADED)]
        for one in gone:
            self._images.forget_features(one)
            self._forget(one)
        return served.facts | {"classes": classes}

    def _is_own(self, content: dict[str, Any]) -> bool:
        """Whether a file has the network of the command line's learner, so that examples of both can be mixed."""
        network, ink = self._own.network, self._own.ink
        built = ({key: config.get(key) for key in _BUILT} for config in (content["config"], network.config))
        if not _equal(content["origin"], network.origin) or not _equal(*built):
            return False
        form = form_of(content["config"], content["origin"], content.get("ink", "auto"))
        if form != form_of(network.config, network.origin, ink):
            return False
        return _equal(content["weights"], network.weights())

    def _classes(self, examples: Examples, labels: Sequence[Hashable], given: str) -> list[dict[str, Any]]:
        """The classes of a fitted learner with their examples, which are kept."""
        x, y = examples.x.numpy(), examples.y.numpy()
        found = []
        for place, (label, name) in enumerate(zip(labels, named(labels, given), strict=True)):
            items = [_item(self._images.add(pixels), pixels) for pixels in x[y == place]]
            found.append({"name": name, **told_label(label, name), "items": items})
        return found

    def prepare(self, name: str, content: bytes, filename: str) -> dict[str, Any]:
        """Convert an image file to the learner's form, and keep it.

        Raises:
            Unreadable: It cannot be decoded.
        """
        form = self.get(name).form
        with self._large if claimed_pixels(content) > _LARGE else contextlib.nullcontext():
            found = prepared_file(content, filename, form)
        return _item(self._images.add(found.pixels), found.pixels, found)

    def keep(self, name: str, contents: list[bytes]) -> list[str]:
        """Keep pixels that the page sends again, and return their ids."""
        shape = self.get(name).form.shape
        expected = int(np.prod(shape))
        for content in contents:
            if len(content) != expected:
                raise BadInput(f"an image has {len(content):,} bytes; allowed: {expected:,}, the pixels of {shape}")
        return [self._images.add(np.frombuffer(content, np.uint8).reshape(shape)) for content in contents]

    def fit(self, name: str, classes: list[GivenClass]) -> Fit:
        """Fit a clone of a learner to classes of images that are kept.

        Raises:
            Missing: Some images are not kept.
            BadInput: It cannot learn these classes.
        """
        served = self.get(name)
        ids = [item for one in classes for item in one.items]
        labels: list[Hashable] = [one.label for one in classes for _ in one.items]
        pixels = self._pixels(served, ids)
        learner = _unfitted(served.learner)
        learner.fit_pixels(pixels, labels, self._features(served, ids, pixels))
        return Fit(name, learner, tuple(one.label for one in classes))

    def answer(self, fit: Fit, ids: list[str], unknown: float | None, steps: bool) -> list[dict[str, Any]]:
        """Answer queries by a fit.

        Raises:
            Missing: Some images are not kept.
            BadInput: The learner cannot answer them.
        """
        served = self.get(fit.learner)
        pixels = self._pixels(served, ids)
        found = fit.fitted.answers(pixels, self._features(served, ids, pixels), unknown, steps)
        places = {label: place for place, label in enumerate(fit.labels)}
        as_sent = [
            places[label] for label in fit.fitted.classes_.tolist()
        ]  # the page's place of each of the learner's classes
        order = np.argsort(as_sent)
        answers: list[dict[str, Any]] = []
        for place in range(len(ids)):
            after = None
            if found.after_steps is not None:
                after = [
                    {"steps": count, "probabilities": one[order].tolist()}
                    for count, one in zip(fit.fitted.network.watched_steps, found.after_steps[place], strict=True)
                ]
            near = None
            if found.near is not None:
                near = [
                    {"class": as_sent[one.label], "example": one.example, "similarity": one.similarity}
                    for one in found.near[place]
                ]
            answers.append(
                {
                    "probabilities": found.probabilities[place][order].tolist(),
                    "unknown": None if found.unknown is None else bool(found.unknown[place]),
                    "near": near,
                    "steps": after,
                }
            )
        return answers

    def _pixels(self, served: Served, ids: list[str]) -> NDArray[np.uint8]:
        found = self._images.pixels(ids)
        if any(one.shape != served.form.shape for one in found):
            raise BadInput("some images were prepared for another learner: give them again")
        return np.stack(found)

    def _features(self, served: Served, ids: list[str], pixels: NDArray[np.uint8]) -> torch.Tensor | None:
        """The features [images, features] of images, of which only those that are new are embedded."""
        if not served.learner.network.embeds_independently:
            return None
        found = dict(zip(ids, self._images.features(ids, served.name), strict=True))
        new = {name: place for place, name in enumerate(ids) if found[name] is None}
        if new:
            embedded = served.learner.embedded(pixels[list(new.values())])
            assert embedded is not None
            found.update(zip(new, embedded, strict=True))
            self._images.keep_features(new, served.name, embedded)
        return torch.stack([one for name in ids if (one := found[name]) is not None])


def saved(fit: Fit, folder: Path) -> bytes:
    """The fitted learner's file of a fit, which is written in a private folder for a moment.

    Raises:
        BadInput: Its labels cannot be saved.
    """
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own, "learner.fewshot")
        fit.fitted.save(path)
        return path.read_bytes()


def graph_of(fit: Fit, folder: Path) -> bytes:
    """The ONNX graph of a fit, like `saved`.

    Raises:
        BadInput: The learner cannot be exported.
    """
    with tempfile.TemporaryDirectory(dir=folder) as own:
        return export(fit.fitted, Path(own, "learner.onnx")).read_bytes()


def _served(name: str, learner: ClassLearner, checkpoint: str) -> Served:
    return Served(name, _unfitted(learner), learner.form, facts_of(name, learner, checkpoint))


def _unfitted(learner: ClassLearner) -> ClassLearner:
    """A learner that shares the network."""
    return learner.__sklearn_clone__()


def _item(name: str, pixels: NDArray[np.uint8], found: Prepared | None = None) -> dict[str, Any]:
    return {
        "id": name,
        "pixels": base64.b64encode(pixels.tobytes()).decode(),
        "remark": None if found is None else found.remark,
        "inverted": found is not None and found.was_inverted,
        "photographic": found is not None and found.is_photographic,
    }


def _equal(one: Any, other: Any) -> bool:
    """Whether nested containers of plain values and tensors are equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return not isinstance(one, torch.Tensor) and not isinstance(other, torch.Tensor) and bool(one == other)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
