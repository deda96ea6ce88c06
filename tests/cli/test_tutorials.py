"""The tutorials as a newcomer follows them: their files are written to the letter, and their commands are run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Command
from .processes import ROOT

TUTORIALS = ROOT / "docs" / "tutorials"
FOLLOWED = ("algorithm", "backbone", "problem", "source")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"(?:# @package _global_\n)?# ([\w./-]+\.\w+)\n")
_SCRIPTS = {"train": "train.py", "evaluate": "evaluate.py"}  # that start from the launcher, which has imported torch


def files_of(tutorial: str) -> dict[str, str]:
    """The files that a tutorial tells its reader to write; a comment at the top of a block names each."""
    blocks = [text for language, text in _BLOCK.findall(tutorial) if language]
    return {match[1]: text for text in blocks if (match := _NAME.match(text))}


def commands_of(tutorial: str) -> list[list[str]]:
    lines = [line for language, text in _BLOCK.findall(tutorial) if not language for line in text.splitlines()]
    return [words for line in lines if (words := shlex.split(line)) and words[0] in ("metashot", "python")]


def follow(words: list[str], command: Command, path: str) -> None:
    if words[0] == "metashot" and words[1] in _SCRIPTS:
        outcome = command.run(_SCRIPTS[words[1]], *words[2:], PYTHONPATH=path)
        assert outcome.code == 0, outcome
        return
    call = [sys.executable, *(["-m", "metashot"] if words[0] == "metashot" else []), *words[1:]]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(call, cwd=command.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_tutorial_does_what_it_says(name: str, command: Command) -> None:
    text = (TUTORIALS / f"{name}.md").read_text()
    files, commands = files_of(text), commands_of(text)
    assert files
    assert commands
    for path, content in files.items():
        place = command.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
        if (package := command.folder / Path(path).parts[0]).is_dir():
            (package / "__init__.py").touch()
    (command.folder / "data").mkdir()
    (command.folder / "data" / "banks").symlink_to(command.banks)  # where other tests have built glyphs
    for words in commands:
        follow(words, command, os.pathsep.join([str(command.folder), str(ROOT / "src")]))


def test_every_tutorial_is_followed() -> None:
    assert {path.stem for path in TUTORIALS.glob("*.md") if files_of(path.read_text())} == set(FOLLOWED)
