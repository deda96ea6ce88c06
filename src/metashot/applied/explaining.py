"""Which words of a text decide how it is answered: each word is left out, and the text without it is asked.

It is known as leave-one-out, or occlusion: Zeiler, Fergus 2014, "Visualizing and understanding convolutional networks",
arXiv:1311.2901, for images; Li, Monroe, Jurafsky 2016, "Understanding neural networks through representation erasure",
arXiv:1612.08220, for words.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from metashot.algorithms.base import Algorithm
from metashot.applied.texts import TextReader, is_blank
from metashot.bad_input import BadInput, BadValue, in_one_line, one_of, shown
from metashot.data.tokenizers.words import places_of
from metashot.evaluation.pages import escaped
from metashot.sources.texts.code_points import cleaned

MOST_WORDS = 1000
PREDICTED: Any = type("Predicted", (), {"__repr__": lambda self: "the predicted class"})()

_SLACK = 64  # characters behind the longest text, which move up where a word is left out
_STRONG, _WEAK = 0.5, 0.15  # shares of the largest weight from which on words are marked
_LEAST = 5e-4  # a change of the probability that is shown as none
_LISTED = 5  # words below the text
_LONGEST_WORD = 100  # characters that are shown of a word
_BEHIND = 200  # characters that are shown behind the last word that was left out
_FOR, _AGAINST = ("bold cyan", "cyan"), ("bold red", "red")  # strong and weak
_COLOURS = {True: "31,119,180", False: "214,39,40"}  # for the class, and against it


class Word(NamedTuple):
    """A word of a text, and by how much the probability of a class falls without it."""

    word: str
    start: int  # places in the text
    end: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """Which words of a text speak for a class, and which against it.

    Attributes:
        text: The text as it is read: in one line, with composed letters.
        label: The class.
        probability: Its probability.
        words: The words that were left out, in the order of the text. A positive weight speaks for the class.
        more: How many words come behind them.
        unread: How many of these the learner does not read.
    """

    text: str
    label: Hashable
    probability: float
    words: tuple[Word, ...]
    more: int
    unread: int

    def __str__(self) -> str:
        """The text with deciding words in brackets: [+for] the class, or [-against] it; two signs where they decide most."""
        return self.to_terminal().plain

    def to_terminal(self) -> Text:
        """The same in colours, for `rich`; without colours, + and - still say what they say."""
        found = Text(f"{in_one_line(str(self.label))}: {100 * self.probability:.1f} %\n")
        for piece, word in self._pieces():
            strength = 0 if word is None else self._strength(word)
            if word is None or not strength:
                found.append(in_one_line(piece))
                continue
            sign = ("+" if word.weight > 0 else "-") * strength
            style = (_FOR if word.weight > 0 else _AGAINST)[2 - strength]
            found.append(f"[{sign}{in_one_line(piece)}]", style)
        return found.append("\n").append("\n".join(self._remarks()))

    def __rich__(self) -> Text:
        return self.to_terminal()

    def to_html(self) -> str:
        """A page of HTML, which needs no other file and runs no script."""
        title = f"{escaped(str(self.label))}: {100 * self.probability:.1f} %"
        return (
            '<!DOCTYPE html>\n<html lang="">\n<head>\n<meta charset="utf-8">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n"
            "<style>:root { color-scheme: light dark } body { font: 16px/1.7 system-ui, sans-serif; max-width: 50rem; "
            "margin: 2rem auto; padding: 0 1rem }</style>\n"
            f"</head>\n<body>\n{self._repr_html_()}\n</body>\n</html>\n"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        pieces = "".join(escaped(piece) if word is None else self._marked(piece, word) for piece, word in self._pieces())
        remarks = "<br>\n".join(map(escaped, self._remarks()))
        return (
            f"<div>\n<p><b><bdi>{escaped(str(self.label))}</bdi></b>: {100 * self.probability:.1f} %</p>\n"
            f'<p dir="auto" style="overflow-wrap:anywhere">{pieces}</p>\n<p dir="auto"><small>{remarks}</small></p>\n</div>'
        )

    def _marked(self, piece: str, word: Word) -> str:
        if abs(word.weight) < _LEAST:
            return escaped(piece)
        share = 0.6 * abs(word.weight) / self._largest
        colour = f"rgba({_COLOURS[word.weight > 0]},{share:.2f})"
        number = f'<sup dir="ltr">{100 * word.weight:+.0f}</sup>' if self._strength(word) else ""
        return (
            f'<span style="background:{colour};border-radius:3px" title="{100 * word.weight:+.1f}">{escaped(piece)}</span>'
            + number
        )

    @property
    def _largest(self) -> float:
        return max((abs(word.weight) for word in self.words), default=0.0) or 1.0

    def _strength(self, word: Word) -> int:
        """2 for a word that decides much, 1 for one that decides less, and 0."""
        if abs(word.weight) < _LEAST:
            return 0
        share = abs(word.weight) / self._largest
        return 2 if share >= _STRONG else 1 if share >= _WEAK else 0

    def _pieces(self) -> Iterator[tuple[str, Word | None]]:
        """The text in pieces: words, and what lies between them."""
        place = 0
        for word in self.words:
            if word.start > place:
                yield self.text[place : word.start], None
            yield _short(self.text[word.start : word.end]), word
            place = word.end
        if rest := self.text[place : place + _BEHIND]:
            yield rest + ("…" if len(self.text) > place + _BEHIND else ""), None

    def _remarks(self) -> list[str]:
        strongest = sorted(self.words, key=lambda word: -abs(word.weight))[:_LISTED]
        told = [f'"{_short(word.word)}" {100 * word.weight:+.1f}' for word in strongest if abs(word.weight) >= _LEAST]
        lines = [
            f"points that the probability falls without a word: {in_one_line(', '.join(told))}"
            if told
            else "no word changes this by itself: without any one of them, the probability is the same"
        ]
        if self.more:
            count = len(self.words) + self.more
            lines.append(
                f"the first {len(self.words):,} of {count:,} words were left out, one at a time"
                + (f"; {self.unread:,} of the others are not read" if self.unread else "")
            )
        return lines


def _short(word: str) -> str:
    """A word as it is shown: letters without a space may go on for a megabyte."""
    return word if len(word) <= _LONGEST_WORD else f"{word[:_LONGEST_WORD]}…"


def refuse_explanation(algorithm: Algorithm, name: str) -> None:
    """Raise `BadInput` where texts cannot be asked one by one."""
    if algorithm.transductive:
        raise BadInput(
            f"explain() asks a text again and again without one of its words, and this {name} answers all queries of a call "
            "together: use one such as protonet"
        )


def explained_text(query: Any) -> str:
    """The text of a query, cleaned.

    Raises:
        BadValue: It is no text, or has nothing to read.
    """
    if not isinstance(query, str):
        raise BadValue(f"query={shown(query)} cannot be used; allowed: one text, since explain() is for one at a time")
    text = cleaned(query)
    if is_blank(text):
        raise BadValue("the text has nothing to read, and so no word that could be left out")
    return text


def place_of(label: Any, classes: Sequence[Hashable]) -> int:
    """The place of a class.

    Raises:
        BadValue: It is none of them.
    """
    try:
        hash(label)
    except TypeError:
        raise BadValue(f"of={shown(label)} is none of the classes; allowed: {one_of(map(str, classes))}") from None
    found = [place for place, known in enumerate(classes) if type(known) is type(label) and known == label] or [
        place for place, known in enumerate(classes) if known == label
    ]
    if not found:
        raise BadValue(f"of={shown(label)} is none of the classes; allowed: {one_of(map(str, classes), str(label))}")
    return found[0]


def explained(
    text: str,
    classes: Sequence[Hashable],
    place: int | None,
    most: int,
    reader: TextReader,
    asked: Callable[[Sequence[str]], NDArray[np.float64]],
) -> Explanation:
    """Leave out the words of a text, one at a time.

    Args:
        text: The text, cleaned.
        classes: The classes.
        place: Which of them is looked at; None for the predicted one.
        most: How many words are left out, the first ones.
        reader: How texts are read.
        asked: The class probabilities [N, classes] of texts.
    """
    places = list(places_of(text))
    read = _read(text, places, reader)
    chosen = places[: min(most, read)]
    probabilities = asked([text[: reader.longest + 1], *(_without(text, *each, reader) for each in chosen)])
    label = int(probabilities[0].argmax()) if place is None else place
    whole = float(probabilities[0, label])
    words = tuple(
        Word(text[start:end], start, end, whole - float(without))
        for (start, end), without in zip(chosen, probabilities[1:, label], strict=True)
    )
    return Explanation(text, classes[label], whole, words, len(places) - len(chosen), len(places) - read)


def _without(text: str, start: int, end: int, reader: TextReader) -> str:
    """The text without a word, as far as it is read."""
    return text[:start] + text[end : reader.longest + end - start + _SLACK]


def _read(text: str, places: Sequence[tuple[int, int]], reader: TextReader) -> int:
    """How many words of a text are read, in part at least."""
    if reader.takes_whole(text):
        return len(places)
    fewest, most = 0, len(places)  # wholly read, and not
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fewest, most = (middle, most) if reader.takes_whole(text[: places[middle - 1][1]]) else (fewest, middle)
    is_begun = fewest < len(places) and reader.takes_whole(text[: places[fewest][0] + 1])
    return max(1, fewest + is_begun)
