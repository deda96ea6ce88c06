"""One training step of MAML (second order, loss and backward) with each engine, and with learn2learn's own MAML.

The network, the tasks and the number of inner steps are the same for all of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.compare.peers import quiet
from benchmarks.timing import Row, alternate
from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.algorithms.gradient.maml import MAML
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.engines.batched import Batched
from metashot.engines.inner import Engine
from metashot.engines.learn2learn import Learn2Learn
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Problem, Regression
from metashot.training.memory import keep_freed_memory

WAYS, SHOTS, QUERIES, TASKS, SHAPE = 5, 1, 5, 4, (1, 28, 28)
STEPS, RATE = 5, 0.1


def conv4_pool() -> list[Row]:
    return _measure(lambda: Conv4(SHAPE, 32, "pool", "transductive"), Classification(WAYS), images(), STEPS, rounds=10)


def conv4_stride() -> list[Row]:
    return _measure(lambda: Conv4(SHAPE, 32, "stride", "transductive"), Classification(WAYS), images(), STEPS, rounds=20)


def mlp() -> list[Row]:
    backbone = lambda: MLP(SHAPE, [256, 128, 64, 64], "transductive")  # noqa: E731
    return _measure(backbone, Classification(WAYS), images(), STEPS, rounds=20)


def sinusoid() -> list[Row]:
    """25 tasks of 10 points, one inner step, as in Finn et al. 2017."""
    return _measure(lambda: MLP((1,), [40, 40], "none"), Regression(1), curves(), steps=1, rounds=20)


def images(device: str = "cpu") -> Episode:
    support, query = (
        Examples(
            torch.rand(TASKS, WAYS * each, *SHAPE, device=device),
            torch.arange(WAYS, device=device).repeat_interleave(each).expand(TASKS, -1),
        )
        for each in (SHOTS, QUERIES)
    )
    return Episode(support, query, torch.arange(TASKS), torch.arange(WAYS).expand(TASKS, -1))


def curves() -> Episode:
    support, query = (Examples(torch.randn(25, 10, 1), torch.randn(25, 10, 1)) for _ in range(2))
    return Episode(support, query, torch.arange(25), torch.empty(25, 0))


def maml(backbone: Backbone, problem: Problem, engine: Engine, steps: int, recompute: bool = False) -> MAML:
    return MAML(
        backbone=backbone,
        problem=problem,
        engine=engine,
        adapts=["*"],
        inner_lr=RATE,
        inner_steps=steps,
        test_inner_steps=steps,
        inner_batch=None,
        inner_loss="auto",
        inner_optimizer=InnerOptimizer("sgd", 0.9),
        first_order=False,
        least_fall=None,
        checkpoint_inner_steps=recompute,
        optimizer=Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0),
    )


def _measure(backbone: Callable[[], Backbone], problem: Problem, episode: Episode, steps: int, rounds: int) -> list[Row]:
    keep_freed_memory()  # as in every run

    def by(engine: Engine) -> Callable[[], None]:
        made = maml(backbone(), problem, engine, steps)
        return lambda: made.training_loss(episode).loss.backward()

    return alternate(
        {
            "metashot: task by task": by(Learn2Learn()),
            "metashot: all tasks at once": by(Batched(chunk=None, compile=False, cuda_graph=False)),
            "metashot: two tasks at once": by(Batched(chunk=2, compile=False, cuda_graph=False)),
            "learn2learn.algorithms.MAML": by_learn2learn(maml(backbone(), problem, Learn2Learn(), steps), episode, steps),
        },
        rounds,
    )


class _OneTask(nn.Module):
    """A network without the task dimension, as learn2learn expects it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = self.network(x.unsqueeze(0))[0]
        return answers


def by_learn2learn(learner: MAML, episode: Episode, steps: int) -> Callable[[], None]:
    """The same step in learn2learn's loop, with the learner's network."""
    with quiet():
        from learn2learn.algorithms import MAML as ByLearn2Learn  # noqa: N811
    library = ByLearn2Learn(_OneTask(learner.network), lr=RATE, first_order=False)
    loss, support, query = learner.problem.loss, episode.support, episode.query

    def step() -> None:
        for x, y, query_x, query_y in zip(support.x, support.y, query.x, query.y, strict=True):
            adapted = library.clone()
            for _ in range(steps):
                adapted.adapt(loss(adapted(x).unsqueeze(0), y.unsqueeze(0)))
            (loss(adapted(query_x).unsqueeze(0), query_y.unsqueeze(0)) / len(episode)).backward()

    return step
