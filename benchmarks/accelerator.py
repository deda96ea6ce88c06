"""Training steps on an accelerator: second-order MAML by engine, size and tasks a step, prototypical networks, preparing
tasks, and what a step of MAML spends its time on.

`python -m benchmarks accelerator` needs a GPU. The step of another library is timed before ours. Networks compute in 32 bits
(TF32 in convolutions, PyTorch's default) unless a row says otherwise. `--show FILE` prints, and puts into `--markdown`, what
was measured elsewhere.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from benchmarks.compare import peers
from benchmarks.compare.table import machine
from benchmarks.engines import by_learn2learn, maml
from benchmarks.outputs import between, refuse_json, write_json
from benchmarks.steps import protonet, random_images
from metashot.backbones.conv4 import Conv4
from metashot.backbones.resnet12 import ResNet12
from metashot.engines.batched import Batched
from metashot.engines.inner import Engine
from metashot.engines.learn2learn import Learn2Learn
from metashot.episodes import Episode, Examples
from metashot.experiment import Experiment
from metashot.problems import Classification

BEGIN, END = "<!-- accelerator -->", "<!-- end of accelerator -->"
CUDA = torch.device("cuda")
WAYS, SHOTS, QUERIES, INNER_STEPS = 5, 1, 15, 5
GLYPH, PHOTOGRAPH = (1, 28, 28), (3, 84, 84)
ROUNDS, SECONDS = 10, 1.5  # of each row, whichever ends first
LOOP = "learn2learn's loop"


@dataclass(frozen=True)
class Measured:
    work: str
    way: str
    milliseconds: float
    tasks_a_second: float
    megabytes: float
    first: float  # seconds of the first step, in which kernels are compiled


@dataclass(frozen=True)
class Profiled:
    work: str
    way: str
    milliseconds: float
    kernels: float  # of a step
    busy: float  # milliseconds in which kernels run
    longest: dict[str, float]  # milliseconds by kernel


def engines() -> dict[str, Callable[[], Engine]]:
    return {
        "batched": lambda: Batched(chunk=None, compile=False, cuda_graph=False),
        "compiled": lambda: Batched(chunk=None, compile=True, cuda_graph=False),
        "CUDA graph": lambda: Batched(chunk=None, compile=True, cuda_graph=True),
        "task by task": Learn2Learn,
    }


def on_device(episode: Episode) -> Episode:
    def moved(examples: Examples) -> Examples:
        return Examples(examples.x.to(CUDA), examples.y.to(CUDA))

    return Episode(moved(episode.support), moved(episode.query), episode.number, episode.classes)


def timed(work: str, way: str, step: Callable[[], Any], tasks: int) -> Measured:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    step()
    torch.cuda.synchronize()
    first = time.perf_counter() - begin
    for _ in range(2):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    last = time.perf_counter() + SECONDS
    while len(times) < ROUNDS and time.perf_counter() < last:
        begin = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    seconds = statistics.median(times)
    found = Measured(work, way, 1000 * seconds, tasks / seconds, torch.cuda.max_memory_allocated() / 1e6, first)
    print(f"{work}, {way}: {found.milliseconds:.2f} ms, {found.tasks_a_second:.0f} tasks/s, first {first:.1f} s", flush=True)
    return found


def maml_steps(
    channels: int, shape: tuple[int, int, int], tasks: int, *ways: str, steps: int = INNER_STEPS
) -> list[Measured]:
    work = f"MAML, {steps} inner steps, conv4-{channels}, {shape[1]} pixels, {tasks} tasks"
    episode = on_device(random_images(shape, tasks, WAYS, SHOTS, QUERIES))
    rows = []
    for way in ways:
        engine, _, precision = way.partition(", ")
        learner = maml(
            Conv4(shape, channels, "pool", "transductive"),
            Classification(WAYS),
            engines()[engine]() if engine in engines() else Learn2Learn(),
            steps,
            recompute=precision == "recomputed",
        ).to(CUDA)
        optimizer = torch.optim.Adam(learner.parameters(), 1e-3)
        library = by_learn2learn(learner, episode, steps) if engine == LOOP else None

        def step(
            learner: Any = learner, optimizer: Any = optimizer, library: Any = library, precision: str = precision
        ) -> None:
            with torch.autocast("cuda", torch.bfloat16) if precision == "bf16" else nullcontext():
                if library is None:
                    learner.training_step([episode], 0)["loss"].backward()
                else:
                    library()
            optimizer.step()
            optimizer.zero_grad()

        rows.append(_attempt(work, way, step, tasks))
        torch._dynamo.reset()
    return [row for row in rows if row is not None]


def _attempt(work: str, way: str, step: Callable[[], None], tasks: int) -> Measured | None:
    try:
        return timed(work, way, step, tasks)
    except torch.OutOfMemoryError:
        print(f"{work}, {way}: too little memory", flush=True)
        torch.cuda.empty_cache()
        return None


def protonet_steps() -> list[Measured]:
    rows = []
    for shape, channels, tasks in ((GLYPH, 64, 4), (PHOTOGRAPH, 64, 4)):
        work = f"prototypical networks, 20-way 5-shot, conv4-{channels}, {shape[1]} pixels, {tasks} tasks"
        episode = on_device(random_images(shape, tasks, 20, 5, QUERIES))
        for last in (False, True):
            for half in (False, True):
                learner = protonet(Conv4(shape, channels, "pool", "running"), 20).to(CUDA)
                if last:
                    learner.to(memory_format=torch.channels_last)
                way = f"{'channels last' if last else 'contiguous'}, {'bf16' if half else '32 bits'}"
                rows.append(_attempt(work, way, _supervised(learner, episode, half), tasks))
        prepared = _Prepared(episode)
        plain = peers.blocks(channels, shape[0]).to(CUDA)
        with torch.device(CUDA):
            rows.append(_attempt(work, "plain PyTorch", peers.protonet_step(prepared, plain, 20, 5, QUERIES, tasks), tasks))
    for last in (False, True):
        for half in (False, True):
            episode = on_device(random_images((3, 32, 32), 4, 20, 5, 6))
            backbone = ResNet12((3, 32, 32), [64, 160, 320, 640], "average", 0.0, 5, "running")
            learner = protonet(backbone, 20).to(CUDA)
            if last:
                learner.to(memory_format=torch.channels_last)
            way = f"{'channels last' if last else 'contiguous'}, {'bf16' if half else '32 bits'}"
            work = "prototypical networks, 20-way 5-shot, ResNet-12, 32 pixels, 4 tasks"
            rows.append(_attempt(work, way, _supervised(learner, episode, half), 4))
    return [row for row in rows if row is not None]


def _supervised(learner: Any, episode: Episode, half: bool) -> Callable[[], None]:
    optimizer = torch.optim.Adam(learner.parameters(), 1e-3)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16) if half else nullcontext():
            learner.training_step([episode], 0)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class _Prepared:
    """One task of an episode, as learn2learn's task sets give it."""

    def __init__(self, episode: Episode) -> None:
        x = torch.cat([episode.support.x[0], episode.query.x[0]])
        self.task = x, torch.cat([episode.support.y[0], episode.query.y[0]])

    def sample(self) -> Any:
        return self.task


def preparing() -> list[Measured]:
    """Tasks of glyphs, sampled on the CPU and gathered where the bank is."""
    rows = []
    for ways, shots, tasks in ((5, 1, 4), (5, 1, 32), (20, 5, 4)):
        data = Experiment("algo=protonet", f"data.ways={ways}", f"data.shots={shots}", "data.train.ways=null").build().data
        number = iter(range(0, 10**9, tasks))

        def step(data: Any = data, number: Any = number, tasks: int = tasks) -> None:
            first = next(number)
            data.training_batch(np.arange(first, first + tasks), CUDA)

        rows.append(timed(f"prepare {tasks} tasks of glyphs, {ways}-way {shots}-shot", "bank on the GPU", step, tasks))
    return rows


def profiled(channels: int, tasks: int, way: str) -> Profiled:
    """Kernels of a step of MAML: how many, and how long they take together."""
    episode = on_device(random_images(GLYPH, tasks, WAYS, SHOTS, QUERIES))
    learner = maml(Conv4(GLYPH, channels, "pool", "transductive"), Classification(WAYS), engines()[way](), INNER_STEPS)
    learner.to(CUDA)

    def step() -> None:
        learner.training_step([episode], 0)["loss"].backward()
        learner.zero_grad()

    for _ in range(4):
        step()
    torch.cuda.synchronize()
    steps = 5
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    whole = 1000 * (time.perf_counter() - begin) / steps
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as measured:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    kernels = [event for event in measured.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(event.device_time for event in kernels) / 1000 / steps
    longest: dict[str, float] = {}
    for event in kernels:
        longest[event.name[:90]] = longest.get(event.name[:90], 0.0) + event.device_time / 1000 / steps
    top = dict(sorted(longest.items(), key=lambda item: -item[1])[:12])
    work = f"MAML, {INNER_STEPS} inner steps, conv4-{channels}, 28 pixels, {tasks} tasks"
    torch._dynamo.reset()
    return Profiled(work, way, whole, len(kernels) / steps, busy, top)


def eager() -> list[Measured]:
    rows = []
    for channels in (32, 64):
        rows += maml_steps(channels, GLYPH, 4, LOOP, "task by task", "batched", "batched, bf16")
        rows += maml_steps(channels, GLYPH, 32, "batched") + maml_steps(channels, GLYPH, 256, "batched")
    return rows + maml_steps(32, PHOTOGRAPH, 4, LOOP, "batched") + maml_steps(32, PHOTOGRAPH, 32, "batched")


def compiled() -> list[Measured]:
    return maml_steps(64, GLYPH, 32, "compiled", "CUDA graph") + maml_steps(32, GLYPH, 4, "compiled", "CUDA graph")


def memory() -> list[Measured]:
    ways = ("batched", "batched, recomputed")
    return [row for steps in (1, 5, 20) for row in maml_steps(64, GLYPH, 32, *ways, steps=steps)]


def profiles() -> list[Profiled]:
    return [profiled(64, 32, way) for way in ("batched", "compiled", "CUDA graph")]


GROUPS: dict[str, Callable[[], list[Any]]] = {
    "preparing": preparing,
    "protonet": protonet_steps,
    "eager": eager,
    "memory": memory,
    "compiled": compiled,
    "profiles": profiles,
}


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks accelerator", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"which: {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    parser.add_argument("--show", type=Path, nargs="+", help="files that --json wrote, instead of measuring")
    parser.add_argument("--markdown", type=Path, help=f"a file whose part between {BEGIN} and {END} becomes the tables")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.groups if name not in GROUPS]:
        parser.error(f"unknown group {unknown[0]}; allowed: {', '.join(GROUPS)}")
    refuse_json(parser, given.json)
    text = between(parser, given.markdown, BEGIN, END)
    if given.show:
        found = [json.loads(path.read_text()) for path in given.show]
        rows = [Measured(**row) for each in found for row in each["rows"]]
        profiles_of = [Profiled(**row) for each in found for row in each["profiles"]]
        where = found[0]["machine"]
    else:
        if not torch.cuda.is_available():
            parser.error("this machine has no GPU that PyTorch can use")
        warnings.simplefilter("ignore")
        everything = [row for name in given.groups or GROUPS for row in GROUPS[name]()]
        rows = [row for row in everything if isinstance(row, Measured)]
        profiles_of = [row for row in everything if isinstance(row, Profiled)]
        where = f"{torch.cuda.get_device_name()}; {machine()}"
    console = Console()
    for header, cells in ((_HEADER, map(_cells, rows)), (_PROFILE, map(_profile_cells, profiles_of))):
        table = Table(*header)
        for line in cells:
            table.add_row(*line)
        console.print(table)
    console.print(where, highlight=False)
    if given.json:
        measured = {"rows": [asdict(row) for row in rows], "profiles": [asdict(row) for row in profiles_of]}
        write_json(given.json, {"machine": where, **measured})
    if text:
        tables = [_in_markdown(_HEADER, map(_cells, rows)), _in_markdown(_PROFILE, map(_profile_cells, profiles_of))]
        text.replace("\n\n".join([*tables, f"{where}."]))


_HEADER = ["a step of", "by", "ms", "tasks/s", "peak MB", "first step, s"]
_PROFILE = ["a step of", "by", "ms", "kernels", "ms of kernels", "the longest"]


def _cells(row: Measured) -> list[str]:
    return [
        *(row.work, row.way, f"{row.milliseconds:.1f}", f"{row.tasks_a_second:,.0f}"),
        *(f"{row.megabytes:,.0f}", f"{row.first:.1f}"),
    ]


def _profile_cells(row: Profiled) -> list[str]:
    longest = ", ".join(f"{name} {time:.2f}" for name, time in list(row.longest.items())[:3])
    return [row.work, row.way, f"{row.milliseconds:.1f}", f"{row.kernels:,.0f}", f"{row.busy:.1f}", longest]


def _in_markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    rule = ["---", "---"] + ["---:"] * (len(header) - 2)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
