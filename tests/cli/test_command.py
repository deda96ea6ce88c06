"""`metashot COMMAND ...`, which is train.py and its siblings under one name."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import metashot

from .conftest import Command, Trained
from .processes import rows

MAIN = "src/metashot/__main__.py"


def test_help_has_a_line_for_each_command(command: Command) -> None:
    outcome = command.run(MAIN, "--help")
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    for name in ("train", "evaluate", "predict", "data", "page", "results"):
        assert len([line for line in lines if line.startswith(f"  {name} ")]) == 1, name


def test_version_is_that_of_the_package(command: Command) -> None:
    assert command.run(MAIN, "--version").out == f"metashot {metashot.__version__}\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["evalute", "ckpt=x"], "unknown command evalute"),
        (["evalute"], "did you mean evaluate?"),
        ([], "no command was given; allowed: data, evaluate, page, predict, results, train"),
        (["algo=maml"], "give one first, as in python -m metashot train algo=maml"),
        (["--hlep"], "did you mean --help?"),
        (["train", "algo=protonett"], "did you mean protonet?"),
        (["evaluate", "ckpt=nowhere"], "ckpt=nowhere: there is no such file or folder"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_exit_code_2(command: Command, given: list[str], message: str) -> None:
    outcome = command.run(MAIN, *given)
    assert outcome.code == 2, outcome
    assert message in outcome.err
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["train", "evaluate", "predict", "data", "page", "results"])
def test_help_of_a_command_is_that_of_its_script_in_its_own_words(command: Command, name: str) -> None:
    modules = {
        "predict": "src/metashot/predict.py",
        "data": "src/metashot/data/__main__.py",
        "page": "src/metashot/page/__main__.py",
        "results": "src/metashot/results/__main__.py",
    }
    typed = f"python -m metashot.{name}" if name in modules else f"python {name}.py"
    of_script = command.run(modules.get(name, f"{name}.py"), "--help").out
    of_command = command.run(MAIN, name, "--help").out
    assert f"  {typed} " in of_script
    assert f"  python -m metashot {name} " in of_command
    assert ".py " not in of_command
    assert of_command.partition("== ")[2].splitlines()[:5] == of_script.partition("== ")[2].splitlines()[:5]


def test_a_stopped_run_says_how_to_go_on_in_the_words_it_was_called_with(command: Command) -> None:
    process = command.start(MAIN, "train", *command.small("folder=run"))
    assert process.wait_until(lambda: len(rows(command.folder / "run")) > 2), process.wait()
    process.send(signal.SIGINT)
    outcome = process.wait()
    assert outcome.code == 130, outcome
    assert "go on with: python -m metashot train resume=run" in outcome.err, outcome


def test_a_command_does_what_its_script_does(command: Command, first: Trained) -> None:
    given = (f"ckpt={first.run}", f"data.banks={command.banks}", "episodes=4", "pictures=none")
    by_script = command.run("evaluate.py", *given, "out=one").table
    by_command = command.run(MAIN, "evaluate", *given, "out=two").table
    assert by_script["accuracy"] == by_command["accuracy"]


@pytest.mark.parametrize("programme", [["-m", "metashot"], [str(Path(sys.executable).with_name("metashot"))]])
@pytest.mark.long
def test_lightning_starts_the_other_processes_of_a_command(command: Command, programme: list[str]) -> None:
    """Which repeat the command line that Hydra has read, without the name of the command."""
    if programme[0] != "-m" and not Path(programme[0]).exists():
        pytest.skip("metashot is not installed, but found by PYTHONPATH")
    short = ("trainer.max_steps=4", "trainer.validate_every=2", "data.val.episodes=4", "data.test.episodes=4")
    arguments = command.small("algo=maml", "trainer=ddp", "trainer.devices=2", *short, "folder=run")
    done = subprocess.run(
        [sys.executable, *programme, "train", *arguments],
        cwd=command.folder,
        env=command.scripts.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (command.folder / "run" / "report.json").is_file()
