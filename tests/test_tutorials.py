"""The tutorials as a newcomer follows them: their files are written as they stand there, and their commands are run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"(?:# @package _global_\n)?# ([\w./-]+\.\w+)\n")
_PROGRAMS = {"metashot": [sys.executable, "-m", "metashot"], "python": [sys.executable]}


def files_of(tutorial: str) -> dict[str, str]:
    """The files that a tutorial tells its reader to write, to the letter; a comment at the top of a block names each."""
    blocks = [text for language, text in _BLOCK.findall(tutorial) if language]
    return {match[1]: text for text in blocks if (match := _NAME.match(text))}


def commands_of(tutorial: str) -> list[list[str]]:
    lines = [line for language, text in _BLOCK.findall(tutorial) if not language for line in text.splitlines()]
    return [[*_PROGRAMS[words[0]], *words[1:]] for line in lines if (words := shlex.split(line)) and words[0] in _PROGRAMS]


@pytest.mark.parametrize("name", ["algorithm", pytest.param("backbone", marks=pytest.mark.long), "problem", "source"])
def test_a_tutorial_does_what_it_says(name: str, tmp_path: Path) -> None:
    text = (TUTORIALS / f"{name}.md").read_text()
    files, commands = files_of(text), commands_of(text)
    assert files
    assert commands
    for path, content in files.items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
        if (package := tmp_path / Path(path).parts[0]).is_dir():
            (package / "__init__.py").touch()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")]), "OMP_NUM_THREADS": "1"}
    for command in commands:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"


def test_every_tutorial_is_followed() -> None:
    with_files = {path.stem for path in TUTORIALS.glob("*.md") if files_of(path.read_text())}
    (followed,) = (mark.args[1] for mark in test_a_tutorial_does_what_it_says.pytestmark)  # type: ignore[attr-defined]
    assert with_files == {one if isinstance(one, str) else one.values[0] for one in followed}
