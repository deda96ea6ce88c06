"""How a run ends with one message: the user gave something that cannot be used (exit code 2), or the run gave up (1)."""

import difflib
import re
from collections.abc import Iterable

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # control characters, bytes that are no text


def in_one_line(text: str) -> str:
    """Text that every terminal can print in one line, and that does nothing else to it."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class BadInput(Exception):
    """Something the user gave cannot be used; the message says what was given, what is allowed and which key to change. It
    quotes files of strangers, and is one line whatever they hold."""

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))


class GaveUp(Exception):
    """A run that began well cannot go on; the message says what is kept of it."""


class BadValue(BadInput, ValueError):
    """Bad input of a Python call: other libraries expect a ValueError of a learner that cannot use what it was given."""


def one_of(allowed: Iterable[str], given: str = "") -> str:
    """The allowed names as text, with the one that was probably meant."""
    names = sorted(allowed)
    by_small_letters = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given.lower(), by_small_letters, n=1)
    return ", ".join(names) + (f" (did you mean {by_small_letters[close[0]]}?)" if close else "")
