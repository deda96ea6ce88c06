"""Pages of predictions for texts: the support texts of each class and the queries with their answers, and explanations."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from metashot.applied.explaining import Explanation
from metashot.applied.labels import UNKNOWN
from metashot.applied.sheet import UNCERTAIN, uncertain
from metashot.evaluation import pages

_SHOWN_SUPPORT, _SHOWN_QUERIES = 24, 1200  # support texts per class, and queries; the table has the remaining ones


def answers_page(
    classes: Sequence[str],
    support: Sequence[str],
    support_y: NDArray[np.int64],
    queries: Sequence[str],
    probabilities: NDArray[np.float64],
    unknown: NDArray[np.bool_],
    empty: NDArray[np.bool_],
    given: Sequence[str] | None,
) -> bytes:
    """The page of a prediction.

    Args:
        classes: The class names.
        support: The support texts.
        support_y: Their labels.
        queries: The queries.
        probabilities: The class probabilities of each query [Q, classes].
        unknown: Which queries are answered with "unknown" [Q].
        empty: Which queries have nothing to read [Q].
        given: The classes that the queries come with, if they do.

    Returns:
        The content of the file.
    """
    count = len(queries)
    doubtful = uncertain(probabilities) & ~unknown
    of_class = ([support[place] for place in np.flatnonzero(support_y == label)] for label in range(len(classes)))
    rows = (
        [pages.row_name(name), f'<td class="text">{pages.listed(texts, _SHOWN_SUPPORT)}</td>']
        for name, texts in zip(classes, of_class, strict=True)
    )
    legend = [f"the first {_SHOWN_QUERIES:,} of {count:,}; the table has all" if count > _SHOWN_QUERIES else ""]
    legend.append(f"? uncertain: {UNCERTAIN}" if doubtful.any() else "")
    legend.append(f"{UNKNOWN}: of none of these classes; behind it the likeliest one" if unknown.any() else "")

    def answered() -> Iterator[list[str]]:
        for place, text in enumerate(queries[:_SHOWN_QUERIES]):
            best = int(probabilities[place].argmax())
            cells = [pages.span(str(place + 1), "number pale"), pages.cell(text, "text")]
            share = f"{100 * probabilities[place, best]:.0f} %"
            if unknown[place]:
                nearest = f'<span class="pale">nearest: <bdi>{pages.shown(classes[best])}</bdi> {share}</span>'
                cells.append(f'<td><span class="mark">{UNKNOWN}</span> {nearest}</td>')
            else:
                cells.append(pages.cell(classes[best]))
            said = ["nothing to read"] if empty[place] else ["? uncertain"] if doubtful[place] else []
            cells += [pages.span("" if unknown[place] else share, "number"), pages.span("".join(said), "mark")]
            if given is not None:
                cells += [
                    pages.cell(given[place]),
                    _judged(given[place], UNKNOWN if unknown[place] else classes[best], classes, bool(empty[place])),
                ]
            yield cells

    head = ["row", "text", "answer", "probability", "", *(["class", "right?"] if given is not None else [])]
    told = "; ".join(filter(None, legend))
    return pages.page(
        "Answers",
        [
            pages.heading("Learned from"),
            pages.table(["class", "texts"], rows),
            pages.heading("Asked"),
            *([pages.note(told)] if told else []),
            pages.table(head, answered()),
        ],
    )


def explanations_page(explanations: Sequence[tuple[int, Explanation]], queries: int) -> bytes:
    """The page of explanations.

    Args:
        explanations: The row of each query, from 0, and what decides its answer.
        queries: The number of all queries.
    """
    most = f"{len(explanations):,} of {queries:,} queries. " if len(explanations) < queries else ""
    how = "Each word is left out once; a number says by how many points the probability falls without it."
    parts = [pages.note(f"{most}{how}")]
    for place, explanation in explanations:
        parts.append(f"{pages.heading(f'Row {place + 1}')}\n{explanation._repr_html_()}")
    return pages.page("What decides the answers", parts)


def _judged(given: str, answer: str, classes: Sequence[str], is_empty: bool) -> str:
    """Whether an answer is right, where the class is given and there is something to read."""
    if not given or is_empty:
        return "<td></td>"
    if given not in classes:
        return pages.span("✓ right", "right") if answer == UNKNOWN else pages.span("of no class here", "pale")
    return pages.span("✓ right", "right") if given == answer else pages.span("✗ wrong", "wrong")
