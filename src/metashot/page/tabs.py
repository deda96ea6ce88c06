"""What the server keeps in memory, within bounds: pixels with their features, and the fits of each open tab.

What was used longest ago goes first. The page keeps its examples itself and sends again what is gone.
"""

import hashlib
import itertools
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metashot.applied.class_learner import ClassLearner
from metashot.page.messages import Label

MOST_BYTES = 2**30  # of pixels and features, and again of fits
MOST_FITS = 32
_FITS_OF_A_TAB = 2  # the current one, and the one before, of which answers may still be asked
_OVERHEAD = 500  # bytes of an entry beside its arrays


class Missing(Exception):
    """Pixels that are not kept, or no longer."""

    def __init__(self, items: list[str]) -> None:
        super().__init__(f"{len(items)} images are missing")
        self.items = items


class NoFit(Exception):
    """A fit that is not kept, or no longer."""


@dataclass
class _Item:
    pixels: NDArray[np.uint8]  # [channels, height, width]
    features: dict[str, Tensor] = field(default_factory=dict)  # [features], by the learner that embedded it

    @property
    def bytes(self) -> int:
        return _OVERHEAD + self.pixels.nbytes + sum(one.nbytes for one in self.features.values())


def id_of(pixels: NDArray[np.uint8]) -> str:
    """A digest of an image and its shape."""
    head = ",".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(head + b":" + pixels.tobytes()).hexdigest()[:32]


class Images:
    """Images in learners' forms with their features, which all tabs share."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._bytes = 0
        self._items: OrderedDict[str, _Item] = OrderedDict()  # the one that was used last is the last one
        self._lock = threading.Lock()

    def add(self, pixels: NDArray[np.uint8]) -> str:
        """Keep an image, and return its id."""
        name = id_of(pixels)
        with self._lock:
            if name in self._items:
                self._items.move_to_end(name)
            else:
                self._items[name] = item = _Item(pixels.copy())
                self._bytes += item.bytes
                self._forget()
        return name

    def pixels(self, names: Iterable[str]) -> list[NDArray[np.uint8]]:
        """The images with these ids.

        Raises:
            Missing: Some are not kept.
        """
        wanted = list(names)
        with self._lock:
            missing = [name for name in dict.fromkeys(wanted) if name not in self._items]
            if missing:
                raise Missing(missing)
            for name in wanted:
                self._items.move_to_end(name)
            return [self._items[name].pixels for name in wanted]

    def features(self, names: Iterable[str], learner: str) -> list[Tensor | None]:
        """The features of images by a learner; None where they are not kept."""
        with self._lock:
            return [None if (item := self._items.get(name)) is None else item.features.get(learner) for name in names]

    def keep_features(self, names: Iterable[str], learner: str, features: Iterable[Tensor]) -> None:
        """Keep the features of images that are kept."""
        with self._lock:
            for name, one in zip(names, features, strict=True):
                if (item := self._items.get(name)) is not None and learner not in item.features:
                    item.features[learner] = one.clone()  # a view would keep the features of all the others, too
                    self._bytes += one.nbytes
            self._forget()

    def forget_features(self, learner: str) -> None:
        """Forget the features of a learner that is no longer kept."""
        with self._lock:
            for item in self._items.values():
                if (found := item.features.pop(learner, None)) is not None:
                    self._bytes -= found.nbytes

    def _forget(self) -> None:
        while self._bytes > self._most and len(self._items) > 1:
            _, item = self._items.popitem(last=False)
            self._bytes -= item.bytes


@dataclass(frozen=True)
class Fit:
    """A learner that was fitted for a tab, with the classes in the order in which the page sent them."""

    learner: str  # its id
    fitted: ClassLearner
    labels: tuple[Label, ...]

    @property
    def bytes(self) -> int:
        return int(self.fitted.examples.x.nbytes)


class Fits:
    """The fits of all tabs."""

    def __init__(self, most: int = MOST_FITS, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._fits: OrderedDict[tuple[str, int], Fit] = OrderedDict()
        # A page that was fitted by an earlier server must not be answered by the fit of this one with the same number.
        self._numbers = itertools.count(secrets.randbelow(2**40))
        self._lock = threading.Lock()

    def add(self, tab: str, fit: Fit) -> int:
        """Keep a fit, and return its number."""
        with self._lock:
            number = next(self._numbers)
            self._fits[tab, number] = fit
            own = [key for key in self._fits if key[0] == tab]
            for key in own[:-_FITS_OF_A_TAB]:
                del self._fits[key]
            while len(self._fits) > 1 and (len(self._fits) > self._most or self._bytes() > self._most_bytes):
                self._fits.popitem(last=False)
        return number

    def get(self, tab: str, number: int, learner: str) -> Fit:
        """The fit with this number.

        Raises:
            NoFit: It is not kept.
        """
        with self._lock:
            fit = self._fits.get((tab, number))
            if fit is None or fit.learner != learner:
                raise NoFit
            self._fits.move_to_end((tab, number))
            return fit

    def forget(self, learner: str) -> None:
        """Forget the fits of a learner that is no longer kept."""
        with self._lock:
            for key in [key for key, fit in self._fits.items() if fit.learner == learner]:
                del self._fits[key]

    def _bytes(self) -> int:
        return sum(fit.bytes for fit in self._fits.values())
