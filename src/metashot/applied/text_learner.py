"""The learner that predicts classes of texts."""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metashot.applied.arrays import number_of
from metashot.applied.class_learner import Classifier
from metashot.applied.explaining import (
    MOST_WORDS,
    PREDICTED,
    Explanation,
    explained,
    explained_text,
    place_of,
    refuse_explanation,
)
from metashot.applied.labels import labels_of
from metashot.applied.learner import Device, Fitted, Items
from metashot.applied.texts import (
    EmptyTexts,
    ReadTexts,
    TextReader,
    TextsCut,
    given_texts,
    refuse_blank,
    warning_of_cut,
    warning_of_empty,
)
from metashot.episodes import Examples
from metashot.sources.texts.code_points import cleaned, texts_of


class TextLearner(Classifier):
    """A classifier of texts, in any language and of any length.

    White space, control characters and the composition of letters make no difference. A text that is longer than the learner
    reads is cut, with a `TextsCut` warning. A query without anything to read, such as "", is answered with an `EmptyTexts`
    warning, and is always "unknown" where `unknown` is given; an example like that is refused.
    """

    _one, _noun = "text", "texts"

    def __init__(self, checkpoint: str | os.PathLike[str], device: Device = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = device

    @property
    def reader(self) -> TextReader:
        """How texts are read: `reader.tokens` are read of a text, and `reader.longest` characters are kept."""
        return self.network.reader

    @property
    def texts(self) -> list[str]:
        """The texts of the examples that it was fitted to, class by class, as they are kept."""
        return texts_of(self._state().examples.x.numpy())

    def fit(self, texts: Any, labels: Any) -> Self:
        """Adapt to labelled texts. An earlier fit is replaced.

        Args:
            texts: A list, an array [N] or a column of strings.
            labels: One hashable label per text, from at least two classes.

        Returns:
            The learner itself, now fitted.

        Raises:
            BadInput: The texts or labels cannot be used.
        """
        reader, given = self.reader, [cleaned(text) for text in given_texts(texts)]
        refuse_blank(given)
        fitted = self._fitted = self._adapted(reader.kept(given), labels_of(labels, self._one), None)
        longer = [text[: reader.longest] for text in given if len(text) > reader.longest]
        cut = fitted.cut + sum(map(reader.takes_whole, longer))
        if message := warning_of_cut(cut, len(given), reader):
            warnings.warn(message, TextsCut, stacklevel=2)
        return self

    def read(self, texts: Any) -> ReadTexts:
        """Queries as `probabilities` and `unknown` take them, which need not read them again.

        Args:
            texts: A list, an array [N] or a column of strings.

        Raises:
            BadInput: They cannot be used.
        """
        return self.reader.read(given_texts(texts))

    def explain(self, query: Any, words: int | None = None, of: Any = PREDICTED) -> Explanation:
        """Say which words of a text decide how it is answered.

        Each word is left out once, and the text without it is read like any other. A word that is there twice is left out at
        one place at a time.

        Args:
            query: The text.
            words: How many words to leave out, the first ones; None for all that are read, up to 1,000.
            of: The class whose probability is looked at; the predicted one if it is not given.

        Returns:
            The text, the probability of the class, and by how much it falls without each word. It is printed with the
            deciding words marked, by `rich` in colours, and `to_html()` is a page of it.

        Raises:
            Unavailable: The learner is not fitted.
            BadInput: The text has nothing to read, the class is none of the learner's, or the learner answers all queries of
                a call together.
        """
        fitted, reader = self._state(), self.reader
        refuse_explanation(fitted.network.algorithm, fitted.network.name)
        text = explained_text(query)
        place = None if of is PREDICTED else place_of(of, fitted.classes)
        most = MOST_WORDS if words is None else number_of(words, MOST_WORDS, argument="words")

        def asked(texts: Sequence[str]) -> NDArray[np.float64]:
            return self._probabilities(fitted, reader.read(texts))

        return explained(text, fitted.classes, place, most, reader, asked)

    def restore(self, content: Mapping[str, Any]) -> None:
        self._fitted = Fitted.to(self.network, Examples(content["x"], content["y"]), content["classes"], None)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        texts = InputTags(one_d_array=True, two_d_array=False, string=True)
        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags(), input_tags=texts)

    def _prepared(self, queries: Any, fitted: Fitted) -> ReadTexts:
        reader = fitted.network.reader
        found = reader.read(given_texts(queries))
        if message := warning_of_cut(found.cut, len(found), reader):
            warnings.warn(message, TextsCut, stacklevel=3)
        if message := warning_of_empty(found.empty):
            warnings.warn(message, EmptyTexts, stacklevel=3)
        return found

    def _unknown(self, fitted: Fitted, items: Items, rate: float, together: bool) -> NDArray[np.bool_]:
        found = super()._unknown(fitted, items, rate, together)
        return found | items.empty if isinstance(items, ReadTexts) else found
