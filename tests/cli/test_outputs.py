"""The other scripts replace no file that metashot did not write, and say so before they begin."""

from pathlib import Path

import pytest

from .conftest import Command, Trained
from .processes import contents
from .test_bad_input import refused

LOOK = "src/metashot/data/__main__.py"
FOREIGN = ("report.json", "report.md", "episodes.csv", "episode.png")


@pytest.mark.parametrize("name", FOREIGN)
def test_evaluation_leaves_files_of_its_user_alone(command: Command, first: Trained, name: str) -> None:
    (command.folder / "mine").mkdir()
    (command.folder / "mine" / name).write_text("mine")
    before = contents(command.folder)
    outcome = command.run("evaluate.py", f"ckpt={first.run}", "episodes=4", "out=mine")
    refused(outcome, [f"mine/{name} would be replaced", "out="])
    assert contents(command.folder) == before


def test_evaluation_replaces_an_earlier_one_of_its_own(command: Command, first: Trained) -> None:
    given = (f"ckpt={first.run}", "out=scores", "pictures=all")
    for episodes in (4, 5):
        outcome = command.run("evaluate.py", *given, f"episodes={episodes}")
        assert outcome.code == 0, outcome
    assert outcome.table["episodes"].startswith("5 ")
    assert not list(Path(command.folder).rglob("*.writing"))


def test_look_leaves_a_picture_of_its_user_alone(command: Command) -> None:
    (command.folder / "sheet.png").write_bytes(b"mine")
    given = ("data=glyphs", f"data.banks={command.banks}")
    refused(command.run(LOOK, *given, "out=sheet.png"), ["sheet.png would be replaced", "out="])
    assert (command.folder / "sheet.png").read_bytes() == b"mine"
    for _ in range(2):
        assert command.run(LOOK, *given, "out=other.png").code == 0
