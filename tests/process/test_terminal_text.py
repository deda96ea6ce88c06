"""Texts of anyone in a terminal: on one line, as wide as they may be, and without effects."""

import pytest
from rich.cells import cell_len

from metashot.process.terminal_text import padded_text, shortened_text


@pytest.mark.parametrize(
    "text",
    [
        "short",
        "a" * 1000,
        "我的包裹在哪里" * 10,
        "📦" * 50,
        "👩‍👩‍👧‍👦" * 10,
        "e\u0301" * 60,
        "أين طردي " * 20,
        "x\u0301" * 500_000,
        "",
    ],
)
@pytest.mark.parametrize("width", [2, 11, 20, 80])
def test_a_text_is_as_wide_as_it_may_be_and_no_wider(text: str, width: int) -> None:
    found = shortened_text(text, width)
    assert cell_len(found) <= width
    assert found.endswith("…") == (found != text.strip())
    if found.endswith("…"):
        assert cell_len(found) >= width - 3  # a character of two cells, and a space, may not fit
    assert cell_len(padded_text(found, width)) == width


@pytest.mark.parametrize("text", ["\x1b[2J", "a\x00b", "a\u202eb\u2066", "\x9b31m", "\ud800", "a\rb\x08\x07"])
def test_control_characters_and_changes_of_direction_are_shown_and_have_no_effect(text: str) -> None:
    assert shortened_text(text, 80).isprintable()


def test_line_breaks_and_rows_of_spaces_become_one_space() -> None:
    assert shortened_text(" a\n\n  b\tc\u2028d ", 80) == "a b c d"
