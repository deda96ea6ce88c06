"""The same work by learn2learn, in the loops of its documentation, and by plain PyTorch."""

import contextlib
import io
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

RATE, STEPS = 0.1, 5


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what learn2learn prints and warns of when it is imported."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


class InMemory(Dataset[tuple[Tensor, int]]):
    """Images as learn2learn expects them, one with its class at a time: already floats, which saves it the conversion."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels.tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


def task_sets(images: Tensor, labels: Tensor, ways: int, examples: int) -> Any:
    """Tasks with so many examples of each class, as `learn2learn.vision.benchmarks` makes them."""
    with quiet():
        from learn2learn.data import MetaDataset, TaskDataset
        from learn2learn.data.transforms import ConsecutiveLabels, FusedNWaysKShots, LoadData, RemapLabels
    dataset = MetaDataset(InMemory(images, labels))
    transforms = [
        FusedNWaysKShots(dataset, n=ways, k=examples),
        LoadData(dataset),
        RemapLabels(dataset),
        ConsecutiveLabels(dataset),
    ]
    return TaskDataset(dataset, transforms)


def omniglot_task_sets(archives: Path, folder: Path, ways: int, examples: int) -> Any:
    """learn2learn's task sets of Omniglot, for training.

    Args:
        archives: The folder with the two official archives.
        folder: Where they are unpacked, if they are not yet.
        ways: The number of classes of a task.
        examples: The number of examples of a class.
    """
    unpacked = folder / "omniglot-py"
    if not unpacked.is_dir():
        unpacked.mkdir(parents=True)
        for name in ("images_background", "images_evaluation"):
            with zipfile.ZipFile(archives / f"{name}.zip") as archive:
                archive.extractall(unpacked)
    with quiet():
        from learn2learn.vision.benchmarks import get_tasksets
        from torchvision.datasets import Omniglot

        Omniglot.download = lambda self: None  # which it would do again, as the archives themselves are not in that folder
        Omniglot._check_integrity = lambda self: True
        sets = get_tasksets(
            "omniglot", train_ways=ways, train_samples=examples, test_ways=ways, test_samples=examples, root=str(folder)
        )
    return sets.train


def conv4(ways: int, channels: int, colours: int) -> nn.Module:
    """learn2learn's network of four pooling blocks, for images whose last map is a single place."""
    with quiet():
        from learn2learn.vision.models import CNN4
    network: nn.Module = CNN4(ways, hidden_size=channels, layers=4, channels=colours, embedding_size=channels)
    return network


def maml_step(
    tasks: Any, network: nn.Module, ways: int, shots: int, queries: int, tasks_per_step: int
) -> Callable[[], None]:
    """One step of the loop in learn2learn's example of MAML, without its validation task."""
    with quiet():
        from learn2learn.algorithms import MAML
    maml = MAML(network, lr=RATE, first_order=False)
    optimizer = torch.optim.Adam(maml.parameters(), 1e-3)
    adapting = torch.zeros(ways * (shots + queries), dtype=torch.bool)
    adapting[torch.arange(ways * (shots + queries)) % (shots + queries) < shots] = True

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(tasks_per_step):
            learner = maml.clone()
            data, labels = tasks.sample()
            for _ in range(STEPS):
                learner.adapt(F.cross_entropy(learner(data[adapting]), labels[adapting]))
            F.cross_entropy(learner(data[~adapting]), labels[~adapting]).backward()
        for parameter in maml.parameters():
            parameter.grad.data.mul_(1.0 / tasks_per_step)
        optimizer.step()

    return step


def protonet_step(
    tasks: Any, body: nn.Module, ways: int, shots: int, queries: int, tasks_per_step: int
) -> Callable[[], None]:
    """One step of prototypical networks in plain PyTorch, as in learn2learn's example: one forward pass a task."""
    optimizer = torch.optim.Adam(body.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(tasks_per_step):
            data, labels = tasks.sample()
            order = torch.argsort(labels, stable=True)
            features = body(data[order]).flatten(1).view(ways, shots + queries, -1)
            prototypes = features[:, :shots].mean(1)
            asked = features[:, shots:].flatten(0, 1)
            logits = -torch.cdist(asked, prototypes).square()
            (F.cross_entropy(logits, torch.arange(ways).repeat_interleave(queries)) / tasks_per_step).backward()
        optimizer.step()

    return step


def blocks(channels: int, colours: int) -> nn.Sequential:
    """The usual four blocks in plain PyTorch."""
    layers: list[nn.Module] = []
    for inputs in (colours, channels, channels, channels):
        layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())
