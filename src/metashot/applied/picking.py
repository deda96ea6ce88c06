"""Which ready-made learner is for some examples: `drawings` or `photos`, by looking at the images, or one of texts."""

from typing import NamedTuple

import numpy as np

from metashot.applied.folders import named, read_all, support_files
from metashot.applied.images import Form
from metashot.applied.photographs import SIDE
from metashot.applied.text_files import is_of_texts
from metashot.bad_input import BadInput
from metashot.checkpoints.ready_made import READY_MADE
from metashot.files.paths import quoted

_MOST = 100  # images that are looked at, evenly spaced among all
_PHOTOS, _DRAWINGS, _TEXTS = "photos", "drawings", "text"
_KINDS = {_PHOTOS: "photographs", _DRAWINGS: "drawings"}
_FORM = Form((1, SIDE, SIDE), "squash", "never", None, None, of_drawings=True)  # in which photographs are told apart


class Picked(NamedTuple):
    """A ready-made learner, and the images that decided for it; there are none where it is one of texts."""

    name: str
    images: int = 0  # of its kind
    of: int = 0  # images that were looked at

    def __str__(self) -> str:
        if not self.of:
            what = READY_MADE[self.name]
            return f"ckpt={self.name}, for {what}: the support set has texts; give a checkpoint to choose otherwise"
        other = _DRAWINGS if self.name == _PHOTOS else _PHOTOS
        kind = _KINDS[self.name]
        return (
            f"ckpt={self.name}: {self.images} of {self.of} support images look like {kind}; give ckpt={other}, or a "
            "checkpoint, to choose otherwise"
        )


def picked(support: str) -> Picked:
    """Pick a ready-made learner for a support set.

    Args:
        support: The folder, with a sub-folder of images or texts for each class, or a table of texts.

    Raises:
        BadInput: It cannot be used, or has no image that can be read.
    """
    if is_of_texts(support):
        return Picked(_TEXTS)
    classes, _ = support_files(support)
    files = [file for of_class in classes.values() for file in of_class]
    places = np.unique(np.linspace(0, len(files) - 1, min(_MOST, len(files))).round().astype(int))
    images = read_all((files[place] for place in places), _FORM)
    if not images.files:
        why = f": {named(images.skipped)}" if images.skipped else ""
        raise BadInput(f"support={quoted(support)} has no image that can be read{why}")
    count, photographs = len(images.files), images.photographic
    return Picked(_PHOTOS, photographs, count) if 2 * photographs > count else Picked(_DRAWINGS, count - photographs, count)
