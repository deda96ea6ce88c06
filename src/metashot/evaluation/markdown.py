"""Tables in Markdown. It imports nothing slow, so that pages about results are written without torch."""

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"[\\`*_\[\]<>|&!]")


def escaped(text: str) -> str:
    """A text that Markdown shows as it is, whoever wrote it."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
