"""`metashot COMMAND ...` and `python -m metashot COMMAND ...`: the six scripts as commands of an installed metashot."""

import inspect
import sys
from pathlib import Path

from metashot.bad_input import BadInput, one_of
from metashot.commands.command_line import as_a_process
from metashot.commands.scripts import COMMANDS
from metashot.files.paths import quoted
from metashot.process.invocation import note_call, noted_command
from metashot.process.leftovers import is_child_of_lightning
from metashot.version import __version__


def main() -> None:
    """Run the command that the first argument names with the remaining ones, and exit with its exit code."""
    programme = "metashot" if Path(sys.argv[0]).stem == "metashot" else "python -m metashot"
    if is_child_of_lightning() and noted_command() in COMMANDS:  # its command line is Hydra's, without the command
        command = str(noted_command())
    elif len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        command = sys.argv.pop(1)
        note_call(programme, command)
    else:
        _answer(programme, sys.argv[1:])
        return
    COMMANDS[command]()


@as_a_process
def _answer(programme: str, given: list[str]) -> None:
    if given[:1] in (["--help"], ["-h"], ["help"]):
        print(_help(programme))
    elif given[:1] == ["--version"]:
        print(f"metashot {__version__}")
    elif not given:
        raise BadInput(f"no command was given; allowed: {one_of(COMMANDS)} ({programme} --help explains them)")
    elif "=" in given[0]:
        raise BadInput(f"{quoted(given[0])} is not a command: give one first, as in {programme} train {given[0]}")
    else:
        allowed = one_of([*COMMANDS, "--help", "--version"], given[0])
        raise BadInput(f"unknown command {quoted(given[0])}; allowed: {allowed}")


def _help(programme: str) -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {inspect.getdoc(command)}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Train, score and apply few-shot learners.",
            "",
            f"  {programme} COMMAND [group=choice ...] [key=value ...]",
            "",
            *lines,
            "",
            f"{programme} COMMAND --help lists the groups and keys of a command; {programme} --version prints the version.",
            "Runs are kept in runs/ and data sets in data/, below the working folder.",
        ]
    )


if __name__ == "__main__":
    main()
