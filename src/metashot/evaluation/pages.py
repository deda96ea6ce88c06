"""Pages of HTML for texts, which pictures could not show: self-contained, without scripts, readable in the dark, and safe
whatever the texts are."""

import html
import re
from collections.abc import Iterable, Sequence

from metashot.files.outputs import DOCUMENT_END

LONGEST = 1000  # characters that are shown of a text
_BLANK = re.compile(r"[\t\n\r]")
# Control characters, overrides of the direction, which would show letters in another order, and halves of surrogate pairs.
_UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_STYLE = """
:root { color-scheme: light dark; --right: #1a7f37; --wrong: #cf222e; --line: #8888; --pale: #666; }
@media (prefers-color-scheme: dark) { :root { --right: #57ab5a; --wrong: #f47067; --pale: #aaa; } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  background: Canvas; color: CanvasText; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; vertical-align: top; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th[scope=col] { white-space: nowrap; } td { min-width: 6rem; } td.number, td.right, td.wrong { min-width: 0; }
th[scope=row] { font-weight: 600; min-width: 7rem; max-width: 16rem; }
.text { min-width: 16rem; } .number { white-space: nowrap; font-variant-numeric: tabular-nums; }
ul { margin: 0; padding-inline-start: 1.1rem; } p.note, .pale { color: var(--pale); }
.right { color: var(--right); white-space: nowrap; }
.wrong { color: var(--wrong); white-space: nowrap; font-weight: 600; }
.mark { white-space: nowrap; font-weight: 600; }
"""


def page(title: str, parts: Iterable[str]) -> bytes:
    """A page whose last line, which is not displayed, says that metashot wrote it.

    Args:
        title: The title, as plain text.
        parts: What follows it, as HTML.
    """
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{shown(title)}</h1>\n{body}\n"
        f"</body>\n</html>\n{DOCUMENT_END}"
    ).encode()


def shown(text: str, longest: int = LONGEST) -> str:
    """Plain text as HTML, cut where it is long."""
    kept = escaped(_BLANK.sub(" ", text[:longest]))
    more = f"… and {len(text) - longest:,} more characters" if len(text) > longest else ""
    return kept + (f' <span class="pale" dir="ltr">{more}</span>' if more else "")


def escaped(text: str) -> str:
    """Plain text as HTML, with characters that cannot be seen as their codes."""
    return html.escape(_UNREADABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text))


def cell(text: str, kind: str = "") -> str:
    """A cell of a table with a text of anyone, in the direction of its own letters."""
    return f'<td{_of_class(kind)} dir="auto">{shown(text)}</td>'


def row_name(text: str) -> str:
    """The first cell of a row, with its name."""
    return f'<th scope="row" dir="auto">{shown(text)}</th>'


def listed(texts: Sequence[str], most: int) -> str:
    """A list of the first texts, and how many more there are."""
    more = f'<li class="pale">and {len(texts) - most:,} more</li>' if len(texts) > most else ""
    return "<ul>" + "".join(f'<li dir="auto">{shown(text)}</li>' for text in texts[:most]) + more + "</ul>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table.

    Args:
        head: The names of the columns, as plain text.
        rows: The cells of each row, as HTML.
    """
    names = "".join(f'<th scope="col">{shown(name)}</th>' for name in head)
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f"<table>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def heading(text: str) -> str:
    return f"<h2>{shown(text)}</h2>"


def note(text: str) -> str:
    return f'<p class="note">{shown(text)}</p>'


def span(text: str, kind: str) -> str:
    """A cell with words of ours."""
    return f"<td{_of_class(kind)}>{shown(text)}</td>"


def _of_class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
