"""`python -m benchmarks curve RUN --picture FILE`: how the returns of a run in worlds have risen while it was trained.

Draws what `logger=csv` has written: the return of each training step before and after the updates, averaged over a few
steps, and the return of each validation with its 95 % interval.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metashot.bad_input import BadInput
from metashot.checkpoints.run_folder import METRICS
from metashot.evaluation.pictures.drawing import new_figure, write_picture

_AVERAGED = 10  # training steps
_LINES = {"train/return_before": ("before the updates", "#999999"), "train/return": ("after them", "#0072b2")}


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks curve", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run that was trained with logger=csv")
    parser.add_argument("--picture", type=Path, required=True, help="the PNG file that is written")
    options = parser.parse_args(arguments)
    try:
        rows = read(options.run / METRICS)
        draw(rows, options.picture)
    except (OSError, KeyError, ValueError, BadInput) as error:
        parser.error(f"{options.run}: {error}; it has to be the folder of a run in worlds, trained with logger=csv")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(rows: Sequence[dict[str, str]], name: str) -> tuple[list[int], list[float]]:
    """The steps at which something was measured, and its values."""
    measured = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
    if not measured:
        raise ValueError(f"there is no {name}")
    return [step for step, _ in measured], [value for _, value in measured]


def averaged(values: Sequence[float], count: int) -> list[float]:
    """The mean of each value and of those before it, of `count` at most."""
    return [float(np.mean(values[max(0, place + 1 - count) : place + 1])) for place in range(len(values))]


def draw(rows: Sequence[dict[str, str]], path: Path) -> None:
    figure = new_figure(6, 3.5)
    axes = figure.subplots()
    for name, (label, colour) in _LINES.items():
        steps, values = column(rows, name)
        axes.plot(steps, averaged(values, _AVERAGED), color=colour, label=f"training, {label}")
    steps, values = column(rows, "val/return")
    _, ci95 = column(rows, "val/ci95")
    axes.errorbar(steps, values, ci95, fmt="o", color="#d55e00", capsize=3, label="validation, after the last update")
    axes.set(xlabel="training step", ylabel="return", title=f"means of {_AVERAGED} training steps, and 95 % intervals")
    axes.grid(color="#e6e6e6")
    axes.legend(fontsize=8)
    write_picture(figure, path, "picture")
