"""Addressed random numbers: the published known answers, and that a word depends on its address alone."""

import numpy as np
import pytest

from metashot.randomness import distinct_numbers, key_of, philox, random_words

# Random123's known-answer vectors (kat_vectors) of philox4x32 with 10 rounds: counter, key, words.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def integers(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_published_known_answers(counter: str, key: str, words: str) -> None:
    first, second = integers(key)
    answer = philox(tuple(np.array([word], dtype=np.uint64) for word in integers(counter)), (first, second))
    assert [int(word[0]) for word in answer] == integers(words)


def test_philox_of_an_array_is_that_of_its_elements() -> None:
    counters = [np.array([integers(vector[0])[word] for vector in KNOWN_ANSWERS], dtype=np.uint64) for word in range(4)]
    together = philox(tuple(counters), (1, 2))
    for place in range(len(KNOWN_ANSWERS)):
        alone = philox(tuple(counter[place : place + 1] for counter in counters), (1, 2))
        assert [int(word[0]) for word in alone] == [int(word[place]) for word in together]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 33])
def test_asking_for_more_words_keeps_the_first_ones(size: int) -> None:
    numbers = np.array([0, 5, 2**40])
    words = random_words((7, 9), numbers, 1, size)
    assert words.shape == (3, size)
    assert np.array_equal(words, random_words((7, 9), numbers, 1, 100)[:, :size])


def test_a_word_does_not_depend_on_the_numbers_beside_it() -> None:
    numbers = np.array([[3, 2**33 + 3], [0, 10**15]])
    together = random_words((7, 9), numbers, 0, 6)
    assert together.shape == (2, 2, 6)
    for place in np.ndindex(numbers.shape):
        assert np.array_equal(random_words((7, 9), numbers[place].reshape(1), 0, 6)[0], together[place])


def test_words_differ_with_key_number_stream_and_position() -> None:
    # 2**32 + 3 shares its low half with 3.
    addresses = [((7, 9), 3, 0), ((7, 8), 3, 0), ((6, 9), 3, 0), ((7, 9), 4, 0), ((7, 9), 2**32 + 3, 0), ((7, 9), 3, 1)]
    words = [random_words(key, np.array([number]), stream, 50) for key, number, stream in addresses]
    assert len(np.unique(np.concatenate(words))) == 50 * len(addresses)
    assert max(int(some.max()) for some in words) < 2**32


def test_words_are_those_of_the_documented_counter() -> None:
    number = 5 * 2**32 + 6
    words = random_words((7, 9), np.array([number]), 3, 12)[0]
    for block in range(3):
        answer = philox(tuple(np.array([word], dtype=np.uint64) for word in (block, 3, 6, 5)), (7, 9))
        assert [int(word[0]) for word in answer] == words[4 * block : 4 * block + 4].tolist()


def test_keys_tell_their_names_apart() -> None:
    names: list[tuple[int | str, ...]] = [(0, "train"), (0, "val"), (1, "train"), (0, "1"), (0, 1), (1, "1"), ("0", "train")]
    assert len({key_of(*name) for name in names}) == len(names)
    assert all(0 <= word < 2**32 for name in names for word in key_of(*name))
    # Stored once: another value changes every episode of every user.
    assert key_of(0, "train") == (187477601, 3736864266)


def test_distinct_numbers_are_the_first_different_ones_of_a_sequence() -> None:
    numbers, bounds = np.array([0, 5, 2**40]), np.array([[10, 1000, 3]] * 3)
    few = distinct_numbers((7, 9), numbers, 1, bounds, 3)
    many = distinct_numbers((7, 9), numbers, 1, bounds, 10)
    assert np.array_equal(few, many[..., :3])
    assert (np.sort(many[:, 0]) == np.arange(10)).all()
    assert all(len(set(row)) == 10 for row in many[:, 1].tolist())
    assert (np.sort(many[:, 2, :3]) == np.arange(3)).all()
    assert not np.array_equal(many, distinct_numbers((7, 9), numbers, 2, bounds, 10))
    assert np.array_equal(many[1:2], distinct_numbers((7, 9), numbers[1:2], 1, bounds[1:2], 10))
