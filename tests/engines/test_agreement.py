"""The engines mean the same: answers, outer gradients and learned averages of every algorithm, whoever runs it."""

from typing import Any

import pytest
import torch

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.gradient.maml import MAML
from metashot.algorithms.gradient.metasgd import MetaSGD
from metashot.algorithms.optimization import Optimization
from metashot.backbones.base import Backbone
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput
from metashot.engines.batched import Batched
from metashot.engines.choice import Auto
from metashot.engines.inner import Engine
from metashot.engines.learn2learn import Learn2Learn
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Problem, Regression

TASKS, WAYS, SHOTS, QUERIES = 5, 3, 2, 4
ALGORITHMS: dict[str, tuple[type[Any], list[str]]] = {
    "maml": (MAML, ["*"]),
    "anil": (MAML, ["head.*"]),
    "boil": (MAML, ["backbone.*"]),
    "metasgd": (MetaSGD, ["*"]),
}
PROTOCOLS: list[Protocol] = ["transductive", "running", "support", "none"]


def learner(
    algorithm: str, backbone: Backbone, engine: Engine, steps: int, first_order: bool, problem: Problem | None = None
) -> GradientLearner:
    kind, adapts = ALGORITHMS[algorithm]
    optimizer = Optimization("adam", 1e-3, 0.9, 0.0, "constant", 1, 1.0)
    given = (backbone, problem or Classification(WAYS), engine, adapts, 0.3, steps, steps, first_order, optimizer)
    made = kind(algorithm, *given)
    assert isinstance(made, GradientLearner)
    return made.double()


def images(seed: int = 0) -> Episode:
    generator = torch.Generator().manual_seed(seed)

    def examples(each: int) -> Examples:
        x = torch.rand(TASKS, WAYS * each, 1, 16, 16, generator=generator, dtype=torch.float64)
        return Examples(x, torch.arange(WAYS).repeat_interleave(each).expand(TASKS, -1))

    return Episode(examples(SHOTS), examples(QUERIES), torch.arange(TASKS), torch.arange(WAYS).expand(TASKS, -1))


Outcome = tuple[torch.Tensor, list[torch.Tensor | None], dict[str, torch.Tensor]]


def outcome(made: GradientLearner, episode: Episode) -> Outcome:
    loss, answers = made.train().training_loss(episode)
    gradients = torch.autograd.grad(loss, list(made.parameters()), allow_unused=True)
    return answers, list(gradients), dict(made.named_buffers())


def same(one: GradientLearner, other: GradientLearner, episode: Episode) -> None:
    other.load_state_dict(one.state_dict())
    answers, gradients, buffers = outcome(one, episode)
    other_answers, other_gradients, other_buffers = outcome(other, episode)
    torch.testing.assert_close(other_answers, answers, rtol=1e-9, atol=1e-11)
    for mine, theirs in zip(gradients, other_gradients, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            torch.testing.assert_close(theirs, mine, rtol=1e-7, atol=1e-11)
    assert buffers.keys() == other_buffers.keys()
    for name, value in buffers.items():
        torch.testing.assert_close(other_buffers[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_engines_agree_on_images(algorithm: str, steps: int, first_order: bool, protocol: Protocol) -> None:
    torch.manual_seed(0)
    one, *others = (
        learner(algorithm, Conv4((1, 16, 16), 4, "pool", protocol), engine, steps, first_order)
        for engine in (Learn2Learn(), Batched(chunk=None), Batched(chunk=2))
    )
    for other in others:
        same(one, other, images())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_engines_agree_on_regression(algorithm: str) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    shape = (TASKS, 6, 1)
    x, y, query_x, query_y = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4))
    episode = Episode(Examples(x, y), Examples(query_x, query_y), torch.arange(TASKS), torch.empty(TASKS, 0))
    one, other = (
        learner(algorithm, MLP((1,), [8, 8], "none"), engine, 2, False, Regression(1))
        for engine in (Learn2Learn(), Batched(chunk=None))
    )
    same(one, other, episode)


@pytest.mark.parametrize("engine", [Learn2Learn(), Batched(chunk=None)], ids=["learn2learn", "batched"])
def test_an_engine_answers_without_gradients_as_with_them(engine: Engine) -> None:
    torch.manual_seed(0)
    made, episode = learner("maml", MLP((1, 16, 16), [8], "transductive"), engine, 2, False).eval(), images()
    expected = made(episode.support, episode.query.x).detach()
    with torch.no_grad():
        answers = made(episode.support, episode.query.x)
    torch.testing.assert_close(answers, expected)
    assert not answers.requires_grad


def test_only_what_adapts_is_given_to_the_update() -> None:
    torch.manual_seed(0)
    for algorithm, adapted in (("anil", "head."), ("boil", "backbone.")):
        made = learner(algorithm, MLP((1, 16, 16), [8], "none"), Batched(chunk=None), 1, False)
        assert made.adapting
        assert all(name.startswith(adapted) for name in made.adapting)


def test_a_pattern_that_adapts_nothing_is_refused_with_the_names_there_are() -> None:
    ALGORITHMS["none"] = (MAML, ["haed.*"])
    try:
        with pytest.raises(BadInput, match=r"algo\.adapts=haed\.\* matches no parameter .*head\.weight"):
            learner("none", MLP((1, 16, 16), [8], "none"), Learn2Learn(), 1, False)
    finally:
        del ALGORITHMS["none"]


def test_auto_goes_one_by_one_on_a_cpu_and_all_at_once_on_a_gpu() -> None:
    assert isinstance(Auto().chosen("cpu"), Learn2Learn)
    assert isinstance(Auto().chosen("cuda"), Batched)
