"""Texts of anyone as a terminal shows them: on one line, without effects of their own, and cut to a width.

Width is counted in cells: Chinese characters and most emoji take two, and combining marks none.
"""

from rich.cells import cell_len, set_cell_size

from metashot.bad_input import in_one_line

_READ = 8  # characters for each cell, since combining marks take none; what lies behind is not looked at


def shortened_text(text: str, width: int) -> str:
    """A text on one line, cut to a width in cells; an ellipsis stands for what is left out."""
    most = _READ * width
    line = in_one_line(" ".join(text[:most].split()))
    if cell_len(line) <= width and len(text) <= most:
        return line
    return f"{set_cell_size(line, min(cell_len(line), width - 1)).rstrip()}…"


def padded_text(text: str, width: int) -> str:
    """A text of at most a width in cells, with spaces up to it."""
    return text + " " * (width - cell_len(text))
