"""JSON from files of texts, whose damage is said with its place."""

import json
from collections import Counter
from typing import Any

from metashot.bad_input import BadInput

_LONGEST_VALUE = 60  # characters of a value quoted in a message


def parsed(text: str | bytes, where: str) -> Any:
    """Parse JSON, in which no object may have a key twice.

    Args:
        text: the JSON text.
        where: its place, for messages.

    Raises:
        BadInput: if it cannot be parsed.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise BadInput(f"{where} is no JSON: {error.msg} ({line}character {error.colno})") from error
    except RecursionError as error:
        raise BadInput(f"{where} is no JSON of texts: it is nested too deeply") from error
    except ValueError as error:  # also UnicodeDecodeError, and numbers of too many digits
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise BadInput(f"{where} cannot be read: {reason}") from error


def kind_of(value: Any) -> str:
    """What a value is, for messages."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}...")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "a number"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found
