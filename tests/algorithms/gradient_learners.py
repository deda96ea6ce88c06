"""Gradient-based learners of any kind, with the settings that a test is about and plain ones for the rest, and what to hold
them against: torch's own layers with the same parameters, learn2learn's own algorithms, finite differences."""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.gradient.average import Average
from metashot.algorithms.gradient.finetune import Finetune
from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.gradient.maml import MAML
from metashot.algorithms.gradient.mamlpp import MAMLpp
from metashot.algorithms.gradient.metasgd import MetaSGD
from metashot.algorithms.gradient.network import Network
from metashot.algorithms.gradient.reptile import Reptile
from metashot.algorithms.model.hyper import Hyper
from metashot.algorithms.model.metalstm import MetaLSTM
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.conv4 import Conv4
from metashot.engines.batched import Batched
from metashot.engines.inner import Engine
from metashot.engines.learn2learn import Learn2Learn
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Problem
from tests.algorithms.hypernetwork import Hypernetwork

ENGINES: dict[str, Engine] = {"learn2learn": Learn2Learn(), "batched": Batched(chunk=None, compile=False, cuda_graph=False)}

PLUS = {
    "multi_step_loss": "annealed",
    "annealed_share": 0.5,
    "gamma": 0.8,
    "learned_step_sizes": True,
    "averages_per_step": False,
    "affine_per_step": True,
    "first_order_share": 0.0,
}
# Each algorithm of the family with what it has of its own.
ALGORITHMS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "maml": (MAML, {}),
    "fomaml": (MAML, {"first_order": True}),
    "anil": (MAML, {"adapts": ["head.*"]}),
    "boil": (MAML, {"adapts": ["backbone.*"]}),
    "metasgd": (MetaSGD, {}),
    "mamlpp": (MAMLpp, PLUS),
    "reptile": (Reptile, {"inner_batch": 4, "test_inner_batch": 3}),
    "average": (Average, {"inner_batch": 4, "test_inner_batch": 3}),
    "hyper": (Hyper, {"encoding": 6}),
    "finetune": (Finetune, {"head": "new"}),
    "hypernetwork": (Hypernetwork, {}),
    "metalstm": (MetaLSTM, {"hidden": 3}),
}


def learner(
    algorithm: str, backbone: Backbone, problem: Problem | None = None, engine: Engine | None = None, **settings: Any
) -> GradientLearner:
    """One with parameters in float64."""
    kind, own = ALGORITHMS[algorithm]
    steps = settings.pop("steps", 1)
    arguments: dict[str, Any] = {
        "adapts": ["*"],
        "inner_lr": 0.3,
        "inner_steps": steps,
        "test_inner_steps": steps,
        "inner_batch": None,
        "inner_loss": "auto",
        "inner_optimizer": InnerOptimizer("sgd", 0.9),
        "first_order": False,
        "least_fall": None,
        "checkpoint_inner_steps": False,
        "optimizer": Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0),
    }
    made = kind(
        backbone=backbone,
        problem=problem or Classification(2),
        engine=engine or Learn2Learn(),
        **(arguments | own | settings),
    )
    assert isinstance(made, GradientLearner)
    return made.double()


def random_episode(
    tasks: int = 2, shape: tuple[int, ...] = (1, 16, 16), ways: int = 2, shots: int = 2, queries: int = 3, seed: int = 3
) -> Episode:
    generator = torch.Generator().manual_seed(seed)

    def examples(each: int) -> Examples:
        x = torch.rand(tasks, ways * each, *shape, generator=generator, dtype=torch.float64)
        return Examples(x, torch.arange(ways).repeat_interleave(each).expand(tasks, -1))

    return Episode(examples(shots), examples(queries), torch.arange(tasks), torch.arange(ways).expand(tasks, -1))


def random_curves(tasks: int = 2, points: int = 6, seed: int = 1) -> Episode:
    generator = torch.Generator().manual_seed(seed)
    x, y, query_x, query_y = (torch.randn(tasks, points, 1, generator=generator, dtype=torch.float64) for _ in range(4))
    return Episode(Examples(x, y), Examples(query_x, query_y), torch.arange(tasks), torch.empty(tasks, 0))


def plain_network(network: Network) -> nn.Sequential:
    """Of torch's own layers, for one task at a time, with the same parameters (not copies) and averages."""
    backbone = network.backbone
    convolves = isinstance(backbone, Conv4)
    layers: list[nn.Module] = [] if convolves else [nn.Flatten()]
    for linear, own in zip(backbone.convolutions if convolves else backbone.linears, backbone.normalisations, strict=True):
        outputs, inputs = linear.weight.shape[:2]
        layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False) if convolves else nn.Linear(inputs, outputs, bias=False)
        layer.weight = linear.weight
        layers.append(layer)
        if own.protocol == "none":
            layer.bias = own.bias
        else:
            kind = nn.BatchNorm2d if convolves else nn.BatchNorm1d
            normalisation = kind(outputs, track_running_stats=own.protocol == "running")
            normalisation.weight, normalisation.bias = own.weight, own.bias
            if own.protocol == "running":
                normalisation.running_mean, normalisation.running_var = own.running_mean.clone(), own.running_var.clone()
            layers.append(normalisation)
        layers.append(nn.ReLU())
        if convolves:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), network.head).train(network.training)


def trained_plainly(
    network: Network,
    optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer],
    batches: list[tuple[Tensor, Tensor]],
) -> dict[str, Tensor]:
    """The parameters of a copy of a classifier after a plain loop of torch over these mini-batches."""
    copied = copy.deepcopy(network)
    plain = plain_network(copied)
    descent = optimizer(parameter for parameter in plain.parameters() if parameter.requires_grad)
    for x, y in batches:
        descent.zero_grad()
        F.cross_entropy(plain(x), y).backward()
        descent.step()
    return {name: parameter.detach() for name, parameter in copied.named_parameters()}


@cache
def library() -> Any:
    """learn2learn's own algorithms; their import prints advice about gym to both streams."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        from learn2learn import algorithms
    return algorithms


def outer_gradient(made: GradientLearner, episode: Episode) -> dict[str, Tensor]:
    """Of the loss that the outer optimiser minimises: for each parameter that it may change."""
    wanted = {name: parameter for name, parameter in made.named_parameters() if parameter.requires_grad}
    loss = made.train().training_loss(episode).loss
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(wanted.items(), found, strict=True)
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-8, atol: float = 1e-11) -> None:
    """And that there was something to compare."""
    assert found.keys() == expected.keys()
    assert any(value.abs().max() > 1e-5 for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=atol, msg=lambda said, name=name: f"{name}: {said}")


def slopes(made: GradientLearner, episode: Episode, step: float = 1e-6) -> Iterator[tuple[str, float, float]]:
    """For each parameter the slope of the outer loss in a random direction: by finite differences, and by the gradient."""
    gradients = outer_gradient(made, episode)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in made.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        values = []
        for sign in (1, -2):
            with torch.no_grad():
                parameter += sign * step * direction
            values.append(made.training_loss(episode).loss.item())
        with torch.no_grad():
            parameter += step * direction
        yield name, (values[0] - values[1]) / (2 * step), (gradients[name] * direction).sum().item()


def kept_bytes(loss: Tensor) -> int:
    """What the graph behind a loss keeps in memory until it is differentiated, besides the parameters."""
    seen, storages, nodes = set(), {}, [loss.grad_fn]
    leaves = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes.extend(following for following, _ in node.next_functions)
        if hasattr(node, "variable"):
            leaves.add(node.variable.untyped_storage().data_ptr())
        saved = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
        saved += getattr(node, "saved_tensors", ())
        for value in saved:
            for tensor in value if isinstance(value, (tuple, list)) else [value]:
                if isinstance(tensor, Tensor):
                    storage = tensor.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
    return sum(size for place, size in storages.items() if place not in leaves)
