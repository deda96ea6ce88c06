"""Tasks that begin with parameters of their own: every engine takes them from there, and gradients flow back into them.

What a hypernetwork makes is tried with every algorithm's settings in test_agreement.py; here are the engines alone.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.gradient.learner import GradientLearner
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.engines import compilation
from metashot.engines.batched import Batched
from metashot.engines.inner import Engine, InnerLoop, InnerLoopResult, Parameters
from metashot.episodes import Episode, Examples
from metashot.problems import Classification
from tests.algorithms.gradient_learners import ENGINES, learner, random_episode
from tests.engines.test_agreement import EVERY, SETTINGS, WAYS

TASKS = 3


def images() -> Episode:
    return random_episode(TASKS, (1, 8, 8), WAYS, shots=2, queries=2, seed=0)


def made(**settings: Any) -> GradientLearner:
    torch.manual_seed(0)
    return learner("maml", MLP((1, 8, 8), [5], "transductive"), Classification(WAYS), steps=3, **settings).train()


def starts(algorithm: GradientLearner) -> Parameters:
    """Parameters of each task, each near the network's own and different from the others."""
    generator = torch.Generator().manual_seed(1)
    parameters = dict(algorithm.network.named_parameters())
    return {
        name: (
            parameters[name].detach()
            + 0.3 * torch.randn(TASKS, *parameters[name].shape, generator=generator, dtype=torch.float64)
        ).requires_grad_()
        for name in algorithm.adapted_names
    }


def adapted(algorithm: GradientLearner, engine: Engine, start: Parameters | None, **changes: Any) -> InnerLoopResult:
    inner, asked = replace(algorithm._inner_loop((0, 1, 3), None), **changes), images()
    batches = None
    if algorithm.batch_size is not None:
        batches = torch.arange(3 * algorithm.batch_size).view(1, 3, -1).expand(TASKS, -1, -1) % asked.support.x.shape[1]
    return engine(inner, asked.support, asked.query.x, batches, start)


def loss_of(found: InnerLoopResult) -> Tensor:
    y = images().query.y.unsqueeze(1).expand(found.answers.shape[:-1])
    return F.cross_entropy(found.answers.flatten(0, -2), y.flatten())


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("setting", ["plain", *SETTINGS])
def test_a_task_with_its_own_start_is_one_of_a_network_that_begins_there(setting: str, engine: Engine) -> None:
    """Answers, losses, parameters, and the gradient of the start: against each task alone on a network with its start as
    the network's own parameters."""
    algorithm = made(**SETTINGS.get(setting, {}))
    start = starts(algorithm)
    found = adapted(algorithm, engine, start)
    gradients = torch.autograd.grad(loss_of(found), list(start.values()))
    for task in range(TASKS):
        alone = made(**SETTINGS.get(setting, {}))
        alone.network.load_state_dict({name: value[task].detach() for name, value in start.items()}, strict=False)
        expected = adapted(alone, ENGINES["learn2learn"], None)
        torch.testing.assert_close(found.answers[task], expected.answers[task], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found.losses[task], expected.losses[task], rtol=1e-9, atol=1e-11)
        own = [dict(alone.network.named_parameters())[name] for name in start]
        y = images().query.y[task].expand(3, -1)
        loss = F.cross_entropy(expected.answers[task].flatten(0, -2), y.flatten()) / TASKS
        for gradient, wanted in zip(gradients, torch.autograd.grad(loss, own), strict=True):
            torch.testing.assert_close(gradient[task], wanted, rtol=1e-7, atol=1e-11)
        for name in start:
            torch.testing.assert_close(found.parameters[name][task], expected.parameters[name][task])
    assert max(gradient.abs().max().item() for gradient in gradients) > 1e-3


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen network"])
def test_own_starts_need_no_gradients(engine: Engine, frozen: bool) -> None:
    algorithm = made()
    start = starts(algorithm)
    expected = adapted(algorithm, engine, start)
    algorithm.network.requires_grad_(not frozen)
    with torch.no_grad():
        found = adapted(algorithm, engine, {name: value.detach() for name, value in start.items()})
    torch.testing.assert_close(found.answers, expected.answers, rtol=1e-9, atol=1e-11)
    assert not found.answers.requires_grad


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_a_start_that_is_made_in_other_precision_is_adapted_in_that_of_the_parameters(engine: Engine) -> None:
    algorithm = made()
    found = adapted(algorithm, engine, {name: value.to(torch.bfloat16) for name, value in starts(algorithm).items()})
    assert {value.dtype for value in found.parameters.values()} == {torch.float64}


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_a_start_that_does_not_fit_is_refused(engine: Engine) -> None:
    algorithm = made()
    start = starts(algorithm)
    for wrong in (
        {name: value for name, value in start.items() if name != "head.bias"},
        start | {"heed.bias": start["head.bias"]},
        start | {"head.bias": start["head.bias"][:1]},
    ):
        with pytest.raises(ValueError, match=r"initial parameters have the shapes .* and should have"):
            adapted(algorithm, engine, wrong)


def test_only_tasks_with_their_own_start_cost_a_grouped_convolution_in_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    backbone = Conv4((1, 16, 16), 4, "stride", "none")
    algorithm = learner("fomaml", backbone, Classification(WAYS), steps=1).eval()
    asked = random_episode(TASKS, (1, 16, 16), WAYS, shots=2, queries=2, seed=0)
    inner = algorithm._inner_loop((), None)
    groups: list[int] = []
    plain = torch.ops.aten.convolution.default

    class Noting(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is plain:
                groups.append(args[8])
            return func(*args, **(kwargs or {}))

    with Noting(), torch.no_grad():
        ENGINES["batched"](inner, asked.support, asked.query.x)
        shared, groups[:] = list(groups), []
        own = {name: value.expand(TASKS, *value.shape) for name, value in algorithm.network.named_parameters()}
        ENGINES["batched"](inner, asked.support, asked.query.x, None, own)
    assert set(shared) == {1}
    assert max(groups) == TASKS


@pytest.mark.long
def test_what_was_compiled_for_a_shared_start_is_not_taken_for_own_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    algorithm, engine = made(), Batched(chunk=None, compile=True, cuda_graph=False)
    inner: InnerLoop = algorithm._inner_loop((1,), None)
    asked, start = images(), starts(algorithm)
    for own in (None, start, None, start):
        expected = ENGINES["learn2learn"](inner, asked.support, asked.query.x, None, own).answers
        found = engine(inner, asked.support, asked.query.x, None, own).answers
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
        wanted = [*(own or dict(algorithm.network.named_parameters())).values()]
        y = asked.query.y.flatten()
        of_found, of_expected = (
            torch.autograd.grad(F.cross_entropy(answers.flatten(0, -2), y), wanted) for answers in (found, expected)
        )
        for one, other in zip(of_found, of_expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-11)
    assert engine.compiler is not None
    assert len(engine.compiler.cache) == 2
    torch._dynamo.reset()


def test_examples_and_queries_that_were_made_by_something_get_gradients_where_memory_is_saved() -> None:
    """As those of an embedding that is learned outside of the network."""
    algorithm, asked, found = made(), images(), []
    for recompute in (False, True):
        inner = replace(algorithm._inner_loop((0, 3), None), recompute=recompute)
        x, query_x = (part.x.clone().requires_grad_() for part in (asked.support, asked.query))
        answers = ENGINES["batched"](inner, Examples(x, asked.support.y), query_x).answers
        found.append(torch.autograd.grad(answers.square().sum(), [x, query_x]))
    for one, other in zip(*found, strict=True):
        assert one.abs().max() > 1e-6
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
