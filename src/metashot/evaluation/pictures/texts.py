"""Episodes of texts, which no picture can show: as a page of HTML, and as the rows of a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metashot.data.class_episodes import ClassEpisodes
from metashot.data.module import EpisodicDataModule
from metashot.episodes import Episode
from metashot.evaluation import pages
from metashot.files.outputs import write_output
from metashot.sources.source import TOKENS
from metashot.sources.splitting import Split

_SHOWN_SHOTS = 10  # support texts of a class
_SHOWN_QUERIES = 30  # queries of a class
ROWS = ("set", "text", "class", "predicted", "probability", "right")


@dataclass(frozen=True)
class TextEpisode:
    """The texts of one episode, with or without answers."""

    number: int
    names: Sequence[str]  # of the classes
    support: Sequence[str]
    support_y: NDArray[np.int64]
    query: Sequence[str]
    query_y: NDArray[np.int64]
    probabilities: NDArray[np.float64] | None = None  # [Q, ways]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which queries are answered right, of an episode with answers."""
        assert self.probabilities is not None
        return np.asarray(self.probabilities.argmax(1) == self.query_y)


def first_texts(data: EpisodicDataModule, split: Split, episode: Episode, answers: Tensor | None) -> TextEpisode | None:
    """The first episode of a batch; None if its items are no texts.

    Args:
        data: The data.
        split: The split of the episodes.
        episode: The batch.
        answers: The logits of its queries [T, Q, ways], if there are any.
    """
    if not isinstance(data, ClassEpisodes) or data.items != TOKENS:
        return None
    (support, *_), (query, *_) = data.texts_of(split, episode)
    names = data.class_names(split)
    return TextEpisode(
        int(episode.number[0]),
        [names[place] for place in episode.classes[0].tolist()],
        support,
        episode.support.y[0].cpu().numpy(),
        query,
        episode.query.y[0].cpu().numpy(),
        None if answers is None else answers[0].detach().double().softmax(-1).cpu().numpy(),
    )


def texts_page(episode: TextEpisode, path: Path, key: str | None = None) -> None:
    """Write the page of an episode: the support texts of each class, and the queries with their predicted classes."""
    title = f"Episode {episode.number}"
    if episode.probabilities is None:
        parts = [_without_answers(episode)]
    else:
        right = episode.right
        parts = [
            pages.note(f"{right.sum()} of {len(right)} queries right"),
            pages.heading("Support set"),
            pages.table(
                ["class", "texts"],
                ([pages.row_name(name), _texts(support, _SHOWN_SHOTS)] for name, support, _ in _by_class(episode)),
            ),
            pages.heading("Queries"),
            pages.table(["text", "class", "predicted", "probability", "right?"], _answered(episode)),
        ]
    write_output(path, pages.page(title, parts), key, "page")


def text_rows(episode: TextEpisode) -> list[list[str | float | bool | None]]:
    """All texts of an episode with answers, cut where they are long, as rows with the columns `ROWS`."""
    assert episode.probabilities is not None
    rows: list[list[str | float | bool | None]] = [
        ["support", _cut(text), episode.names[label], None, None, None]
        for text, label in zip(episode.support, episode.support_y.tolist(), strict=True)
    ]
    for text, label, each in zip(episode.query, episode.query_y.tolist(), episode.probabilities, strict=True):
        best = int(each.argmax())
        rows.append(["query", _cut(text), episode.names[label], episode.names[best], float(each[best]), best == label])
    return rows


def _cut(text: str) -> str:
    return text if len(text) <= pages.LONGEST else f"{text[: pages.LONGEST]}…"


def _without_answers(episode: TextEpisode) -> str:
    return pages.table(
        ["class", "support set", "queries"],
        (
            [pages.row_name(name), _texts(support, _SHOWN_SHOTS), _texts(queries, _SHOWN_QUERIES)]
            for name, support, queries in _by_class(episode)
        ),
    )


def _answered(episode: TextEpisode) -> Iterator[list[str]]:
    assert episode.probabilities is not None
    for label, name in enumerate(episode.names):
        places = np.flatnonzero(episode.query_y == label)
        for place in places[:_SHOWN_QUERIES]:
            best = int(episode.probabilities[place].argmax())
            # A word and a sign say the same as the colour.
            mark = pages.span("✓ right", "right") if best == label else pages.span("✗ wrong", "wrong")
            probability = pages.span(f"{100 * episode.probabilities[place, best]:.0f} %", "number")
            yield [
                *(pages.cell(episode.query[place], "text"), pages.cell(name), pages.cell(episode.names[best])),
                *(probability, mark),
            ]
        if len(places) > _SHOWN_QUERIES:
            yield [
                f'<td class="pale" colspan="5">and {len(places) - _SHOWN_QUERIES:,} more of '
                f"<bdi>{pages.shown(name)}</bdi></td>"
            ]


def _by_class(episode: TextEpisode) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each class with its support texts and queries."""
    for label, name in enumerate(episode.names):
        support = [episode.support[place] for place in np.flatnonzero(episode.support_y == label)]
        yield name, support, [episode.query[place] for place in np.flatnonzero(episode.query_y == label)]


def _texts(texts: Sequence[str], most: int) -> str:
    return f'<td class="text">{pages.listed(texts, most)}</td>'
