"""A benchmark replaces its own part of a file, and nothing else of anybody's."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from benchmarks.heads import command as heads
from benchmarks.outputs import between, refuse_json, write_json

BEGIN, END = "<!-- begin -->", "<!-- end -->"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_only_the_part_between_the_lines_is_replaced(file: Path, newline: str) -> None:
    before, after = f"a {BEGIN} mention of {END}\n\n", "\nbelow ü\n"
    file.write_bytes(f"{before}{BEGIN}\nold\n{END}\n{after}".replace("\n", newline).encode())
    for new in ("first", "second"):
        part = between(ArgumentParser(), file, BEGIN, END)
        assert part is not None
        part.replace(new)
        assert file.read_bytes().decode() == f"{before}{BEGIN}\n\n{new}\n\n{END}\n{after}".replace("\n", newline)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        f"{BEGIN}\n".encode(),
        f"{END}\n{BEGIN}\n".encode(),
        f"{END}\n{BEGIN}\nold\n{END}\n".encode(),
        f"{BEGIN}\n{BEGIN}\n{END}\n".encode(),
        f"\xff{BEGIN}\n{END}\n".encode("latin-1"),
    ],
)
def test_a_file_without_such_a_part_is_refused(file: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        between(ArgumentParser(), file, BEGIN, END)
    assert ended.value.code == 2
    assert f"--markdown={file} " in capsys.readouterr().err
    assert file.read_bytes() == content


def test_an_earlier_measurement_is_replaced_and_another_file_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, foreign, nowhere = tmp_path / "own.json", tmp_path / "foreign.json", tmp_path / "no" / "own.json"
    refuse_json(ArgumentParser(), own)
    write_json(own, {"machine": "this one"})
    refuse_json(ArgumentParser(), own)
    for content in ('{"mine": 1}', "3", "text", ""):
        foreign.write_text(content)
        with pytest.raises(SystemExit):
            refuse_json(ArgumentParser(), foreign)
        assert "no earlier measurement" in capsys.readouterr().err
        assert foreign.read_text() == content
    with pytest.raises(SystemExit):
        refuse_json(ArgumentParser(), nowhere)
    assert "its folder does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        refuse_json(ArgumentParser(), tmp_path)
    assert "this is a folder" in capsys.readouterr().err


def test_a_page_keeps_its_rows_where_nothing_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, folder = tmp_path / "page.md", tmp_path / "runs"
    page.write_text(f"{heads.BEGIN}\nmeasured before\n{heads.END}\n")
    with pytest.raises(SystemExit) as ended:
        heads.run(["table", "--folder", str(folder), "--markdown", str(page)])
    assert ended.value.code == 2
    assert f"no reports in {folder}" in capsys.readouterr().err
    assert "measured before" in page.read_text()
