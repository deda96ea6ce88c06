"""What a training step spends its time on, with the operations of PyTorch and with fused blocks.

`python -m benchmarks profile` measures steps (loss and gradients) of second-order MAML (5-way 1-shot, 5 inner steps) and of
prototypical networks (20-way 5-shot), both of four tasks with 15 queries on 28x28 pixels, and adds up what torch's profiler
says of their operations.
"""

import argparse
import re
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from benchmarks.compare.table import machine
from benchmarks.engines import maml
from benchmarks.outputs import between, refuse_json, write_json
from benchmarks.steps import protonet, random_images, training_step
from metashot.backbones.conv4 import Conv4
from metashot.engines.choice import Auto
from metashot.problems import Classification
from metashot.training.memory import keep_freed_memory

BEGIN, END = "<!-- profile -->", "<!-- end of profile -->"
SHAPE, TASKS, QUERIES, INNER_STEPS, STEPS = (1, 28, 28), 4, 15, 5, 5
# What is in the name of an operation. A second derivative that is composed of multiplications and sums is counted as others.
PARTS = {
    "convolutions": re.compile("conv", re.IGNORECASE),
    "normalisation, ReLU, pooling": re.compile("norm|pool|relu|threshold|var_mean|rsqrt", re.IGNORECASE),
}
OTHERS = "other operations"
WORKS = {
    "MAML, conv4-32": ("maml", 32),
    "MAML, conv4-64": ("maml", 64),
    "prototypical networks, conv4-64": ("protonet", 64),
}


@dataclass(frozen=True)
class Profiled:
    """The milliseconds of a step, by part."""

    work: str
    fused: bool
    parts: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def profiled(work: str, fused: bool) -> Profiled:
    step = _step(*WORKS[work], fused)
    for _ in range(2):
        step()
    begin = time.perf_counter()
    for _ in range(STEPS):
        step()
    total = 1000 * (time.perf_counter() - begin) / STEPS
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        for _ in range(STEPS):
            step()
    parts: dict[str, float] = defaultdict(float)
    for event in measured.key_averages():
        part = next((part for part, name in PARTS.items() if name.search(event.key)), OTHERS)
        parts[part] += event.self_cpu_time_total / 1000 / STEPS
    inside = sum(parts.values())  # which contains the profiler's own time
    return Profiled(work, fused, {part: time * total / inside for part, time in parts.items()})


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description=__doc__)
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    parser.add_argument("--markdown", type=Path, help=f"a file whose part between {BEGIN} and {END} becomes the table")
    given = parser.parse_args(arguments)
    refuse_json(parser, given.json)
    text = between(parser, given.markdown, BEGIN, END)
    warnings.simplefilter("ignore")
    keep_freed_memory()
    rows = [profiled(work, fused) for work in WORKS for fused in (False, True)]
    console, table = Console(), Table(*_HEADER)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    console.print(machine(), highlight=False)
    if given.json:
        write_json(given.json, {"machine": machine(), "rows": [asdict(row) for row in rows]})
    if text:
        lines = ["| " + " | ".join(cells) + " |" for cells in (_HEADER, ["---", "---"] + ["---:"] * 4, *map(_cells, rows))]
        text.replace("\n".join(lines) + f"\n\nMilliseconds. {machine()}.")


_HEADER = ["a step of", "blocks", *PARTS, OTHERS, "all"]


def _cells(row: Profiled) -> list[str]:
    times = [*(row.parts.get(part, 0.0) for part in (*PARTS, OTHERS)), row.total]
    return [row.work, "fused" if row.fused else "PyTorch's", *(f"{time:,.0f}" for time in times)]


def _step(algorithm: str, channels: int, fused: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    ways, shots = (5, 1) if algorithm == "maml" else (20, 5)
    backbone = Conv4(SHAPE, channels, "pool", "transductive", fused=fused)
    episode = random_images(SHAPE, TASKS, ways, shots, QUERIES)
    if algorithm == "maml":
        return training_step(maml(backbone, Classification(ways), Auto(), INNER_STEPS), episode)
    return training_step(protonet(backbone, ways), episode)
