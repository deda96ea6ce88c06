"""What a prediction prints and writes whatever the kind of its items: facts of the fitted learner, answers, and files."""

import csv
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from metashot.applied.class_learner import Classifier, EqualExamples, warning_of_equal
from metashot.applied.folders import Outputs
from metashot.applied.labels import UNKNOWN
from metashot.applied.learner import Learner
from metashot.applied.sheet import uncertain
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.process.interruption import STOP
from metashot.sources.getting.files import printable

SHOWN = 100  # the most rows of the printed table
_PATIENCE = 2.0  # seconds for an estimate that was not asked for
_FAR = 3  # from so many times the examples of the calibration on, or as few, probabilities may be wrong


@dataclass(frozen=True)
class Answers:
    """The answers to queries."""

    names: Sequence[str]  # of the classes
    probabilities: NDArray[np.float64]  # [Q, classes]
    unknown: NDArray[np.bool_]  # [Q]

    @property
    def uncertain(self) -> NDArray[np.bool_]:
        return uncertain(self.probabilities) & ~self.unknown

    def label(self, place: int) -> str:
        return UNKNOWN if self.unknown[place] else self.nearest(place)

    def nearest(self, place: int) -> str:
        """The name of the likeliest class."""
        return self.names[int(self.probabilities[place].argmax())]

    def shown(self, place: int) -> tuple[str, str]:
        """The label and the probability of an answer for people."""
        nearest, probability = self.nearest(place), f"{100 * self.probabilities[place].max():.1f} %"
        # A probability beside "unknown" would read as that of being unknown.
        return (f"{UNKNOWN} (nearest: {nearest} {probability})", "") if self.unknown[place] else (nearest, probability)

    def as_csv(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
        """A table with a row for each query: what it is, its label, the probability of the likeliest class, and that of
        every class."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*columns, "label", "probability", *(f"p({name})" for name in self.names)])
        for place, (row, each) in enumerate(zip(rows, self.probabilities, strict=True)):
            writer.writerow([*row, self.label(place), *(f"{value:.6f}" for value in (each.max(), *each))])
        return text.getvalue().encode("utf-8", "backslashreplace")


def console_of_predictions() -> Console:
    """A console that prints names and texts as they are."""
    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False)


def names_of_classes(learner: Classifier, unknown: float | None) -> list[str]:
    """The names of the classes.

    Raises:
        BadInput: One of them is the answer to a query of no class, which is asked for.
    """
    names = [printable(str(name)) for name in learner.classes_]
    if unknown is not None and UNKNOWN in names:
        raise BadInput(f"unknown={unknown} cannot be used: a class is called {UNKNOWN}; rename it")
    return names


def class_facts(learner: Classifier, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    counts = np.bincount(learner.examples.y.numpy(), minlength=len(names))
    yield "classes", ", ".join(f"{name} ({count})" for name, count in zip(names, counts, strict=True))
    most = learner.algorithm.fixed_ways
    if most is not None and len(names) < most:
        yield "note", f"the head is for {most} classes: probabilities are shares among the {len(names)} given ones"
    if message := calibration_note(learner, float(counts.mean())):
        yield "note", message
    if learner.transductive:
        yield (
            "note",
            f"queries are {_what_they_share(learner)} together: an answer depends on what is asked with it, and few are "
            "answered worse",
        )


def calibration_note(learner: Learner, examples: float) -> str | None:
    """What to say where the examples of a class are far more or fewer than those for which probabilities were calibrated.

    Distances between unnormalised features depend on how many examples a class mean is made of, and so does the best
    temperature; the cosines of `normalise` hardly depend on it.
    """
    config = learner.network.config
    if learner.algorithm.calibration.temperature is None or config["algo"].get("normalise", "none") != "none":
        return None
    given = config["data"]["val"]["shots"] or config["data"]["shots"]
    least, most = given if isinstance(given, list) else (given, given)
    if least / _FAR < examples < most * _FAR:
        return None
    calibrated = f"{least} to {most}" if least < most else f"{least}"
    examples_each = f"{calibrated} {'example' if most == 1 else 'examples'} of each class"
    return f"probabilities are calibrated for {examples_each}, and may be far too low or too high with {examples:.3g}"


def estimate_rows(learner: Classifier, asked: Literal["auto"] | bool, noun: str) -> list[tuple[str, str]]:
    """The row of the estimated accuracy. Unless it was asked for, the row says why there is none."""
    if asked is False:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EqualExamples)  # a row says so
            estimate = learner.estimate(within=_PATIENCE if asked == "auto" else None)
    except BadInput as error:
        if asked is True:
            raise BadInput(f"estimate=true cannot be used: {error}") from error
        return [("estimate", f"none: {error}")]
    rows = [("estimate", f"{estimate} of further queries are answered right, judged by the support {noun} alone")]
    if message := warning_of_equal(learner.examples):
        rows.append(("note", message))
    return rows


def _what_they_share(learner: Classifier) -> str:
    backbones = [module for module in learner.algorithm.modules() if isinstance(module, Backbone)]
    return "normalised" if any(backbone.transductive for backbone in backbones) else "assigned to classes"


def unknown_rows(unknown: NDArray[np.bool_], together: bool) -> list[tuple[str, str]]:
    how = "together" if together else "each alone"
    return [("unknown", f"{unknown.sum()} of {len(unknown)} queries, judged {how}")]


def uncertain_rows(are_uncertain: NDArray[np.bool_], what: str, where: str) -> list[tuple[str, str]]:
    """A note on how many answers are uncertain, `what` that means, and `where` they are marked."""
    count, every = int(are_uncertain.sum()), len(are_uncertain)
    if not count:
        return []
    are = "answers are" if every != 1 and count != 1 else "answers is" if every != 1 else "answer is"
    return [("note", f"{count} of {every} {are} uncertain ({what}) and marked in the {where}")]


def write_fitted(learner: Classifier, outputs: Outputs) -> list[tuple[str, str]]:
    """Write the graph and the fitted learner, where they are asked for. Returns a label and a description for each.

    Signals are looked for before each file, since one may have arrived in a callback, where Python drops exceptions.
    """
    written = []
    STOP.check()
    if outputs.graph is not None:
        from metashot.applied.export import export

        written.append(("onnx", f"{printable(export(learner, outputs.graph, 'export'))}, checked against PyTorch"))
        STOP.check()
    if outputs.learner is not None:
        learner.save(outputs.learner, "save")
        written.append(("fitted", f"{printable(outputs.learner)}, for use as ckpt={printable(outputs.learner)}"))
        STOP.check()
    return written


def print_rows(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    for name, value in rows:
        console.print(f"{name:<9} {value}")
