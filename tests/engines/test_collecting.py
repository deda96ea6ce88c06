"""Inner steps that collect their examples with the parameters at hand, as a policy collects trajectories."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.gradient.learner import AdaptedTasks, GradientLearner
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.engines import compilation
from metashot.engines.batched import Batched
from metashot.engines.inner import Adaptable, Engine, InnerLoop, OptimizerState, Parameters
from metashot.episodes import Examples
from metashot.problems import Regression
from tests.algorithms.gradient_learners import learner, random_curves
from tests.engines.test_agreement import EVERY

TASKS, POINTS, INPUTS, STEPS, ALPHA = 3, 4, 2, 3, 0.1
Collected = list[tuple[int, slice]]


class Linear(Adaptable):
    """y = x theta; queries are answered relative to the mean of the support inputs, so that these can be seen."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(theta.clone())

    def forward(self, x: Tensor, step: int) -> Tensor:
        return x @ self.theta

    def answer(self, support_x: Tensor, query_x: Tensor, step: int) -> Tensor:
        return (query_x - support_x.mean(1, keepdim=True)) @ self.theta


class Worlds:
    """In the world of each task, where a policy looks depends on its parameters, and what it sees there on the world."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        shapes = {
            "places": (TASKS, POINTS, INPUTS),
            "true": (TASKS, INPUTS),
            "query_x": (TASKS, 5, INPUTS),
            "theta": (INPUTS,),
        }
        for name, shape in shapes.items():
            setattr(self, name, torch.randn(shape, generator=generator, dtype=torch.float64))
        self.asked: Collected = []

    def looked(self, task: int, theta: Tensor, step: int) -> tuple[Tensor, Tensor]:
        x = self.places[task] + (step + 1) * torch.tanh(theta)
        return x, x @ self.true[task]

    def collect(self, theta: Parameters, step: int, tasks: slice) -> Examples:
        self.asked.append((step, tasks))
        numbers = range(TASKS)[tasks]
        seen = [self.looked(task, own, step) for task, own in zip(numbers, theta["theta"], strict=True)]
        return Examples(torch.stack([x for x, _ in seen]), torch.stack([y for _, y in seen]))

    def by_hand(self, theta: Tensor, first_order: bool, answered: tuple[int, ...]) -> Tensor:
        """Answers [T, times, Q]: by a plain loop, with the gradient of the squared error at fixed examples written out."""
        answers = []
        for task in range(TASKS):
            own, of_task = theta, []
            x, y = self.looked(task, own, 0)
            for step in range(STEPS + 1):
                if step in answered:  # beside what was seen in the step before
                    of_task.append((self.query_x[task] - x.mean(0)) @ own)
                if step == STEPS:
                    break
                x, y = self.looked(task, own, step)
                gradient = 2 * x.T @ (x @ own - y) / POINTS
                own = own - ALPHA * (gradient.detach() if first_order else gradient)
            answers.append(torch.stack(of_task))
        return torch.stack(answers)


def inner_loop(network: Linear, **changes: Any) -> InnerLoop:
    def update(
        theta: Parameters, gradients: Parameters, state: OptimizerState, step: int, loss: Tensor
    ) -> tuple[Parameters, OptimizerState]:
        return {name: theta[name] - ALPHA * gradients[name] for name in theta}, state

    inner = InnerLoop(
        network=network,
        adapted_names=("theta",),
        outer_parameters=(network.theta,),
        loss=F.mse_loss,
        initial_state=lambda theta: {},
        update=update,
        steps=STEPS,
        first_order=False,
        answer_after=(0, 1, STEPS),
    )
    return replace(inner, **changes)


@pytest.mark.parametrize("recompute", [False, True], ids=["", "recomputed"])
@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_collected_examples_and_their_gradients_are_those_of_a_plain_loop(
    engine: Engine, first_order: bool, recompute: bool
) -> None:
    worlds = Worlds()
    network = Linear(worlds.theta)
    inner = inner_loop(network, first_order=first_order, recompute=recompute)
    found = engine(inner, worlds.collect, worlds.query_x).answers
    theta = worlds.theta.clone().requires_grad_()
    expected = worlds.by_hand(theta, first_order, inner.answer_after)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    weights = torch.arange(1.0, 1 + found.numel(), dtype=torch.float64).view_as(found)
    (gradient,) = torch.autograd.grad((weights * found).sum(), [network.theta])
    (wanted,) = torch.autograd.grad((weights * expected).sum(), [theta])
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_examples_are_collected_without_gradients_too(engine: Engine) -> None:
    worlds = Worlds()
    inner = inner_loop(Linear(worlds.theta))
    with torch.no_grad():
        found = engine(inner, worlds.collect, worlds.query_x).answers
    torch.testing.assert_close(found, worlds.by_hand(worlds.theta, False, inner.answer_after), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("recompute", [False, True], ids=["", "recomputed"])
@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_each_step_of_each_task_collects_once_although_it_is_answered_and_computed_again(
    engine: Engine, recompute: bool
) -> None:
    worlds = Worlds()
    engine(inner_loop(Linear(worlds.theta), recompute=recompute), worlds.collect, worlds.query_x).answers.sum().backward()
    asked = sorted((step, task) for step, tasks in worlds.asked for task in range(TASKS)[tasks])
    assert asked == [(step, task) for step in range(STEPS) for task in range(TASKS)]


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_tasks_with_their_own_start_collect_with_it(engine: Engine) -> None:
    worlds = Worlds()
    start = worlds.true + 1
    found = engine(inner_loop(Linear(worlds.theta)), worlds.collect, worlds.query_x, None, {"theta": start}).answers
    for task in range(TASKS):
        expected = worlds.by_hand(start[task], False, (0, 1, STEPS))[task]
        torch.testing.assert_close(found[task], expected, rtol=1e-9, atol=1e-11)


def test_compiled_steps_take_what_was_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    worlds = Worlds()
    engine = Batched(chunk=None, compile=True, cuda_graph=False)
    inner = inner_loop(Linear(worlds.theta))
    found = engine(inner, worlds.collect, worlds.query_x).answers
    torch.testing.assert_close(found, worlds.by_hand(worlds.theta, False, inner.answer_after), rtol=1e-9, atol=1e-11)
    torch._dynamo.reset()


@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_collected_examples_are_neither_split_nor_compared(engine: Engine) -> None:
    worlds = Worlds()
    with pytest.raises(BadInput, match=r"^algo\.least_fall=0\.1 compares .* collects other examples .* null$"):
        engine(inner_loop(Linear(worlds.theta), least_fall=0.1), worlds.collect, worlds.query_x)
    with pytest.raises(ValueError, match=r"^mini-batches need fixed support sets"):
        engine(inner_loop(Linear(worlds.theta)), worlds.collect, worlds.query_x, torch.zeros(TASKS, STEPS, 1).long())
    assert not worlds.asked
    for key, value in (("inner_batch", 2), ("least_fall", 0.1)):
        algorithm = learner("maml", MLP((INPUTS,), [4], "none"), Regression(1), engine, **{key: value})
        with pytest.raises(BadInput, match=rf"^algo\.{key}={value} .* null$"):
            algorithm.run_inner_loop(worlds.collect, worlds.query_x)


def test_a_learner_whose_examples_depend_on_its_answers_adapts_alike_with_every_engine() -> None:
    """Each task collects at its own inputs what is half the truth and half what the learner says at that step."""
    asked, found = random_curves(TASKS), []
    for engine in EVERY.values():
        torch.manual_seed(0)
        algorithm: GradientLearner = learner("maml", MLP((1,), [6], "none"), Regression(1), engine, steps=2).train()

        def collect(theta: Parameters, step: int, tasks: slice, algorithm: GradientLearner = algorithm) -> Examples:
            support = Examples(asked.support.x[tasks], asked.support.y[tasks])
            said = algorithm.answer_queries(AdaptedTasks(theta, support), support.x)
            return Examples(support.x, (support.y + said) / 2)

        answers = algorithm.run_inner_loop(collect, asked.query.x, answer_after=(0, 1, 2)).answers
        loss = (answers[:, -1] - asked.query.y).square().mean()
        found.append((answers, torch.autograd.grad(loss, list(algorithm.parameters()))))
    (answers, gradients), *others = found
    assert (answers[:, 2] - answers[:, 0]).abs().max() > 1e-3
    for other, of_other in others:
        torch.testing.assert_close(other, answers, rtol=1e-9, atol=1e-11)
        for one, two in zip(gradients, of_other, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-7, atol=1e-11)
