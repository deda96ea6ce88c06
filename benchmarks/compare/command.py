"""`python -m benchmarks compare`: the rows, one table."""

import argparse
import warnings
from pathlib import Path

from rich.console import Console

from benchmarks.compare.rows import ROWS
from benchmarks.compare.table import in_markdown, machine, on_a_terminal
from benchmarks.outputs import between, refuse_json, write_json
from metashot.training.memory import keep_freed_memory

BEGIN, END = "<!-- compared -->", "<!-- end -->"


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"which: {', '.join(ROWS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=12, help="timed rounds of a pair, at least 2 (default: 12)")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    parser.add_argument("--markdown", type=Path, help=f"a file whose part between {BEGIN} and {END} becomes the table")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.rows if name not in ROWS]:
        parser.error(f"unknown row {unknown[0]}; allowed: {', '.join(ROWS)}")
    if given.rounds < 2:
        parser.error(f"--rounds {given.rounds}: allowed: at least 2")
    refuse_json(parser, given.json)
    table = between(parser, given.markdown, BEGIN, END)
    warnings.simplefilter("ignore")
    keep_freed_memory()  # as in every run
    console = Console()
    rows = []
    for name in given.rows or ROWS:
        for row in ROWS[name](given.rounds):
            console.print(f"{row.work}: {row.ratio:.2f} x", highlight=False)
            rows.append(row)
    console.print(on_a_terminal(rows))
    console.print(machine(), highlight=False)
    if given.json:
        write_json(given.json, {"machine": machine(), "rows": [row.content() for row in rows]})
    if table:
        table.replace(f"{in_markdown(rows)}\n\n{machine()}; {given.rounds} rounds.")
