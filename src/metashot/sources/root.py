"""`data.root`, the folder of data sets: the default that METASHOT_DATA gives it, and its check."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metashot.bad_input import BadInput
from metashot.files.paths import given_path, printable, quoted

VARIABLE = "METASHOT_DATA"  # in the environment: the user's folder of data sets
_LONGEST = 3000  # bytes, which leave room for the names of files below it


def default_root(otherwise: str) -> str:
    """The default of `data.root`, which the files in conf/ write as `${METASHOT_DATA:data}`.

    Args:
        otherwise: the default where the variable is not set, or is empty.
    """
    return os.environ.get(VARIABLE) or otherwise


def given_root(root: str) -> Path:
    """The path of `data.root`, with `~` expanded. It need not exist.

    Args:
        root: the value in a resolved configuration, which may be that of METASHOT_DATA.

    Raises:
        BadInput: it cannot be a path, or METASHOT_DATA cannot be kept in a configuration.
    """
    if root != os.environ.get(VARIABLE):
        return given_path(root, "data.root")
    # On the command line both are refused earlier.
    if any("\ud800" <= letter <= "\udfff" for letter in root):
        raise BadInput(f"{_assigned(root)} is not UTF-8 text: rename the folder, or give a link to it with another name")
    if "${" in root:  # would be resolved when the stored configuration is read
        raise BadInput(
            f"{_assigned(root)} cannot be used: ${{ stands for a reference in a configuration; rename the folder, or give a "
            "link to it with another name"
        )
    if (length := len(os.fsencode(root))) > _LONGEST:
        raise BadInput(f"{_assigned(root)} has {length:,} bytes; allowed: a path of at most {_LONGEST:,}")
    return given_path(root, VARIABLE)


@contextmanager
def naming_variable(root: Path) -> Iterator[None]:
    """Let messages about `data.root` name METASHOT_DATA, where it is the folder that is meant."""
    try:
        yield
    except BadInput as error:
        message, value = str(error), os.environ.get(VARIABLE)
        about_root = "data.root" in message or printable(root) in message
        if not value or root != Path(os.path.expanduser(value)) or not about_root:
            raise
        raise BadInput(f"{message}; {VARIABLE} names {quoted(value)}") from error


def _assigned(value: str) -> str:
    return f"{VARIABLE}={quoted(value)}"
