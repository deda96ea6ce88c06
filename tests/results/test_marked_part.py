"""The generated part of a text file: the rest of it is its author's."""

import os
from pathlib import Path

import pytest

from metashot.bad_input import BadInput
from metashot.results.marked_part import MarkedPart

BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def part_of(path: Path) -> MarkedPart:
    return MarkedPart(path, BEGIN, END, "readme")


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_the_part_is_replaced_and_the_rest_stays_to_the_byte(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "README.md"
    before, after = f"# Über{newline}{newline}  text \x0c {newline}", f"{newline}\tend without a line"
    path.write_bytes(f"{before}{BEGIN}{newline}old{newline}{END}{newline}{after}".encode())
    part = part_of(path)
    part.replace("| a |\n| b |")
    inside = newline.join([BEGIN, "", "| a |", "| b |", "", END, ""])
    assert path.read_bytes().decode() == before + inside + after
    assert part.text == "| a |\n| b |"
    part.replace(part.text)
    assert path.read_bytes().decode() == before + inside + after


def test_a_byte_order_mark_before_the_first_line_stays(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"{BEGIN}\nold\n{END}\nmore", encoding="utf-8-sig")
    part = part_of(path)
    assert part.text == "old"
    part.replace("new")
    assert path.read_bytes().decode() == f"\ufeff{BEGIN}\n\nnew\n\n{END}\nmore"


@pytest.mark.parametrize(
    "text",
    [
        "",
        BEGIN,
        END,
        f"{END}\n{BEGIN}\n",
        f"{BEGIN}\n{BEGIN}\n{END}\n",
        f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n",
        f"a {BEGIN}\n{END}",
    ],
)
def test_a_file_without_each_line_once_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"readme=.*does not have one line <!-- results -->"):
        part_of(path)
    assert path.read_text() == text


def test_lines_that_are_lost_meanwhile_are_missed_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"{BEGIN}\n{END}\n")
    part = part_of(path)
    path.write_text("another text")
    with pytest.raises(BadInput, match="does not have one line"):
        part.replace("new")
    assert path.read_text() == "another text"


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "picture").write_bytes(b"\xff\xfe\x00")
    for name, message in (("nowhere", "does not exist"), ("pipe", "a pipe"), ("picture", "UTF-8"), (".", "directory")):
        with pytest.raises(BadInput, match=f"readme=.*{message}"):
            part_of(tmp_path / name)


def test_a_link_stays_a_link_and_the_file_keeps_its_mode(tmp_path: Path) -> None:
    path, link = tmp_path / "text.md", tmp_path / "README.md"
    path.write_text(f"{BEGIN}\n{END}\n")
    path.chmod(0o640)
    link.symlink_to("text.md")
    part_of(link).replace("new")
    assert link.is_symlink()
    assert "new" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(found.name for found in tmp_path.iterdir()) == ["README.md", "text.md"]
