"""Gradient-based learners of any kind, with the settings that a test is about and plain ones for the rest."""

from typing import Any

import torch

from metashot.algorithms.gradient.average import Average
from metashot.algorithms.gradient.finetune import Finetune
from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.gradient.maml import MAML
from metashot.algorithms.gradient.mamlpp import MAMLpp
from metashot.algorithms.gradient.metasgd import MetaSGD
from metashot.algorithms.gradient.reptile import Reptile
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.engines.inner import Engine
from metashot.engines.learn2learn import Learn2Learn
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Problem

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
    "finetune": (Finetune, {"head": "new"}),
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
        name=algorithm,
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
