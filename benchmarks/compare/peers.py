"""The same work by other libraries, in the loops of their documentation, and by plain PyTorch."""

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


class Prepared:
    """A task that has been prepared, again and again."""

    def __init__(self, tasks: Any) -> None:
        self.task = tasks.sample()

    def sample(self) -> Any:
        return self.task


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


MAMLStep = Callable[[Any, nn.Module, int, int, int, int], Callable[[], None]]


def maml_step(
    tasks: Any, network: nn.Module, ways: int, shots: int, queries: int, tasks_per_step: int
) -> Callable[[], None]:
    """One step of the loop in learn2learn's example of MAML, without its validation task."""
    with quiet():
        from learn2learn.algorithms import MAML
    maml = MAML(network, lr=RATE, first_order=False)

    def task_loss(support: Batch, query: Batch) -> None:
        learner = maml.clone()
        for _ in range(STEPS):
            learner.adapt(F.cross_entropy(learner(support[0]), support[1]))
        F.cross_entropy(learner(query[0]), query[1]).backward()

    return _outer_step(tasks, maml, task_loss, (ways, shots, queries, tasks_per_step))


def maml_step_of_higher(
    tasks: Any, network: nn.Module, ways: int, shots: int, queries: int, tasks_per_step: int
) -> Callable[[], None]:
    """One step of MAML with higher's differentiable copy of the network and of its optimiser."""
    import higher

    inner = torch.optim.SGD(network.parameters(), RATE)

    def task_loss(support: Batch, query: Batch) -> None:
        with higher.innerloop_ctx(network, inner, copy_initial_weights=False) as (copied, differentiable):
            for _ in range(STEPS):
                differentiable.step(F.cross_entropy(copied(support[0]), support[1]))
            F.cross_entropy(copied(query[0]), query[1]).backward()

    return _outer_step(tasks, network, task_loss, (ways, shots, queries, tasks_per_step))


def maml_step_of_torchopt(
    tasks: Any, network: nn.Module, ways: int, shots: int, queries: int, tasks_per_step: int
) -> Callable[[], None]:
    """One step of MAML with TorchOpt's differentiable optimiser, which goes back to the start after each task."""
    import torchopt

    inner = torchopt.MetaSGD(network, lr=RATE)

    def task_loss(support: Batch, query: Batch) -> None:
        states = [torchopt.extract_state_dict(one, by="reference") for one in (network, inner)]
        for _ in range(STEPS):
            inner.step(F.cross_entropy(network(support[0]), support[1]))
        F.cross_entropy(network(query[0]), query[1]).backward()
        for one, state in zip((network, inner), states, strict=True):
            torchopt.recover_state_dict(one, state)

    return _outer_step(tasks, network, task_loss, (ways, shots, queries, tasks_per_step))


MAML_STEPS: dict[str, MAMLStep] = {
    "learn2learn": maml_step,
    "higher": maml_step_of_higher,
    "torchopt": maml_step_of_torchopt,
}
Batch = tuple[Tensor, Tensor]


def _outer_step(
    tasks: Any, network: nn.Module, task_loss: Callable[[Batch, Batch], None], shape: tuple[int, int, int, int]
) -> Callable[[], None]:
    ways, shots, queries, tasks_per_step = shape
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-3)
    adapting = torch.arange(ways * (shots + queries)) % (shots + queries) < shots

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(tasks_per_step):
            data, labels = tasks.sample()
            task_loss((data[adapting], labels[adapting]), (data[~adapting], labels[~adapting]))
        for parameter in parameters:
            parameter.grad.data.mul_(1.0 / tasks_per_step)  # type: ignore[union-attr]
        optimizer.step()

    return step


def episode_of_easyfsl(tasks: Any, body: nn.Module, ways: int, shots: int, queries: int) -> Callable[[], None]:
    """Score an episode with easyfsl's prototypical networks, which embed its images."""
    from easyfsl.methods import PrototypicalNetworks

    classifier = PrototypicalNetworks(body).eval()
    adapting = torch.arange(ways * (shots + queries)) % (shots + queries) < shots

    def score() -> None:
        data, labels = tasks.sample()
        with torch.no_grad():
            classifier.process_support_set(data[adapting], labels[adapting])
            (classifier(data[~adapting]).argmax(1) == labels[~adapting]).float().mean().item()

    return score


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
        layers += [
            nn.Conv2d(inputs, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten())
