"""How the cost of a training step grows: with tasks, inner steps, the size of images, ways, and the images of a bank.

`python -m benchmarks growth` measures one step (loss and gradients) of second-order MAML and of prototypical networks while
one quantity grows and the others stay at 4 tasks, 5 inner steps, 28x28 pixels, 5 ways, 1 shot and 5 queries. The network is
conv4 with 32 channels and fused blocks. Of a bank, preparing 4 tasks is measured, and how much memory the process has
afterwards.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.compare.table import machine
from benchmarks.engines import maml
from benchmarks.outputs import between, refuse_json, write_json
from benchmarks.steps import protonet, random_images, training_step
from metashot.backbones.conv4 import Conv4
from metashot.data.bank import Bank
from metashot.data.gathering import gather
from metashot.engines.choice import Auto
from metashot.episodes import Episode, EpisodeSampler, EpisodeSpec
from metashot.problems import Classification
from metashot.training.memory import keep_freed_memory

USUAL = {"tasks": 4, "inner steps": 5, "pixels a side": 28, "ways": 5}
GROWING = {
    "tasks": (1, 2, 4, 8, 16, 32, 64),
    "inner steps": (1, 2, 5, 10, 20),
    "pixels a side": (28, 42, 56, 84),
    "ways": (5, 10, 20, 40, 60),
}
IMAGES = (10**4, 10**5, 10**6, 10**7)  # of a bank, 20 a class
SHOTS, QUERIES, EACH = 1, 5, 20
BEGIN, END = "<!-- growth -->", "<!-- end of growth -->"


@dataclass(frozen=True)
class Point:
    """What a step takes at one size."""

    quantity: str
    size: int
    work: str
    milliseconds: float
    megabytes: float | None = None  # of the process, where banks grow


def steps(quantity: str, rounds: int) -> Iterator[Point]:
    """Training steps while one quantity grows; the sizes are measured in turn, so that a slowdown affects all of them."""
    calls: dict[tuple[str, int], Callable[[], Any]] = {}
    for size in GROWING[quantity]:
        at = USUAL | {quantity: size}
        calls["MAML", size] = _maml(at)
        if quantity != "inner steps":
            calls["prototypical networks", size] = _protonet(at)
    times: dict[tuple[str, int], list[float]] = {case: [] for case in calls}
    for counted in [False] + [True] * rounds:
        for case, call in calls.items():
            begin = time.perf_counter()
            call()
            if counted:
                times[case].append(1000 * (time.perf_counter() - begin))
    for (work, size), measured in times.items():
        yield Point(quantity, size, work, statistics.median(measured))


def banks(rounds: int) -> Iterator[Point]:
    """Preparing tasks from ever larger banks on disk. Their files have holes, which are read as black images."""
    with tempfile.TemporaryDirectory(prefix="metashot-benchmarks-") as folder:
        for images in IMAGES:
            bank = _bank(Path(folder) / str(images), images)
            sampler = EpisodeSampler(EpisodeSpec(5, SHOTS, 15), bank.items_per_class, 0, "train")
            measured = []
            for number in range(10 * rounds):
                begin = time.perf_counter()
                numbers = np.arange(4 * number, 4 * number + 4)
                gather(bank, sampler(numbers), torch.device("cpu"))
                measured.append(1000 * (time.perf_counter() - begin))
            del bank, sampler
            gc.collect()
            yield Point("images of a bank", images, "preparing tasks", statistics.median(measured), _resident())


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, at least 2 (default: 5)")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    parser.add_argument("--picture", type=Path, help="a PNG file for the curves")
    parser.add_argument("--markdown", type=Path, help=f"a file whose part between {BEGIN} and {END} becomes the table")
    given = parser.parse_args(arguments)
    if given.rounds < 2:
        parser.error(f"--rounds {given.rounds}: allowed: at least 2")
    if given.picture and given.picture.suffix != ".png":
        parser.error(f"--picture {given.picture}: allowed: the name of a PNG file")
    refuse_json(parser, given.json)
    described = between(parser, given.markdown, BEGIN, END)
    warnings.simplefilter("ignore")
    keep_freed_memory()  # as in every run
    points = [point for quantity in GROWING for point in steps(quantity, given.rounds)] + list(banks(given.rounds))
    console = Console()
    console.print(_on_a_terminal(points))
    console.print(machine(), highlight=False)
    if given.json:
        write_json(given.json, {"machine": machine(), "points": [asdict(point) for point in points]})
    if given.picture:
        _draw(points, given.picture)
    if described:
        described.replace(f"{_in_markdown(points)}\n\n{machine()}; {given.rounds} rounds.")


def _maml(at: dict[str, int]) -> Callable[[], None]:
    made = maml(
        Conv4(_shape(at), 32, "pool", "transductive", fused=True), Classification(at["ways"]), Auto(), at["inner steps"]
    )
    return training_step(made, _episode(at))


def _protonet(at: dict[str, int]) -> Callable[[], None]:
    backbone = Conv4(_shape(at), 32, "pool", "transductive", fused=True)
    return training_step(protonet(backbone, at["ways"]), _episode(at))


def _shape(at: dict[str, int]) -> tuple[int, int, int]:
    return (1, at["pixels a side"], at["pixels a side"])


def _episode(at: dict[str, int]) -> Episode:
    return random_images(_shape(at), at["tasks"], at["ways"], SHOTS, QUERIES)


def _bank(folder: Path, images: int) -> Bank:
    folder.mkdir()
    with (folder / "train.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (images, 1, 28, 28)}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
        file.truncate(file.tell() + images * 28 * 28)
    classes = images // EACH
    about = {
        "classes": [str(label) for label in range(classes)],
        "counts": [EACH] * classes,
        "bytes": (folder / "train.npy").stat().st_size,
    }
    (folder / "manifest.json").write_text(json.dumps({"splits": {"train": about}}))
    return Bank.open(folder, "train").placed_on(torch.device("cpu"))


def _resident() -> float:
    """The memory of this process that is no file, in megabytes."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024 / 1e6


def _series(points: list[Point]) -> dict[tuple[str, str], list[Point]]:
    series: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        series.setdefault((point.quantity, point.work), []).append(point)
    return series


def _cells(series: list[Point]) -> tuple[str, str]:
    """The sizes, and what each takes."""
    return ", ".join(f"{point.size:,}" for point in series), ", ".join(_amount(point.milliseconds) for point in series)


def _amount(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _on_a_terminal(points: list[Point]) -> Table:
    table = Table("what grows", "work", "sizes", "ms", "anonymous MB")
    for (quantity, work), series in _series(points).items():
        table.add_row(quantity, work, *_cells(series), _memory(series))
    return table


def _memory(series: list[Point]) -> str:
    return ", ".join(f"{point.megabytes:,.0f}" for point in series if point.megabytes is not None)


def _in_markdown(points: list[Point]) -> str:
    lines = ["| what grows | work | sizes | ms | memory of the process, MB |", "|---|---|---|---|---|"]
    for (quantity, work), series in _series(points).items():
        lines.append(f"| {quantity} | {work} | {' | '.join(_cells(series))} | {_memory(series)} |")
    return "\n".join(lines)


def _draw(points: list[Point], path: Path) -> None:
    from matplotlib.figure import Figure

    quantities = list(dict.fromkeys(point.quantity for point in points))
    figure = Figure(figsize=(3 * len(quantities), 3), layout="constrained")
    axes = figure.subplots(1, len(quantities), squeeze=False)[0]
    for place, quantity in zip(axes, quantities, strict=True):
        shown = [point for point in points if point.quantity == quantity]
        times = [point.milliseconds for point in shown]
        for (of, work), series in _series(points).items():
            if of == quantity:
                place.plot(
                    [point.size for point in series], [point.milliseconds for point in series], marker="o", label=work
                )
        place.set(xscale="log", yscale="log", xlabel=quantity, ylim=(min(times) / 2, 4 * max(times)))
        sizes = sorted({point.size for point in shown})
        place.minorticks_off()
        place.set_xticks(sizes, [f"{size // 1000:,} k" if size >= 1000 else str(size) for size in sizes])
        place.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        place.legend(frameon=False, fontsize=8, loc="upper left")
        place.grid(alpha=0.3)
    axes[0].set_ylabel("milliseconds")
    figure.savefig(path, dpi=120)
