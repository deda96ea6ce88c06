"""python -m metashot.predict: fits a learner to the classes of a support folder and predicts the classes of other images."""

import csv
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from metashot import configuration
from metashot.applied.class_learner import ClassLearner, EqualExamples, VectorLearner, warning_of_equal
from metashot.applied.folders import Images, Outputs, named, query_files, read_all, read_support, support_files
from metashot.applied.images import ink_of
from metashot.applied.labels import UNKNOWN
from metashot.applied.learner import Learner, warning_of_one
from metashot.applied.loading import learner_of, restored
from metashot.applied.network import fitted_content, made
from metashot.applied.photographs import are_told, warning_of
from metashot.applied.sheet import UNCERTAIN, sheet, uncertain
from metashot.arguments import Rate, check_value
from metashot.backbones.base import Backbone
from metashot.bad_input import BadInput
from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.restoring import origin_of
from metashot.checkpoints.stored import BEST, OURS, find_checkpoint
from metashot.files.outputs import holds_fit, named_file, write_output
from metashot.process.interruption import STOP
from metashot.sources.getting.files import printable

GROUPS = ("backbone", "engine", "algo")  # groups of the stored configuration that the command line may override

_SHOWN = 100  # the most rows of the printed table
_PATIENCE = 2.0  # seconds for an estimate that was not asked for
_FAR = 3  # from so many times the examples of the calibration on, or as few, probabilities may be wrong


def predict_files(composed: DictConfig) -> None:
    """Fit the learner to the support folder, predict the queries, and write the table and the contact sheet.

    Args:
        composed: the composed configuration.

    Raises:
        BadInput: if the checkpoint, the images or the outputs cannot be used.
    """
    config = configuration.plain(composed)
    outputs = outputs_of(config)
    check_value(config["unknown"], Rate | None, "unknown")
    check_value(config["together"], bool, "together")
    if config["together"] and config["unknown"] is None:
        raise BadInput("together=true is for queries that may be unknown: give unknown=0.05, too, or leave it out")
    check_value(config["estimate"], Literal["auto"] | bool, "estimate", "auto, true or false")
    learner = _learner(config)
    if config["unknown"] is not None:
        learner.algorithm.refuse_strangers()
    if outputs.graph is not None:
        from metashot.applied.export import refuse_export  # a slow import

        refuse_export(learner)
    support, loose = _fit(learner, config["support"], outputs)
    queries = query_files(config["query"], outputs)
    asked = read_all(queries, learner.form)
    if not asked.files:
        raise BadInput(f"no query can be read: {named(asked.skipped)}")
    probabilities = learner.probabilities(asked.pixels)
    names = [printable(str(name)) for name in learner.classes_]
    estimate = _estimate(learner, config["estimate"])
    unknown = np.zeros(len(asked.files), dtype=np.bool_)
    if config["unknown"] is not None:
        if UNKNOWN in names:
            raise BadInput(f"unknown={config['unknown']} cannot be used: a class folder is called {UNKNOWN}; rename it")
        unknown = learner.unknown(asked.pixels, config["unknown"], config["together"])
    made_files = _write(learner, outputs, names, asked, probabilities, unknown)

    console = Console(soft_wrap=True, highlight=False, markup=False)
    _print(console, [*_facts(learner, support, names, loose), *estimate])
    for line in _warnings(learner, support, asked):
        console.print(f"warning: {line}")
    _print_table(console, asked.files, names, probabilities, unknown)
    if config["unknown"] is not None:
        how = "together" if config["together"] else "each alone"
        _print(console, [("unknown", f"{unknown.sum()} of {len(unknown)} queries, judged {how}")])
    _print(console, [*_remarks(learner, support, asked, uncertain(probabilities) & ~unknown), *made_files])


def outputs_of(config: dict[str, Any]) -> Outputs:
    table = named_file(config["out"], "out", "predictions.csv")
    if table.suffix.lower() != ".csv":
        raise BadInput(f"out={config['out']} cannot be used; allowed: the name of a table, such as out=predictions.csv")
    learner = None if config["save"] is None else named_file(config["save"], "save", "pets.fewshot")
    return Outputs(table, table.with_suffix(".png"), _graph_file(config["export"], table), learner)


def _learner(config: dict[str, Any]) -> ClassLearner:
    path = find_checkpoint(config["ckpt"], "ckpt", BEST)
    if holds_fit(path):
        learner = _fitted_learner(path, config)
    else:
        checkpoint = read_checkpoint(path)
        whole = checkpoint[OURS]["config"] | {group: config[group] for group in GROUPS}
        network = made(whole, origin_of(checkpoint, path), checkpoint["state_dict"], path, config["device"])
        learner = learner_of(network, config["ckpt"], config["device"], config["ink"])
    if isinstance(learner, VectorLearner):
        raise BadInput(
            f"ckpt={config['ckpt']} was trained on vectors, and cannot be given folders of images: use it in Python, as "
            "metashot.load(...).fit(x, y).predict(x)"
        )
    if not isinstance(learner, ClassLearner):
        raise BadInput(
            f"ckpt={config['ckpt']} answers with numbers and not with classes: use it in Python, as "
            "metashot.load(...).fit(x, y).predict(x)"
        )
    return learner


def _fitted_learner(path: Path, config: dict[str, Any]) -> Learner:
    content = fitted_content(path)
    ink = content.get("ink", "auto")
    if config["ink"] not in ("auto", ink):
        raise BadInput(f"ink={config['ink']} cannot be used: {printable(path)} was fitted with ink={ink}; leave ink out")
    whole = content["config"] | {group: config[group] for group in GROUPS}
    network = made(whole, content["origin"], content["weights"], path, config["device"])
    return restored(network, content, config["ckpt"], config["device"])


def _fit(learner: ClassLearner, folder: str | None, outputs: Outputs) -> tuple[Images | None, list[Path]]:
    """Fit the learner to a support folder, if given. Returns its images, and the files outside of any class folder."""
    if folder is None:
        return None, []
    classes, loose = support_files(folder)
    outputs.refuse_to_replace_any([*loose, *(file for files in classes.values() for file in files)])
    support, labels = read_support(classes, learner.form)
    learner.fit_pixels(support.pixels, labels)
    return support, loose


def _write(
    learner: ClassLearner,
    outputs: Outputs,
    names: Sequence[str],
    asked: Images,
    probabilities: NDArray[np.float64],
    unknown: NDArray[np.bool_],
) -> list[tuple[str, str]]:
    """Write the output files. Returns a label and a description for each.

    Signals are looked for before each file, since one may have arrived in a callback, where Python drops exceptions.
    """
    more = []
    STOP.check()
    if outputs.graph is not None:
        from metashot.applied.export import export

        more.append(("onnx", f"{printable(export(learner, outputs.graph, 'export'))}, checked against PyTorch"))
        STOP.check()
    if outputs.learner is not None:
        learner.save(outputs.learner, "save")
        more.append(("fitted", f"{printable(outputs.learner)}, for use as ckpt={printable(outputs.learner)}"))
        STOP.check()
    rows = _as_csv(asked.files, names, probabilities, unknown)
    picture = _sheet(learner, names, asked, probabilities, unknown)
    STOP.check()
    write_output(outputs.table, rows, "out", "table")
    write_output(outputs.picture, picture, "out", "picture")
    return [("table", printable(outputs.table)), ("sheet", printable(outputs.picture)), *more]


def _graph_file(given: str | None, table: Path) -> Path | None:
    if given is None:
        return None
    path = table.with_suffix(".onnx") if given == "onnx" else named_file(given, "export", "pets.onnx")
    if path.suffix.lower() != ".onnx":
        raise BadInput(f"export={given} cannot be used; allowed: onnx, or the name of a file, such as export=pets.onnx")
    return path


def _facts(
    learner: ClassLearner, support: Images | None, names: Sequence[str], loose: Sequence[Path]
) -> Iterator[tuple[str, str]]:
    channels, height, width = learner.form.shape
    yield "learner", f"{learner.name}, trained on {learner.network.trained_on}, {height}x{width} {_COLOURS[channels]}"
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
    if loose:
        yield "note", f"{len(loose)} in the support folder lie in no class folder and are left out: {named(map(str, loose))}"
    if support is not None:
        yield from (("skipped", line) for line in support.skipped)


def calibration_note(learner: ClassLearner, examples: float) -> str | None:
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


def _estimate(learner: ClassLearner, asked: Literal["auto"] | bool) -> list[tuple[str, str]]:
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
    rows = [("estimate", f"{estimate} of further queries are answered right, judged by the support images alone")]
    if message := warning_of_equal(learner.examples):
        rows.append(("note", message))
    return rows


def _what_they_share(learner: ClassLearner) -> str:
    backbones = [module for module in learner.algorithm.modules() if isinstance(module, Backbone)]
    return "normalised" if any(backbone.transductive for backbone in backbones) else "assigned to classes"


_COLOURS = {1: "grey", 3: "colour"}


def _warnings(learner: ClassLearner, support: Images | None, asked: Images) -> Iterator[str]:
    """What is given as a learner does not expect it: photographs, in one message for support and queries, and one query."""
    groups = [images for images in (support, asked) if images and are_told(images.photographic, len(images.files))]
    count, images = sum(group.photographic for group in groups), sum(len(group.files) for group in groups)
    if message := warning_of(count, images, learner.origin["name"]):
        yield message
    if message := warning_of_one(learner.network, len(asked.files)):
        yield message


def _remarks(
    learner: ClassLearner, support: Images | None, asked: Images, are_uncertain: NDArray[np.bool_]
) -> Iterator[tuple[str, str]]:
    if count := int(are_uncertain.sum()):
        are = (
            "answers are" if len(asked.files) != 1 and count != 1 else "answers is" if len(asked.files) != 1 else "answer is"
        )
        yield "note", f"{count} of {len(asked.files)} {are} uncertain ({UNCERTAIN}) and marked in the sheet"
    remarks = []
    for images, what in ((support, "support images"), (asked, "queries")):
        if images is None:
            continue
        remarks += images.remarks
        if images.inverted:
            why = "ink=dark" if ink_of(learner.form) == "dark" else "a bright border"
            inverted = f"{images.inverted} of {len(images.files)} {what} were inverted ({why})"
            yield "note", f"{inverted}: the learner was trained on bright ink"
    for remark, count in Counter(remark for _, remark in remarks).items():
        first = next(name for name, other in remarks if other == remark)
        yield "note", f"{remark} ({count} {'image' if count == 1 else 'images, first'}: {first})"
    if asked.skipped:
        yield "skipped", f"{len(asked.skipped)} of {len(asked.skipped) + len(asked.files)} queries"
        yield from (("", line) for line in asked.skipped)


def _sheet(
    learner: ClassLearner,
    names: Sequence[str],
    asked: Images,
    probabilities: NDArray[np.float64],
    unknown: NDArray[np.bool_],
) -> bytes:
    kept, of_drawings = learner.examples, learner.form.of_drawings
    x, y = kept.x.numpy(), kept.y.numpy()
    return sheet(names, x, y, asked.pixels, asked.files, probabilities, unknown, of_drawings)


def _print(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    for name, value in rows:
        console.print(f"{name:<9} {value}")


def _print_table(
    console: Console,
    files: Sequence[str],
    names: Sequence[str],
    probabilities: NDArray[np.float64],
    unknown: NDArray[np.bool_],
) -> None:
    rows = [("file", "label", "probability")]
    for file, each, strange in zip(files[:_SHOWN], probabilities, unknown, strict=False):
        nearest, probability = names[each.argmax()], f"{100 * each.max():.1f} %"
        # A probability beside "unknown" would read as that of being unknown.
        rows.append((file, f"{UNKNOWN} (nearest: {nearest} {probability})", "") if strange else (file, nearest, probability))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    console.print()
    for file, label, probability in rows:
        console.print(f"{file:<{widths[0]}}  {label:<{widths[1]}}  {probability:>11}")
    if len(files) > _SHOWN:
        console.print(f"and {len(files) - _SHOWN:,} more in the table that is written")
    console.print()


def _as_csv(
    files: Sequence[str], names: Sequence[str], probabilities: NDArray[np.float64], unknown: NDArray[np.bool_]
) -> bytes:
    """A row for each answered query: its label, the probability of the likeliest class, and then that of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "probability", *(f"p({name})" for name in names)])
    for file, each, strange in zip(files, probabilities, unknown, strict=True):
        label = UNKNOWN if strange else names[each.argmax()]
        writer.writerow([file, label, *(f"{value:.6f}" for value in (each.max(), *each))])
    return text.getvalue().encode()
