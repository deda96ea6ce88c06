"""The rows of the comparison: each is work that users do; settings that are not named are metashot's own."""

import atexit
import csv
import importlib.util
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.compare import peers
from benchmarks.compare.pairs import Call, Compared, Pair, summarised, timed
from benchmarks.engines import maml as maml_learner
from benchmarks.inner_memory import in_a_process
from benchmarks.steps import protonet as protonet_learner
from benchmarks.steps import random_images, training_step
from metashot.backbones.conv4 import Conv4
from metashot.backbones.resnet12 import ResNet12
from metashot.data.module import EpisodicDataModule
from metashot.engines.choice import Auto
from metashot.episodes import EpisodeSampler, EpisodeSpec
from metashot.experiment import Experiment
from metashot.problems import Classification
from metashot.sources.root import default_root

ROOT = Path(__file__).resolve().parents[2]
QUERIES, TASKS = 15, 4
SHAPES = {"5-way 1-shot": (5, 1), "20-way 5-shot": (20, 5)}
CPU = torch.device("cpu")
TINY = (
    "trainer.max_steps=2",
    "trainer.validate_every=2",
    "data.val.episodes=2",
    "data.test.episodes=2",
    "pictures=none",
)


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

        work, often = f"prepare {TASKS} tasks of {data.name}, {name}", rounds if ways == 5 else max(3, rounds // 3)
        yield timed(Pair(work, source, ours, theirs, often, repeats=50))


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
        yield timed(Pair(f"sample {TASKS} tasks, {what}", "sorting all of them", *calls, rounds, repeats=50))


def maml(rounds: int) -> Iterator[Compared]:
    """A training step of MAML with its data: second order, 5 steps, 5-way 1-shot, 15 queries."""
    for channels, backbone in ((32, "conv4_32"), (64, "conv4")):
        experiment = _built(
            "algo=maml", f"backbone={backbone}", "backbone.downsampling=pool", "backbone.normalisation=transductive",
            f"algo.inner_steps={peers.STEPS}", f"algo.inner_lr={peers.RATE}", *_shape(5, 1),
        )  # fmt: skip
        tasks, source = _tasks(experiment, 5, 1)
        for library, step in peers.MAML_STEPS.items():
            if importlib.util.find_spec(library):
                theirs = step(tasks, peers.conv4(5, channels, 1), 5, 1, QUERIES, TASKS)
                work = f"MAML step on {experiment.data.name}, conv4-{channels}"
                yield timed(Pair(work, f"{library}'s MAML, {source}", _step(experiment), theirs, rounds))


def small(rounds: int) -> Iterator[Compared]:
    """A training step of MAML with almost no arithmetic: conv4 of two channels on 8x8 pixels, 5 steps, 5-way 1-shot."""
    for tasks in (1, 4, 16):
        episode, calls = random_images((1, 8, 8), tasks, 5, 1, QUERIES), []
        for fused in (True, False):
            backbone = Conv4((1, 8, 8), 2, "stride", "transductive", fused=fused)
            calls.append(training_step(maml_learner(backbone, Classification(5), Auto(), peers.STEPS), episode))
        work = f"MAML step, {tasks} task{'s' * (tasks > 1)}, 2 channels, 8x8 pixels"
        yield timed(Pair(work, "the same without kernels", *calls, rounds))


def metalstm(rounds: int) -> Iterator[Compared]:
    """A training step of the LSTM meta-learner with its data: 5 steps, 5-way 1-shot, conv4-32."""
    built = [
        _built("algo=metalstm", "backbone=conv4_32", f"backbone.fused={fused}", *_shape(5, 1)) for fused in (True, False)
    ]
    work = f"LSTM meta-learner step on {built[0].data.name}, conv4-32"
    yield timed(Pair(work, "the same without kernels", *map(_step, built), rounds))


def protonet(rounds: int) -> Iterator[Compared]:
    """A training step of prototypical networks with its data: 20-way 5-shot, 15 queries, conv4-64."""
    experiment = _built("algo=protonet", "backbone.normalisation=transductive", *_shape(20, 5))
    tasks, source = _tasks(experiment, 20, 5)
    theirs = peers.protonet_step(tasks, peers.blocks(64, 1), 20, 5, QUERIES, TASKS)
    work = f"prototypical network step on {experiment.data.name}, conv4-64"
    yield timed(Pair(work, f"plain PyTorch, {source}", _step(experiment), theirs, rounds))
    ours = training_step(
        protonet_learner(Conv4((1, 28, 28), 64, "pool", "transductive", fused=True), 20),
        random_images((1, 28, 28), TASKS, 20, 5, QUERIES),
    )
    theirs = peers.protonet_step(peers.Prepared(tasks), peers.blocks(64, 1), 20, 5, QUERIES, TASKS)
    yield timed(Pair("prototypical network step without data, conv4-64", "plain PyTorch", ours, theirs, rounds))


def embedding(rounds: int) -> Iterator[Compared]:
    """Embedding images with a frozen network that has been trained: running averages, no gradients."""
    conv4 = Conv4((1, 28, 28), 64, "pool", "running", fused=True)
    for name, ours, theirs, images in (
        ("conv4-64", conv4, peers.blocks(64, 1), torch.rand(1, 360, 1, 28, 28)),
        ("ResNet-12", _resnet().to(memory_format=torch.channels_last), _resnet(), torch.rand(1, 32, 3, 84, 84)),
    ):
        ours.eval()
        theirs.eval()
        given = (images, 0) if isinstance(theirs, ResNet12) else (images[0],)
        with torch.inference_mode():
            calls = (lambda: ours(images, 0)), (lambda: theirs(*given))  # noqa: B023
            work = f"embed {images.shape[1]} images of {images.shape[-1]}x{images.shape[-1]}, {name}"
            yield timed(Pair(work, "PyTorch, eager", *calls, rounds))


def scoring(rounds: int) -> Iterator[Compared]:
    """A thousandth of evaluate.py on 10,000 episodes, from the command to its last line: 5-way 5-shot, frozen conv4-64."""
    if importlib.util.find_spec("easyfsl") is None:
        return
    shape = [f"data.{split}.{name}={value}" for split in ("train", "test")
             for name, value in (("ways", 5), ("shots", 5), ("queries", QUERIES))]  # fmt: skip
    folder = _temporary() / "run"
    archives = _archives()
    data = [f"data.root={archives}", "data=omniglot"] if archives else ["data=glyphs"]
    Experiment("algo=protonet", *data, *TINY, *shape, "logger=none", f"folder={folder}").fit().close()
    built = _built("algo=protonet", *_shape(5, 5))
    tasks, source = _tasks(built, 5, 5)
    theirs = peers.episode_of_easyfsl(tasks, peers.blocks(64, 1), 5, 5, QUERIES)
    call = _command([sys.executable, "evaluate.py", f"ckpt={folder}", "data.test.episodes=10000", "pictures=none"])
    ours, others = [], []
    for counted in [False] + [True] * max(2, rounds // 4):
        pair = _milliseconds(call) / 10_000, _milliseconds(theirs, 50)
        if counted:
            ours.append(pair[0])
            others.append(pair[1])
    yield summarised("score one of 10,000 episodes, evaluate.py as a whole", f"easyfsl, {source}", ours, others, "ms")


def starting(rounds: int) -> Iterator[Compared]:
    """From the command to its last line, against importing what a script of learn2learn's examples imports."""
    against = "importing learn2learn, torch, torchvision"
    importing = [sys.executable, "-W", "ignore", "-c", "import learn2learn, torch, torchvision"]
    short = [*TINY[2:], "trainer.max_steps=1", "trainer.validate_every=1", "logger=none", f"folder={_temporary() / 'run'}"]
    for work, call in {
        "train.py --help": ["train.py", "algo=maml", "--help"],
        "a message about a mistyped key": ["train.py", "algo=maml", "data.shotss=5"],
        "train.py with one step, and its report": ["train.py", "algo=maml", *short],
    }.items():
        ours = _command([sys.executable, *call])
        yield timed(Pair(work, against, ours, _command(importing), max(3, rounds // 4)))


def predicting(rounds: int) -> Iterator[Compared]:
    """From the command to its table: 25 labelled images, 200 to be named; the other script only imports and ends."""
    folder = _temporary()
    random = np.random.default_rng(0)
    for number in range(225):
        place = folder / ("support" if number < 25 else "query") / (str(number % 5) if number < 25 else "")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (28, 28), dtype=np.uint8)).save(place / f"{number}.png")
    Experiment("algo=protonet", *TINY, "logger=none", f"folder={folder / 'run'}").fit().close()
    given = [f"ckpt={folder / 'run'}", f"support={folder / 'support'}", f"query={folder / 'query'}"]
    call = [sys.executable, "-m", "metashot.predict", *given, f"out={folder / 'answers.csv'}"]
    done = subprocess.run(call, cwd=ROOT, env=_with_source(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    importing = [sys.executable, "-W", "ignore", "-c", "import easyfsl, torch, torchvision"]
    if importlib.util.find_spec("easyfsl") is None:
        importing[-1] = "import torch, torchvision"
    against = f"{importing[-1]} and nothing else"
    yield timed(Pair("predict, 25 + 200 images", against, _command(call), _command(importing), max(3, rounds // 4)))


def memory(rounds: int) -> Iterator[Compared]:
    """The growth of a process's memory in a step of MAML on four tasks (second order, conv4-32), and its time."""
    for steps in (1, 5, 10, 20):
        for way in ("fused", "fused, recomputed"):
            pairs = [[in_a_process(steps, who) for who in (way, "learn2learn")] for _ in range(2 if steps < 20 else 4)]
            what = f"of a MAML step, inner steps: {steps}" + ", recomputed" * way.endswith("recomputed")
            ours, theirs = ([one.megabytes or 0.0 for one in side] for side in zip(*pairs, strict=True))
            yield summarised(f"memory {what}", "learn2learn's MAML", ours, theirs, "MB")
            if steps == 20:
                ours, theirs = ([one.milliseconds for one in side] for side in zip(*pairs, strict=True))
                yield summarised(f"time {what}", "learn2learn's MAML", ours, theirs, "ms")


def processes(rounds: int) -> Iterator[Compared]:
    """Training MAML in two processes with a thread each, and in one process with two threads."""
    speeds = []
    for _ in range(max(2, rounds // 6)):
        pair = []
        for trainer, threads in (("ddp", "1"), ("cpu", "2")):
            folder = _temporary()
            few = ("trainer.max_steps=60", "trainer.validate_every=60", "data.val.episodes=2", "data.test.episodes=2")
            devices = ["trainer.devices=2"] if trainer == "ddp" else []
            call = [sys.executable, "train.py", "algo=maml", f"trainer={trainer}", *devices, *few, "logger=csv",
                    "trainer.log_every=10", "pictures=none", f"folder={folder / 'run'}"]  # fmt: skip
            subprocess.run(call, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": threads}, capture_output=True, check=True)
            with (folder / "run" / "metrics.csv").open(newline="") as file:
                found = [
                    float(row["train/tasks_per_second"]) for row in csv.DictReader(file) if row["train/tasks_per_second"]
                ]
            pair.append(1000 / statistics.median(found[1:]))
        speeds.append(pair)
    ours, theirs = map(list, zip(*speeds, strict=True))
    yield summarised("a task of MAML, two processes of one thread", "one process of two threads", ours, theirs, "ms")


ROWS: dict[str, Callable[[int], Iterator[Compared]]] = {
    "sampling": sampling,
    "large": large,
    "maml": maml,
    "small": small,
    "metalstm": metalstm,
    "protonet": protonet,
    "embedding": embedding,
    "scoring": scoring,
    "starting": starting,
    "predicting": predicting,
    "memory": memory,
    "processes": processes,
}


def _shape(ways: int, shots: int) -> list[str]:
    each = {"ways": ways, "shots": shots, "queries": QUERIES}
    own = [f"data.train.{name}={value}" for name, value in each.items()]
    return [*own, f"data.tasks_per_step={TASKS}"]


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="metashot-benchmarks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _with_source() -> dict[str, str]:
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _built(*overrides: str) -> Experiment:
    folder = _temporary()
    archives = _archives()
    data = [f"data.root={archives}", "data=omniglot"] if archives else ["data=glyphs"]
    return Experiment(*data, *overrides, "logger=none", f"folder={folder / 'run'}").build()


def _archives() -> Path | None:
    """The folder of Omniglot's two archives, where there is one."""
    folder = Path(default_root(str(ROOT.parent / "shared" / "data"))).expanduser().resolve() / "omniglot"
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
    return _temporary()


def _step(experiment: Experiment) -> Call:
    """A training step as Lightning calls it: data, loss, backward, optimiser."""
    data, algorithm = experiment.data, experiment.algorithm.train()
    optimizer = torch.optim.Adam(algorithm.parameters(), 1e-3)
    number = itertools.count(step=TASKS)

    def step() -> None:
        first = next(number)
        optimizer.zero_grad()
        algorithm.training_step(data.training_batch(np.arange(first, first + TASKS), CPU), 0)["loss"].backward()
        optimizer.step()

    return step


def _command(call: list[str]) -> Call:
    return lambda: subprocess.run(call, cwd=ROOT, env=_with_source(), capture_output=True)


def _milliseconds(call: Call, repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return 1000 * (time.perf_counter() - start) / repeats


def _resnet() -> ResNet12:
    return ResNet12((3, 84, 84), [64, 160, 320, 640], "average", 0.0, 5, "running")
