"""Near duplicates across splits are found, none is reported that is not one, and no input takes quadratic time."""

import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from metashot.sources.texts import near_duplicates as module
from metashot.sources.texts.near_duplicates import LEAST_SIMILARITY, near_duplicates, similarities

WORDS = [
    f"{first}{second}"
    for first in ("ba", "ke", "lo", "mu", "ni", "po", "ru")
    for second in ("dar", "fin", "gol", "sem", "tuk")
]


def found(texts: Sequence[str], splits: Sequence[int], longest: int = 1000) -> NDArray[np.int64]:
    def read(rows: NDArray[Any]) -> list[str]:
        return [texts[row] for row in rows]

    return near_duplicates(read, np.array(splits, np.int8), 3, longest)


def grams(text: str) -> set[str]:
    text = module._normal(text)
    return {text[place : place + 4] for place in range(len(text) - 3)}


def jaccard(one: str, other: str) -> float:
    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


def sentences(count: int, seed: int) -> list[str]:
    """Random sentences, of which many are others with one or two words changed."""
    random = np.random.default_rng(seed)
    made: list[list[str]] = []
    for _ in range(count):
        if made and random.random() < 0.5:
            words = list(made[random.integers(len(made))])
            for _ in range(random.integers(0, 3)):
                words[random.integers(len(words))] = WORDS[random.integers(len(WORDS))]
        else:
            words = [WORDS[number] for number in random.integers(len(WORDS), size=random.integers(2, 30))]
        made.append(words)
    return [" ".join(words) for words in made]


def test_similarities_are_those_of_sets_of_grams() -> None:
    texts = [*sentences(60, 0), "", "a", "ab!", "日本語のテキスト", "👩‍👩‍👧", "..."]
    pairs = list(combinations(range(len(texts)), 2))
    computed = similarities([texts[one] for one, _ in pairs], [texts[other] for _, other in pairs])
    assert computed.tolist() == pytest.approx([jaccard(texts[one], texts[other]) for one, other in pairs])


def test_nearly_all_near_duplicates_are_found_and_nothing_else_is() -> None:
    texts = sentences(600, 1)
    splits = np.random.default_rng(2).integers(-1, 3, size=len(texts)).tolist()
    partners = found(texts, splits)
    sets = [grams(text) for text in texts]
    expected, missed = 0, 0
    for row, split in enumerate(splits):
        for other in range(3):
            alike = [
                place
                for place, of in enumerate(splits)
                if of == other != split >= 0
                and len(sets[row] & sets[place]) >= LEAST_SIMILARITY * len(sets[row] | sets[place])
            ]
            partner = partners[row, other]
            assert partner == -1 or partner in alike
            expected += bool(alike)
            missed += bool(alike) and partner == -1
    assert expected > 100
    assert missed <= 0.02 * expected


def test_case_and_punctuation_make_no_difference_but_words_do() -> None:
    texts = ["Where is my parcel?", "where is my parcel", "Where was her letter?", "x", "X", "y", "!", "!", "?"]
    partners = found(texts, [0, 2, 2, 0, 1, 1, 0, 1, 1])
    assert partners[0].tolist() == [-1, -1, 1]
    assert partners[1].tolist() == [0, -1, -1]
    assert partners[2].tolist() == [-1, -1, -1]
    assert partners[3].tolist() == [-1, 4, -1]
    assert partners[5].tolist() == [-1, -1, -1]
    assert partners[6].tolist() == [-1, 7, -1]  # texts without words are compared as they are
    assert partners[8].tolist() == [-1, -1, -1]


def test_texts_of_one_split_are_not_compared() -> None:
    texts = ["where is my parcel"] * 4
    assert (found(texts, [0, 0, 0, 0]) == -1).all()
    assert (found(texts, [-1, 0, -1, -1]) == -1).all()
    assert (found(texts, [-1, -1, -1, -1]) == -1).all()
    assert found(texts, [0, 0, 1, 2])[:, 1].tolist() == [2, 2, -1, 2]  # each of the equal ones


def test_many_texts_that_are_alike_take_no_quadratic_time() -> None:
    """A template with a number in each: all 10,000 x 10,000 pairs are near duplicates."""
    texts = [
        f"your order with the long and winding number {number:05} has been sent to the address that you gave"
        for number in range(20_000)
    ]
    started = time.perf_counter()
    partners = found(texts, [number % 2 for number in range(len(texts))])
    assert time.perf_counter() - started < 30
    assert ((partners >= 0).sum(1) == 1).mean() > 0.99


def test_long_texts_are_read_in_small_pieces() -> None:
    most = 0
    texts = ["long " * 20_000] * 400

    def read(rows: NDArray[Any]) -> list[str]:
        nonlocal most
        most = max(most, sum(len(texts[row]) for row in rows))
        return [texts[row] for row in rows]

    partners = near_duplicates(read, np.array([0, 1] * 200, np.int8), 3, 10**5)
    assert most <= module._READ_AT_ONCE
    assert (partners[::2, 1] >= 0).all()
