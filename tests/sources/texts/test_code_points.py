"""Texts come out of a bank as they went into it, whatever script they are in."""

import time

import numpy as np
import pytest

from metashot.sources.texts.code_points import PADDING, cleaned, code_points, texts_of

TEXTS = ["where is my parcel", "", "我的包裹在哪里", "أين طردي؟", "👩‍👩‍👧 ❤️", "é", "\U0010ffff", "a" * 3000]


def test_texts_of_every_script_come_back_from_their_code_points() -> None:
    items, cut = code_points(TEXTS, 4096)
    assert (items.dtype, items.shape, cut) == (np.dtype(np.int32), (len(TEXTS), 3000), 0)
    assert texts_of(items) == TEXTS
    assert items[2, 7:].tolist() == [PADDING] * 2993
    assert texts_of(items.astype(np.int64)) == TEXTS


def test_longer_texts_are_cut_and_counted() -> None:
    items, cut = code_points(["abcde", "abc", "我的包裹", ""], 3)
    assert cut == 2
    assert texts_of(items) == ["abc", "abc", "我的包", ""]
    assert code_points(["abc"], 3)[1] == 0


def test_no_texts_and_empty_texts_have_one_column() -> None:
    assert code_points([], 10)[0].shape == (0, 1)
    assert texts_of(code_points([], 10)[0]) == []
    assert texts_of(code_points(["", ""], 10)[0]) == ["", ""]


def test_texts_of_many_pieces_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metashot.sources.texts.code_points._AT_ONCE", 7)
    texts = [str(number) * (number % 4) for number in range(50)]
    assert texts_of(code_points(texts, 100)[0]) == texts


def test_numbers_that_are_no_code_points_are_refused() -> None:
    for wrong in (-2, 0x110000):
        with pytest.raises(ValueError, match="not a code point"):
            texts_of(np.array([[97, wrong]], np.int32))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a \t b\r\nc\u2028d\u00a0e\u3000 ", "a b c d e"),
        ("e\u0301", "\u00e9"),
        ("\ufeffa\x00b\x07c\x1b[0m\x7f", "abc[0m"),
        ("e\x00\u0301", "\u00e9"),  # cleaned first, composed afterwards
        ("a\ud800b\udc00", "ab"),
        ("\ud83d\ude00", "😀"),
        ("\ud800é", "é"),
        ("\u200f\u0645\u200f", "\u200f\u0645\u200f"),  # marks of direction belong to a text
        ("👩‍👧", "👩‍👧"),
        ("\r\n\x00 \u2029", ""),
    ],
)
def test_cleaning_gives_one_form(text: str, expected: str) -> None:
    assert cleaned(text) == expected
    assert cleaned(expected) == expected


def test_a_text_of_marks_alone_takes_no_quadratic_time() -> None:
    started = time.perf_counter()
    text = cleaned("a" + "\u0315\u0300" * 100_000 + "b")
    assert time.perf_counter() - started < 2
    assert len(text) < 40
    assert text.startswith("à")
    assert text.endswith("b")
    assert cleaned(text) == text
