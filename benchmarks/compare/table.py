"""The comparison as a table, on a terminal and in Markdown."""

import datetime
import importlib.metadata
import os
import platform

import torch
from rich.table import Table

from benchmarks.compare.pairs import Compared
from metashot.results.machine import processor

_PACKAGES = ("torch", "learn2learn", "pytorch-lightning", "numpy")


def on_a_terminal(rows: list[Compared]) -> Table:
    table = Table("work", "metashot", "against", "", "ratio", "quartiles")
    for row in rows:
        table.add_row(
            row.work, _amount(row.ours, row.unit), row.against, _amount(row.theirs, row.unit), f"{row.ratio:.2f} x",
            f"{row.low:.2f} to {row.high:.2f}",
        )  # fmt: skip
    return table


def in_markdown(rows: list[Compared]) -> str:
    lines = ["| work | metashot | against | theirs | ratio | quartiles |", "|---|---:|---|---:|---:|---|"]
    for row in rows:
        ours, theirs = _amount(row.ours, row.unit), _amount(row.theirs, row.unit)
        spread = f"{row.low:.2f} to {row.high:.2f}"
        lines.append(f"| {row.work} | {ours} | {row.against} | {theirs} | **{row.ratio:.2f} ×** | {spread} |")
    return "\n".join(lines)


def machine() -> str:
    """What the numbers depend on, in a line."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    count = torch.get_num_threads()
    threads = f"{count} thread{'s' if count > 1 else ''} on {os.cpu_count()} cores"
    return f"{processor()}, {threads}, Python {platform.python_version()}, {versions}, {datetime.date.today()}"


def _amount(value: float, unit: str) -> str:
    return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
