"""Pictures are there whole or not at all, and names are shown as the fonts can show them."""

from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.evaluation.pictures.drawing import names_in_a_line, new_figure, wrapped_names, write_picture


def test_a_picture_that_cannot_be_drawn_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    write_picture(new_figure(1, 1), path)
    before = path.read_bytes()
    figure = new_figure(1, 1)
    figure.suptitle(r"$\nothing$")
    with pytest.raises(ValueError, match="nothing"):
        write_picture(figure, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_has_no_place_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.mkdir()
    with pytest.raises(BadInput, match=r"picture\.png cannot be written"):
        write_picture(new_figure(1, 1), path)
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_the_fonts_may_lack_are_labels() -> None:
    assert wrapped_names(["字", "\t", "", "fox"], [30, 7, 8, 2]) == ["class 30", "class 7", "class 8", "fox"]
    assert wrapped_names(["שלום", "سلام", "🦊"], [1, 2, 3]) == ["class 1", "class 2", "class 3"]
    shown = ["Käse", "ελληνικά", "Кириллица"]
    assert wrapped_names(shown, [1, 2, 3]) == shown
    assert wrapped_names(["Ka\N{COMBINING DIAERESIS}se"], [1]) == ["Käse"]  # as some file systems keep it
    assert names_in_a_line(["fox", "字"]) == ["0: fox", "class 1"]


def test_wrapped_names_are_not_taken_for_formulas() -> None:
    assert wrapped_names(["$a$"], [0]) == [r"\$a\$"]


def test_wrapped_names_that_differ_at_their_end_differ() -> None:
    names = [f"canadian_syllabics_carrier_letter_number_{place}" for place in range(3)]
    wrapped = wrapped_names(names, range(3))
    assert len(set(wrapped)) == 3
    for name, text in zip(names, wrapped, strict=True):
        lines = text.split("\n")
        assert len(lines) <= 3
        assert max(map(len, lines)) <= 20
        assert text[-8:] == name[-8:]


def test_wrapped_names_that_still_look_the_same_have_their_labels() -> None:
    names = ["a" * 20 + middle + "b" * 20 for middle in "xyz"]
    assert len(set(wrapped_names(names, [4, 8, 15]))) == 3
    assert [text.split(":")[0] for text in wrapped_names(names, [4, 8, 15])] == ["4", "8", "15"]
