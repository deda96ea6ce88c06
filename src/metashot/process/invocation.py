"""How metashot was called, so that messages name commands in the same way and the other processes of a run use the same."""

import os
import re
from collections.abc import Mapping

_CALLED_AS = "METASHOT_CALLED_AS"  # in the environment, which child processes inherit
_SCRIPTS: Mapping[str, str] = {
    "train": "python train.py",
    "evaluate": "python evaluate.py",
    "predict": "python -m metashot.predict",
    "data": "python -m metashot.data",
    "page": "python -m metashot.page",
    "results": "python -m metashot.results",
}
_SCRIPT = re.compile(rf"(?:{'|'.join(re.escape(script) for script in _SCRIPTS.values())}|\b(?:train|evaluate)\.py)(?=\s)")
_COMMANDS: Mapping[str, str] = {script: command for command, script in _SCRIPTS.items()} | {
    "train.py": "train",
    "evaluate.py": "evaluate",
}


def note_call(programme: str, command: str) -> None:
    """Note that the user typed `programme command`, such as `metashot train`."""
    os.environ[_CALLED_AS] = f"{programme} {command}"


def note_script() -> None:
    """Note that the user called a script such as `python train.py`."""
    os.environ.pop(_CALLED_AS, None)


def noted_command() -> str | None:
    """The command that this process, or the one that started it, was called with; None for a script."""
    return os.environ.get(_CALLED_AS, "").rpartition(" ")[2] or None


def typed(command: str) -> str:
    """What a user types for one of metashot's commands.

    Args:
        command: `train`, `evaluate`, `predict`, `data`, `page` or `results`.

    Returns:
        `metashot train` where the console script was called, `python train.py` where scripts are.
    """
    programme = os.environ.get(_CALLED_AS, "").rpartition(" ")[0]
    return f"{programme} {command}" if programme else _SCRIPTS[command]


def as_called(text: str) -> str:
    """A text in which the names of scripts are replaced by what the user types for them."""
    if noted_command() is None:
        return text
    return _SCRIPT.sub(lambda found: typed(_COMMANDS[found[0]]), text)
