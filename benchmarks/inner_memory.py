"""Memory and time of a MAML training step (second order) against the number of inner steps, stored or recomputed.

The network is conv4 with 32 channels and pooling, on 4 tasks (5-way, 1-shot, 5 queries, 28x28). Each case runs in a separate
process in which the C library returns freed tensors at once, so that the growth of the resident set is the memory of a step.
Fused blocks compute one task at a time, as learn2learn does.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.engines import SHAPE, WAYS, by_learn2learn, images, maml
from benchmarks.timing import Row
from metashot.backbones.conv4 import Conv4
from metashot.engines.batched import Batched
from metashot.engines.choice import Auto
from metashot.problems import Classification
from metashot.training.memory import keep_freed_memory

STEPS = (1, 5, 10, 20)
WAYS_TO_COMPUTE = ("kept", "recomputed", "fused", "fused, recomputed", "learn2learn")
ROUNDS = 3


def measure() -> list[Row]:
    return [in_a_process(steps, way) for steps in STEPS for way in WAYS_TO_COMPUTE]


def in_a_process(steps: int, way: str) -> Row:
    """The time and the memory of a step that is computed in one of `WAYS_TO_COMPUTE`."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.inner_memory", str(steps), way],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        stdout=subprocess.PIPE,
        check=True,
    )
    milliseconds, megabytes = json.loads(found.stdout.splitlines()[-1])
    return Row(f"{steps} steps, {way}", milliseconds, megabytes)


def _case(steps: int, way: str) -> tuple[float, float]:
    """The median time of a training step in milliseconds, and its peak memory in megabytes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fused = way.startswith("fused")
    backbone = Conv4(SHAPE, 32, "pool", "transductive", fused=fused)
    engine = Batched(chunk=1, compile=False, cuda_graph=False) if fused else Auto()
    made = maml(backbone, Classification(WAYS), engine, steps, way.endswith("recomputed")).to(device)
    episode = images(device)
    of_library = by_learn2learn(made, episode, steps) if way == "learn2learn" else None

    def step() -> None:
        if of_library is None:
            made.training_step([episode], 0)["loss"].backward()
        else:
            of_library()
        made.zero_grad()

    step()  # warm-up, for allocations that are made once
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        size = torch.cuda.max_memory_allocated() - before
    else:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak that Linux records
        before = _resident("VmRSS")
        step()
        size = _resident("VmHWM") - before
        keep_freed_memory()  # as in every run
        step()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times), size / 1e6


def _resident(name: str) -> int:
    """The resident memory of this process in bytes, current (VmRSS) or peak (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(_case(int(sys.argv[1]), sys.argv[2])))
