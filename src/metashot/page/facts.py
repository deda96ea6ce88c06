"""What the page says of a learner, whichever back end it has, the limits of both, and who has no page."""

import hashlib
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from metashot.applied.class_learner import ClassLearner
from metashot.applied.export import refuse_export
from metashot.bad_input import BadInput
from metashot.episodes import Examples
from metashot.page.messages import MOST_CLASSES, MOST_EXAMPLES
from metashot.version import __version__

OWN = "own"  # the id of the learner of the command line
LARGEST_IMAGE, LARGEST_LEARNER = 64 * 2**20, 2**30  # bytes of a file
LARGEST_MESSAGE = 64 * 2**20  # bytes of pixels that are sent together
_MOST_SHOWN = 2**28  # bytes of a loaded learner's examples, which the page keeps, too
_LONGEST_SHOWN = 1000  # characters of a name
_OTHERS = {
    "VectorLearner": ("vectors", ".fit(x, y).predict(x)"),
    "TextLearner": ("texts", ".fit(texts, labels).predict(texts), or with python -m metashot.predict"),
    "NumberLearner": ("numbers", ".fit(x, y).predict(x)"),
    "PolicyLearner": ("policies, which act in environments", ".fit(environment).act(observation)"),
}


def facts_of(name: str, learner: ClassLearner, checkpoint: str) -> dict[str, Any]:
    """What the page says of a learner.

    Args:
        name: Its id.
        learner: The learner.
        checkpoint: What the user gave for it, which the page repeats in the Python lines that do the same.
    """
    network, form = learner.network, learner.form
    steps = network.watched_steps
    return {
        "learner": name,
        "algorithm": learner.name,
        "checkpoint": checkpoint,
        "trained_on": network.trained_on,
        "shape": list(form.shape),
        "of_drawings": form.of_drawings,
        "most_classes": network.algorithm.fixed_ways,
        "steps": list(steps) or None,
        "near": network.has_similarities,
        "unknown": _reason(network.algorithm.refuse_strangers) is None,
        "transductive": learner.transductive,
        "worth_alone": network.algorithm.worth_alone,
        "no_graph": _reason(lambda: refuse_export(learner)),
        "limits": {
            "file": LARGEST_IMAGE,
            "learner": LARGEST_LEARNER,
            "message": LARGEST_MESSAGE,
            "examples": MOST_EXAMPLES,
            "classes": MOST_CLASSES,
        },
        "version": __version__,
    }


def identity_of(learner: ClassLearner) -> str:
    """A digest of what decides a learner's answers: by it a page knows that another one is served in its place."""
    network = learner.network
    digest = hashlib.sha256(repr((network.config["algo"], network.config["backbone"], learner.form)).encode())
    for name, value in network.weights().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def named(labels: Sequence[Hashable], given: str) -> list[str]:
    """The names of classes, which are all different and none of them empty, by their labels.

    Args:
        labels: The labels, which are all different.
        given: The learner, for the message.

    Raises:
        BadInput: Two labels are equal, as True and 1 are, so that no learner could be fitted to both.
    """
    if len(set(labels)) < len(labels):
        raise BadInput(f"{given} cannot be shown, since two of its labels are equal: name its classes differently")
    names: dict[str, None] = {}
    for label in labels:
        short, exact = str(label)[:_LONGEST_SHOWN], repr(label)[:_LONGEST_SHOWN]
        numbered = (f"{exact} ({number})" for number in itertools.count(2))
        names[next(name for name in itertools.chain((short, exact), numbered) if name and name not in names)] = None
    return list(names)


def refuse_others(learner: Any, given: str) -> None:
    """Raise `BadInput` for a learner that does not predict the classes of images."""
    if isinstance(learner, ClassLearner):
        return
    of, use = _OTHERS[type(learner).__name__]
    raise BadInput(
        f"{given} is a learner of {of}, and the page is for learners that predict classes of images: use it in Python, as "
        f"metashot.load(...){use}"
    )


def refuse_many(examples: Examples, classes: int, given: str) -> None:
    """Raise `BadInput` for a fitted learner with more examples or classes than the page takes."""
    count, size = len(examples.x), examples.x.nbytes
    if count > MOST_EXAMPLES or classes > MOST_CLASSES or size > _MOST_SHOWN:
        raise BadInput(
            f"{given} has {count:,} examples of {classes:,} classes, in {size / 2**20:,.0f} MiB; the page takes at most "
            f"{MOST_EXAMPLES:,} of {MOST_CLASSES:,}, in {_MOST_SHOWN / 2**20:,.0f} MiB: use it in Python, as "
            "metashot.load_fitted(...).predict(queries)"
        )


def _reason(refuse: Callable[[], None]) -> str | None:
    try:
        refuse()
    except BadInput as error:
        return str(error)
    return None
