"""Texts as a user meets them: looked at with one command, and refused with one message."""

from pathlib import Path

import pytest

from tests.sources.texts.test_own import CLASSES, EACH, table

from .conftest import Command
from .processes import Scripts
from .test_bad_input import refused

LOOK = "src/metashot/data/__main__.py"


@pytest.fixture
def command(scripts: Scripts, tmp_path: Path) -> Command:
    """The scripts in an empty working directory, for which no bank of images is built."""
    return Command(scripts, tmp_path / "banks", tmp_path)


def test_texts_are_looked_at_with_one_command(command: Command, tmp_path: Path) -> None:
    table(tmp_path / "it.csv", encoding="utf-16")
    shape = ("data.ways=2", "data.shots=1", "data.queries=2", "data.source.shares=[1,1,1]")
    outcome = command.run(LOOK, "data=texts", "data.root=it.csv", "data.banks=banks", *shape)
    assert outcome.code == 0, outcome
    for words in (
        f"texts     {len(CLASSES) * EACH} of at most ",
        "train     4 classes, 12 texts",
        "read as utf-16",
        "class 0   class ",
    ):
        assert words in outcome.out, outcome.out


def test_wrong_columns_are_one_message(command: Command, tmp_path: Path) -> None:
    (tmp_path / "it.csv").write_text("body,topic\na,b\n")
    outcome = command.run(LOOK, "data=texts", "data.root=it.csv", "data.banks=banks")
    refused(outcome, ["it.csv: it has no column 'text'; its header has 'body, topic'", "data.source.text="])
    assert not any((tmp_path / "banks").glob("texts*"))
