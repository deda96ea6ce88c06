"""python -m metashot.predict: a learner, the classes in a support folder, and what it takes the queries for."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from metashot import configuration
from metashot.applied.folders import Images, named, query_files, read_all, read_support, support_files
from metashot.applied.learner import ClassLearner, made
from metashot.applied.sheet import sheet
from metashot.applied.writing import named_file, write_whole
from metashot.bad_input import BadInput
from metashot.checkpoints import read_checkpoint
from metashot.data.files import shown
from metashot.stored import BEST, OURS, of_run
from metashot.trained import origin_of

_SHOWN = 100  # rows of the table that is printed


def predict_files(composed: DictConfig) -> None:
    """Learn from the support folder, answer the queries, and write the table and the contact sheet."""
    config = configuration.plain(composed)
    table = named_file(config["out"], "out", "predictions.csv")
    if table.suffix.lower() != ".csv":
        raise BadInput(f"out={config['out']} cannot be used; allowed: the name of a table, such as out=predictions.csv")
    picture = table.with_suffix(".png")
    graph = _graph_file(config["export"], table)

    learner = _learner(config)
    if graph is not None:
        from metashot.applied.export import refuse_export  # importing it takes long

        refuse_export(learner)
    classes, loose = support_files(config["support"])
    queries = query_files(config["query"], [table, picture, *([graph] if graph else [])])
    support, labels = read_support(classes, learner.form)
    learner.fit_pixels(support.pixels, labels)
    asked = read_all(queries, learner.form)
    if not asked.files:
        raise BadInput(f"no query can be read: {named(asked.skipped)}")
    probabilities = learner.probabilities(asked.pixels)
    names = [str(name) for name in learner.classes_]

    made_files = [("table", shown(table)), ("sheet", shown(picture))]
    if graph is not None:
        from metashot.applied.export import export

        made_files.append(("onnx", f"{shown(export(learner, graph, 'export'))}, checked against PyTorch"))
    write_whole(table, _as_csv(asked.files, names, probabilities), "out")
    write_whole(picture, _sheet(learner, names, asked, probabilities), "out")

    console = Console(soft_wrap=True, highlight=False, markup=False)
    _print(console, _facts(learner, support, labels, names, loose))
    _print_table(console, asked.files, names, probabilities)
    _print(console, [*_remarks(learner, support, asked), *made_files])


def _learner(config: dict[str, Any]) -> ClassLearner:
    path = of_run(config["ckpt"], "ckpt", BEST)
    checkpoint = read_checkpoint(path)
    ours = checkpoint[OURS]
    whole = ours["config"] | {group: config[group] for group in ("backbone", "engine", "algo")}
    learner = made(whole, origin_of(checkpoint, path), checkpoint["state_dict"], path, config["device"], config["ink"])
    if not isinstance(learner, ClassLearner):
        raise BadInput(
            f"ckpt={config['ckpt']} answers with numbers and not with classes: use it in Python, as "
            "metashot.load(...).fit(x, y).predict(x)"
        )
    return learner


def _graph_file(given: str | None, table: Path) -> Path | None:
    if given is None:
        return None
    path = table.with_suffix(".onnx") if given == "onnx" else named_file(given, "export", "pets.onnx")
    if path.suffix.lower() != ".onnx":
        raise BadInput(f"export={given} cannot be used; allowed: onnx, or the name of a file, such as export=pets.onnx")
    return path


def _facts(
    learner: ClassLearner, support: Images, labels: Sequence[str], names: Sequence[str], loose: Sequence[Path]
) -> Iterator[tuple[str, str]]:
    channels, height, width = learner.form.shape
    yield "learner", f"{learner.name}, trained on {learner.origin['name']}, {height}x{width} {_COLOURS[channels]}"
    counts = Counter(labels)
    yield "classes", ", ".join(f"{name} ({counts[name]})" for name in names)
    most = learner.algorithm.fixed_ways
    if most is not None and len(names) < most:
        yield "note", f"the head is for {most} classes: probabilities are shares among the {len(names)} given ones"
    if learner.transductive:
        yield (
            "note",
            "queries are normalised together: an answer depends on what is asked with it, and few are answered worse",
        )
    if loose:
        yield "note", f"{len(loose)} in the support folder lie in no class folder and are left out: {named(map(str, loose))}"
    yield from (("skipped", line) for line in support.skipped)


_COLOURS = {1: "grey", 3: "colour"}


def _remarks(learner: ClassLearner, support: Images, asked: Images) -> Iterator[tuple[str, str]]:
    for images, what in ((support, "support images"), (asked, "queries")):
        if images.inverted:
            why = "ink=dark" if learner.ink == "dark" else "a bright border"
            yield (
                "note",
                f"{images.inverted} of {len(images.files)} {what} were inverted ({why}): the learner knows bright ink",
            )
    remarks = support.remarks + asked.remarks
    for remark, count in Counter(remark for _, remark in remarks).items():
        first = next(name for name, other in remarks if other == remark)
        yield "note", f"{remark} ({count} {'image' if count == 1 else 'images, first'}: {first})"
    if asked.skipped:
        yield "skipped", f"{len(asked.skipped)} of {len(asked.skipped) + len(asked.files)} queries"
        yield from (("", line) for line in asked.skipped)


def _sheet(learner: ClassLearner, names: Sequence[str], asked: Images, probabilities: NDArray[np.float64]) -> bytes:
    kept, of_drawings = learner.examples, learner.form.inverted != "never"
    return sheet(names, kept.x.numpy(), kept.y.numpy(), asked.pixels, asked.files, probabilities, of_drawings)


def _print(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    for name, value in rows:
        console.print(f"{name:<9} {value}")


def _print_table(console: Console, files: Sequence[str], names: Sequence[str], probabilities: NDArray[np.float64]) -> None:
    answers = probabilities.argmax(1)
    rows = [("file", "label", "probability")]
    rows += [
        (file, names[answer], f"{each[answer]:.1%}")
        for file, answer, each in zip(files[:_SHOWN], answers, probabilities, strict=False)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    console.print()
    for file, label, probability in rows:
        console.print(f"{file:<{widths[0]}}  {label:<{widths[1]}}  {probability:>11}")
    if len(files) > _SHOWN:
        console.print(f"and {len(files) - _SHOWN:,} more in the table that is written")
    console.print()


def _as_csv(files: Sequence[str], names: Sequence[str], probabilities: NDArray[np.float64]) -> bytes:
    """A row for each answered query: what it was taken for, and then the probability of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "probability", *(f"p({name})" for name in names)])
    for file, each in zip(files, probabilities, strict=True):
        best = int(each.argmax())
        writer.writerow([file, names[best], *(f"{value:.6f}" for value in (each[best], *each))])
    return text.getvalue().encode()
