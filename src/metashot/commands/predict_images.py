"""Predictions for images: a support folder with a sub-folder for each class, queries, a table and a contact sheet."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from metashot.applied.class_learner import ClassLearner
from metashot.applied.folders import Images, Outputs, named, query_files, read_all, read_support, support_files
from metashot.applied.images import ink_of
from metashot.applied.learner import warning_of_one
from metashot.applied.photographs import are_told, warning_of
from metashot.applied.sheet import UNCERTAIN, sheet
from metashot.applied.text_files import is_of_texts
from metashot.bad_input import BadInput
from metashot.commands.predictions import (
    SHOWN,
    Answers,
    class_facts,
    console_of_predictions,
    estimate_rows,
    names_of_classes,
    print_rows,
    uncertain_rows,
    unknown_rows,
    write_fitted,
)
from metashot.files.outputs import write_output
from metashot.process.interruption import STOP
from metashot.sources.getting.files import printable

_COLOURS = {1: "grey", 3: "colour"}


def predict_images(learner: ClassLearner, config: dict[str, Any], outputs: Outputs) -> None:
    """Fit a learner of images to the support folder, predict the queries, and write the table and the contact sheet.

    Args:
        learner: The learner, which is fitted already where no support folder is given.
        config: The configuration.
        outputs: The files to write.

    Raises:
        BadInput: The images or the outputs cannot be used.
    """
    if outputs.graph is not None:
        from metashot.applied.export import refuse_export  # a slow import

        refuse_export(learner)
    support, loose = _fit(learner, config["support"], outputs)
    queries = query_files(config["query"], outputs)
    asked = read_all(queries, learner.form)
    if not asked.files:
        raise BadInput(f"no query can be read: {named(asked.skipped)}")
    probabilities = learner.probabilities(asked.pixels)
    estimate = estimate_rows(learner, config["estimate"], "images")
    names = names_of_classes(learner, config["unknown"])
    unknown = np.zeros(len(asked.files), dtype=np.bool_)
    if config["unknown"] is not None:
        unknown = learner.unknown(asked.pixels, config["unknown"], config["together"])
    answers = Answers(names, probabilities, unknown)
    made_files = _write(learner, outputs, asked, answers)

    console = console_of_predictions()
    print_rows(console, [*_facts(learner, support, names, loose), *estimate])
    for line in _warnings(learner, support, asked):
        console.print(f"warning: {line}")
    _print_table(console, asked.files, answers)
    if config["unknown"] is not None:
        print_rows(console, unknown_rows(unknown, config["together"]))
    print_rows(console, [*_remarks(learner, support, asked, answers.uncertain), *made_files])


def _fit(learner: ClassLearner, folder: str | None, outputs: Outputs) -> tuple[Images | None, list[Path]]:
    """Fit the learner to a support folder, if given. Returns its images, and the files outside of any class folder."""
    if folder is None:
        return None, []
    if is_of_texts(folder):
        raise BadInput(
            f"support={printable(folder)} has texts, and this {learner.name} was trained on images: give a learner of "
            "texts, or a folder with a sub-folder of images for each class"
        )
    classes, loose = support_files(folder)
    outputs.refuse_to_replace_any([*loose, *(file for files in classes.values() for file in files)])
    support, labels = read_support(classes, learner.form)
    learner.fit_pixels(support.pixels, labels)
    return support, loose


def _write(learner: ClassLearner, outputs: Outputs, asked: Images, answers: Answers) -> list[tuple[str, str]]:
    """Write the output files. Returns a label and a description for each."""
    more = write_fitted(learner, outputs)
    rows = answers.as_csv(["file"], [[file] for file in asked.files])
    picture = _sheet(learner, asked, answers)
    STOP.check()
    write_output(outputs.table, rows, "out", "table")
    write_output(outputs.picture, picture, "out", "picture")
    return [("table", printable(outputs.table)), ("sheet", printable(outputs.picture)), *more]


def _facts(
    learner: ClassLearner, support: Images | None, names: Sequence[str], loose: Sequence[Path]
) -> Iterator[tuple[str, str]]:
    channels, height, width = learner.form.shape
    yield "learner", f"{learner.name}, trained on {learner.network.trained_on}, {height}x{width} {_COLOURS[channels]}"
    yield from class_facts(learner, names)
    if loose:
        yield "note", f"{len(loose)} in the support folder lie in no class folder and are left out: {named(map(str, loose))}"
    if support is not None:
        yield from (("skipped", line) for line in support.skipped)


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
    yield from uncertain_rows(are_uncertain, UNCERTAIN, "sheet")
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


def _sheet(learner: ClassLearner, asked: Images, answers: Answers) -> bytes:
    kept, of_drawings = learner.examples, learner.form.of_drawings
    x, y = kept.x.numpy(), kept.y.numpy()
    return sheet(answers.names, x, y, asked.pixels, asked.files, answers.probabilities, answers.unknown, of_drawings)


def _print_table(console: Console, files: Sequence[str], answers: Answers) -> None:
    rows = [("file", "label", "probability")]
    rows += [(file, *answers.shown(place)) for place, file in enumerate(files[:SHOWN])]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    console.print()
    for file, label, probability in rows:
        console.print(f"{file:<{widths[0]}}  {label:<{widths[1]}}  {probability:>11}")
    if len(files) > SHOWN:
        console.print(f"and {len(files) - SHOWN:,} more in the table that is written")
    console.print()
