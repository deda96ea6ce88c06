"""What a user can get wrong: one exception, shown as one message with exit code 2."""

import difflib
from collections.abc import Iterable


class BadInput(Exception):
    """Something the user gave cannot be used; the message says what was given, what is allowed and which key to change."""


class BadValue(BadInput, ValueError):
    """Bad input of a Python call: other libraries expect a ValueError of a learner that cannot use what it was given."""


def one_of(allowed: Iterable[str], given: str = "") -> str:
    """The allowed names as text, with the one that was probably meant."""
    names = sorted(allowed)
    by_small_letters = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given.lower(), by_small_letters, n=1)
    return ", ".join(names) + (f" (did you mean {by_small_letters[close[0]]}?)" if close else "")
