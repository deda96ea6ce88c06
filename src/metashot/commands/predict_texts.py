"""Predictions for texts: examples from a table or from folders, queries from a table, a table of answers and a page."""

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console

from metashot.applied.explaining import Explanation, refuse_explanation
from metashot.applied.folders import Outputs
from metashot.applied.labels import UNKNOWN
from metashot.applied.learner import warning_of_one
from metashot.applied.sheet import UNCERTAIN
from metashot.applied.text_files import Keys, TextsOfUser, files_read, query_texts, support_texts
from metashot.applied.text_learner import TextLearner
from metashot.applied.text_page import answers_page, explanations_page
from metashot.applied.texts import ReadTexts, warning_of_cut
from metashot.bad_input import BadInput, in_one_line
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
from metashot.process.terminal_text import padded_text, shortened_text
from metashot.sources.getting.files import printable

_LABEL_CELLS, _LEAST_CELLS = 40, 20  # of a terminal: at most for an answer, and at least for a text
_EXPLAINED, _EXPLAINED_IN_TERMINAL = 1000, 3  # queries
_NAMED = 3  # places that a warning names
_LEVEL = 1.959964  # standard deviations of a normal distribution that hold 95 %


def predict_texts(learner: TextLearner, config: dict[str, Any], outputs: Outputs) -> None:
    """Fit a learner of texts to the support set, predict the queries, and write the table and the page.

    Args:
        learner: The learner, which is fitted already where no support set is given.
        config: The configuration.
        outputs: The files to write.

    Raises:
        BadInput: The texts or the outputs cannot be used.
    """
    if outputs.graph is not None:
        raise BadInput(f"export={config['export']} is for learners of images: leave it out")
    if outputs.explanations is not None:
        refuse_explanation(learner.algorithm, learner.name)
    keys = Keys(config["text"], config["label"], config["encoding"])
    support, told = None, list[str]()
    if config["support"] is not None:
        outputs.refuse_to_replace_any(files_read(config["support"], "support"))
        support = support_texts(config["support"], keys)
        told = _fit(learner, support)
    outputs.refuse_to_replace_any(files_read(config["query"], "query"))
    queries = query_texts(config["query"], keys)
    read = learner.read(queries.texts)
    probabilities = learner.probabilities(read)
    estimate = estimate_rows(learner, config["estimate"], "texts")
    names = names_of_classes(learner, config["unknown"])
    unknown = np.zeros(len(read), dtype=np.bool_)
    if config["unknown"] is not None:
        unknown = learner.unknown(read, config["unknown"], config["together"])
    answers = Answers(names, probabilities, unknown)
    explanations = [] if outputs.explanations is None else _explanations(learner, queries, read)
    made_files = _write(learner, outputs, queries, read, answers, explanations)

    console = console_of_predictions()
    print_rows(console, [*_facts(learner, support, names), *estimate])
    for line in [*told, *_warnings(learner, queries, read)]:
        console.print(f"warning: {line}")
    _print_table(console, queries.texts, answers)
    for _, explanation in explanations[:_EXPLAINED_IN_TERMINAL]:
        console.print(explanation.to_terminal())
        console.print()
    if config["unknown"] is not None:
        print_rows(console, unknown_rows(unknown, config["together"]))
    remarks = [*_scores(queries, answers, read.empty), *uncertain_rows(answers.uncertain, UNCERTAIN, "page")]
    print_rows(console, [*remarks, *(("note", line) for line in queries.notes), *made_files])


def _fit(learner: TextLearner, support: TextsOfUser) -> list[str]:
    """Fit the learner. Returns what it warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        learner.fit(support.texts, support.labels)
    told = []
    for warning in found:
        if issubclass(warning.category, UserWarning):
            told.append(in_one_line(f"examples: {warning.message}"))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return told


def _explanations(learner: TextLearner, queries: TextsOfUser, read: ReadTexts) -> list[tuple[int, Explanation]]:
    """Explanations of the first queries that can be read, with their places."""
    places = np.flatnonzero(~read.empty)[:_EXPLAINED].tolist()
    return [(place, learner.explain(queries.texts[place])) for place in places]


def _write(
    learner: TextLearner,
    outputs: Outputs,
    queries: TextsOfUser,
    read: ReadTexts,
    answers: Answers,
    explanations: Sequence[tuple[int, Explanation]],
) -> list[tuple[str, str]]:
    """Write the output files. Returns a label and a description for each."""
    more = write_fitted(learner, outputs)
    of_answers = {"text", "label", "probability", *(f"p({name})" for name in answers.names)}
    columns = _distinct([in_one_line(name) for name in queries.columns], of_answers)
    rows = [[*others, text] for others, text in zip(queries.others, queries.texts, strict=True)]
    table = answers.as_csv([*columns, "text"], rows)
    page = answers_page(
        answers.names,
        learner.texts,
        learner.examples.y.numpy(),
        queries.texts,
        answers.probabilities,
        unknown=answers.unknown,
        empty=read.empty,
        given=queries.labels,
    )
    STOP.check()
    write_output(outputs.table, table, "out", "table")
    write_output(outputs.picture, page, "out", "page")
    written = [("table", printable(outputs.table)), ("page", printable(outputs.picture)), *more]
    if outputs.explanations is not None:
        write_output(outputs.explanations, explanations_page(explanations, len(queries.texts)), "explain", "page")
        first = f", the first {len(explanations):,}" if len(explanations) == _EXPLAINED else ""
        written.append(("words", f"{printable(outputs.explanations)}: what decides the answers{first}"))
    return written


def _distinct(columns: Sequence[str], taken: set[str]) -> list[str]:
    """The columns of the query file, with other names where those of the answers are the same."""
    names: list[str] = []
    for column in columns:
        name = column
        while name in taken:
            name = f"given_{name}"
        taken = taken | {name}
        names.append(name)
    return names


def _facts(learner: TextLearner, support: TextsOfUser | None, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    reads = f"reads {learner.reader.tokens:,} tokens of a text"
    yield "learner", f"{learner.name}, trained on {learner.network.trained_on}, {reads}"
    yield from class_facts(learner, names)
    if support is not None:
        yield from (("note", line) for line in support.notes)


def _warnings(learner: TextLearner, queries: TextsOfUser, read: ReadTexts) -> Iterator[str]:
    if message := warning_of_cut(read.cut, len(read), learner.reader):
        yield message
    if count := int(read.empty.sum()):
        places = [queries.places[place] for place in np.flatnonzero(read.empty)[:_NAMED]]
        more = f"; and {count - _NAMED:,} more" if count > _NAMED else ""
        are = "query has nothing to read, so that its answer means" if count == 1 else "queries have nothing to read, so "
        are += "" if count == 1 else "that their answers mean"
        yield f"{count:,} {are} nothing: {'; '.join(places)}{more}"
    if message := warning_of_one(learner.network, len(read)):
        yield message


def _scores(queries: TextsOfUser, answers: Answers, empty: NDArray[np.bool_]) -> list[tuple[str, str]]:
    """The accuracy, where the queries come with their classes."""
    if queries.labels is None:
        return []
    asked = [(place, label) for place, label in enumerate(queries.labels) if not empty[place]]
    known = [place for place, label in asked if label in set(answers.names)]
    others = [place for place, label in asked if label and label not in set(answers.names)]
    rows = []
    if known:
        right = sum(answers.label(place) == queries.labels[place] for place in known)
        low, high = interval(right, len(known))
        rows.append(
            (
                "accuracy",
                f"{100 * right / len(known):.1f} % of the {len(known):,} queries of these classes "
                f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)",
            )
        )
    if others:
        of = f"{len(others):,} {'query is' if len(others) == 1 else 'queries are'} of other classes"
        count = sum(answers.label(place) == UNKNOWN for place in others)
        told = (
            f"; {count:,} of them {'is' if count == 1 else 'are'} answered with {UNKNOWN}" if answers.unknown.any() else ""
        )
        rows.append(("note", f"{of}, such as {printable(queries.labels[others[0]])}{told}"))
    return rows


def interval(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share: Wilson 1927, which holds for few and near 0 and 1."""
    share, square = right / of, _LEVEL**2 / of
    middle = (share + square / 2) / (1 + square)
    half = _LEVEL * math.sqrt(share * (1 - share) / of + square / (4 * of)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _print_table(console: Console, texts: Sequence[str], answers: Answers) -> None:
    """Answers first, since a text from right to left would change the order of what stands behind it."""
    shown = [answers.shown(place) for place in range(min(SHOWN, len(texts)))]
    rows = [("label", "probability"), *((shortened_text(label, _LABEL_CELLS), share) for label, share in shown)]
    widest = max(cell_len(label) for label, _ in rows)
    console.print()
    for (label, share), text in zip(rows, ["text", *texts], strict=False):
        start = f"{padded_text(label, widest)}  {share:>11}  "
        console.print(start + shortened_text(text, max(_LEAST_CELLS, console.width - cell_len(start))))
    if len(texts) > SHOWN:
        console.print(f"and {len(texts) - SHOWN:,} more in the table that is written")
    console.print()
