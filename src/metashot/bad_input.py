"""Errors that end a run with one message: bad input from the user (exit code 2), or a run that cannot go on (1)."""

import difflib
import re
from collections.abc import Iterable

_LONGEST = 100  # characters of a value in a message
# Control characters, those of the direction of writing among them, and undecodable bytes.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def in_one_line(text: str) -> str:
    """Text with control characters escaped: every terminal prints it on one line and does nothing else."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class BadInput(Exception):
    """The user gave something that cannot be used.

    The message says what was given, what is allowed and which key to change. It may quote untrusted files, and is always one
    line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))


class GaveUp(Exception):
    """A run that has started cannot go on; the message says what is kept of it."""


class BadValue(BadInput, ValueError):
    """Bad input to a Python call: other libraries expect estimators to raise a ValueError."""


def shown(value: object) -> str:
    """A value of any kind for a message, shortened."""
    try:
        text = repr(value)
    except Exception:  # as of a number with too many digits
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def one_of(allowed: Iterable[str], given: str = "") -> str:
    """List the allowed names in a message, and suggest the closest one.

    Args:
        allowed: the names.
        given: what the user gave.
    """
    names = sorted(allowed)
    return ", ".join(names) + closest(names, given)


def closest(names: Iterable[str], given: str) -> str:
    """The end of a message that suggests the closest one of some names; empty if none is close."""
    by_lower_case = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given.lower(), by_lower_case, n=1)
    return f" (did you mean {by_lower_case[close[0]]}?)" if close else ""
