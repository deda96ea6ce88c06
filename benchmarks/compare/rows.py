"""The rows of the comparison: each is work that users do; settings that are not named are metashot's own."""

import atexit
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.compare import peers
from benchmarks.compare.pairs import Call, Compared, Pair, timed
from metashot.backbones.conv4 import Conv4
from metashot.data.module import EpisodicDataModule
from metashot.episodes import EpisodeSampler, EpisodeSpec
from metashot.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
QUERIES, TASKS = 15, 4
SHAPES = {"5-way 1-shot": (5, 1), "20-way 5-shot": (20, 5)}
CPU = torch.device("cpu")
FUSED = "backbone.fused=true"


def sampling(rounds: int) -> Iterator[Compared]:
    """Sampling and preparing tasks, without any learning."""
    for name, (ways, shots) in SHAPES.items():
        experiment = _built("algo=protonet", *_shape(ways, shots))
        tasks, source = _tasks(experiment, ways, shots)
        data, number = experiment.data, itertools.count(step=TASKS)

        def ours(data: EpisodicDataModule = data, number: Iterator[int] = number) -> None:
            first = next(number)
            data.training_batch(np.arange(first, first + TASKS), CPU)

        def theirs(tasks: Any = tasks) -> None:
            for _ in range(TASKS):
                tasks.sample()

        yield timed(Pair(f"prepare {TASKS} tasks of {data.name}, {name}", source, ours, theirs, max(3, rounds // 4)))


def large(rounds: int) -> Iterator[Compared]:
    """Sampling from data sets of a million classes, and of a million images in a class."""
    for what, sizes in {
        "a million classes": np.full(10**6, 20),
        "classes of a million images": np.full(10, 10**6),
    }.items():
        ours, theirs = (EpisodeSampler(EpisodeSpec(5, 1, QUERIES), sizes, 0, "train") for _ in range(2))
        theirs.many_classes = theirs.many_images = False
        numbers = np.arange(TASKS)
        calls = (lambda: ours(numbers)), (lambda: theirs(numbers))  # noqa: B023
        yield timed(Pair(f"sample {TASKS} tasks, {what}", "sorting all of them", *calls, rounds))


def maml(rounds: int) -> Iterator[Compared]:
    """A training step of MAML with its data: second order, 5 steps, 5-way 1-shot, 15 queries."""
    for channels, backbone in ((32, "conv4_32"), (64, "conv4")):
        experiment = _built(
            "algo=maml", f"backbone={backbone}", "backbone.downsampling=pool", "backbone.normalisation=transductive", FUSED,
            "engine=learn2learn", f"algo.inner_steps={peers.STEPS}", f"algo.inner_lr={peers.RATE}", *_shape(5, 1),
        )  # fmt: skip
        tasks, source = _tasks(experiment, 5, 1)
        theirs = peers.maml_step(tasks, peers.conv4(5, channels, 1), 5, 1, QUERIES, TASKS)
        work = f"MAML step on {experiment.data.name}, conv4-{channels}"
        yield timed(Pair(work, f"learn2learn's MAML, {source}", _step(experiment), theirs, rounds))


def protonet(rounds: int) -> Iterator[Compared]:
    """A training step of prototypical networks with its data: 20-way 5-shot, 15 queries, conv4-64."""
    experiment = _built("algo=protonet", "backbone.normalisation=transductive", FUSED, *_shape(20, 5))
    tasks, source = _tasks(experiment, 20, 5)
    theirs = peers.protonet_step(tasks, peers.blocks(64, 1), 20, 5, QUERIES, TASKS)
    work = f"prototypical network step on {experiment.data.name}, conv4-64"
    yield timed(Pair(work, f"plain PyTorch, {source}", _step(experiment), theirs, rounds))


def embedding(rounds: int) -> Iterator[Compared]:
    """Embedding 360 images with a frozen network that has been trained: running averages, no gradients."""
    images = torch.rand(1, 360, 1, 28, 28)
    ours, theirs = Conv4((1, 28, 28), 64, "pool", "running", fused=True).eval(), peers.blocks(64, 1).eval()
    with torch.inference_mode():
        calls = (lambda: ours(images, 0)), (lambda: theirs(images[0]))
        yield timed(Pair("embed 360 images, conv4-64", "PyTorch, eager", *calls, rounds))


def starting(rounds: int) -> Iterator[Compared]:
    """From the command to its last line, against importing what a script of learn2learn's examples imports."""
    against = "importing learn2learn, torch, torchvision"
    importing = [sys.executable, "-W", "ignore", "-c", "import learn2learn, torch, torchvision"]
    for work, call in {
        "train.py --help": ["train.py", "algo=maml", "--help"],
        "a message about a mistyped key": ["train.py", "algo=maml", "data.shotss=5"],
    }.items():
        ours = _command([sys.executable, *call])
        yield timed(Pair(work, against, ours, _command(importing), max(3, rounds // 4)))


ROWS: dict[str, Callable[[int], Iterator[Compared]]] = {
    "sampling": sampling,
    "large": large,
    "maml": maml,
    "protonet": protonet,
    "embedding": embedding,
    "starting": starting,
}


def _shape(ways: int, shots: int) -> list[str]:
    each = {"ways": ways, "shots": shots, "queries": QUERIES}
    own = [f"data.train.{name}={value}" for name, value in each.items()]
    return [*own, f"data.tasks_per_step={TASKS}"]


def _built(*overrides: str) -> Experiment:
    folder = Path(tempfile.mkdtemp(prefix="metashot-benchmarks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    archives = _archives()
    data = [f"data.root={archives}", "data=omniglot"] if archives else ["data=glyphs"]
    return Experiment(*data, *overrides, "logger=none", f"folder={folder / 'run'}").build()


def _archives() -> Path | None:
    """The folder of Omniglot's two archives, where there is one."""
    folder = Path(os.environ.get("METASHOT_DATA", ROOT.parent / "shared" / "data")).resolve() / "omniglot"
    return folder if (folder / "images_background.zip").is_file() else None


def _tasks(experiment: Experiment, ways: int, shots: int) -> tuple[Any, str]:
    """learn2learn's tasks with the same images, and what they are called."""
    if archives := _archives():
        return peers.omniglot_task_sets(archives, _unpacked(), ways, shots + QUERIES), "learn2learn's task sets"
    bank = experiment.data.banks["train"]  # type: ignore[attr-defined]
    labels = torch.arange(len(bank.items_per_class)).repeat_interleave(torch.as_tensor(bank.items_per_class))
    images = torch.as_tensor(np.array(bank.items)).float() / 255
    return peers.task_sets(images, labels, ways, shots + QUERIES), "learn2learn's TaskDataset in memory"


@cache
def _unpacked() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="metashot-benchmarks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _step(experiment: Experiment) -> Call:
    """A training step as Lightning calls it: data, loss, backward, optimiser."""
    data, algorithm = experiment.data, experiment.algorithm.train()
    optimizer = torch.optim.Adam(algorithm.parameters(), 1e-3)
    number = itertools.count(step=TASKS)

    def step() -> None:
        first = next(number)
        optimizer.zero_grad()
        for episode in data.training_batch(np.arange(first, first + TASKS), CPU):
            algorithm.training_loss(episode).loss.backward()
        optimizer.step()

    return step


def _command(call: list[str]) -> Call:
    return lambda: subprocess.run(call, cwd=ROOT, env=os.environ, capture_output=True)
