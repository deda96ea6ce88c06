"""Recomputing what is inside of inner steps changes what is kept and how long it takes, and nothing else."""

from typing import Any

import pytest
import torch
from torch import Tensor

from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.backbones.conv4 import Conv4
from metashot.engines.recomputation import recomputed
from tests.algorithms.gradient_learners import ENGINES, assert_same, kept_bytes, learner, outer_gradient, random_episode


def test_gradients_reach_arguments_and_what_the_function_uses_besides_them() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, other = (torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (x * y).exp() * other, x.sin(), other.square()

    def loss(values: tuple[Tensor, ...]) -> Tensor:
        return sum((k + 2) * (value**2).sum() for k, value in enumerate(values))  # type: ignore[return-value]

    plain = torch.autograd.grad(loss(function(x, y)), [x, y, other])
    for expected, found in zip(
        plain, torch.autograd.grad(loss(recomputed(function, [x, y], [other])), [x, y, other]), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_outputs_that_are_not_used_and_arguments_that_need_no_gradient_are_left_out() -> None:
    x, constant = torch.full((3,), 2.0, requires_grad=True), torch.ones(3)
    values = recomputed(lambda x, constant: (x * constant, x.exp(), constant + 1), [x, constant], [])
    values[0].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1, 1]
    assert constant.grad is None


def test_it_is_the_function_itself_where_nothing_needs_a_gradient() -> None:
    calls = []

    def function(x: Tensor) -> tuple[Tensor, ...]:
        calls.append(x)
        return (2 * x,)

    with torch.no_grad():
        (value,) = recomputed(function, [torch.ones(2, requires_grad=True)], [])
    assert value.tolist() == [2, 2]
    (value,) = recomputed(function, [torch.ones(2)], [torch.ones(1)])
    assert not value.requires_grad
    assert len(calls) == 2


def test_a_function_runs_once_and_again_when_it_is_differentiated() -> None:
    calls = []

    def function(x: Tensor) -> tuple[Tensor, ...]:
        calls.append(torch.is_grad_enabled())
        return (x.exp(),)

    (value,) = recomputed(function, [torch.ones(2, requires_grad=True)], [])
    assert calls == [False]
    value.sum().backward()
    assert calls == [False, True]


CASES: dict[str, dict[str, Any]] = {
    "maml": {},
    "fomaml": {},
    "anil": {},
    "metasgd": {},
    "metalstm": {},
    "mamlpp": {"averages_per_step": True},
    "maml with adam": {"inner_optimizer": InnerOptimizer("adam", 0.5), "inner_lr": 0.01},
    "maml with mini-batches": {"inner_batch": 3},
    "maml with tasks that stop": {"least_fall": 0.05, "inner_lr": 1.0},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES)
def test_outer_gradients_and_averages_are_those_without_recomputation(case: str, engine: str) -> None:
    episode = random_episode(tasks=3)
    gradients, averages = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        backbone = Conv4((1, 16, 16), 3, "pool", "running")
        settings = {"steps": 3, "engine": ENGINES[engine], "checkpoint_inner_steps": recompute}
        made = learner(case.split()[0], backbone, **settings, **CASES[case])
        gradients.append(outer_gradient(made, episode))
        averages.append(dict(made.named_buffers()))
    assert_same(gradients[1], gradients[0], rtol=1e-9)
    assert averages[0]
    for name, value in averages[0].items():
        torch.testing.assert_close(averages[1][name], value)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_kept_grows_with_the_steps_by_their_parameters_alone(engine: str) -> None:
    def kept(steps: int, recompute: bool) -> int:
        torch.manual_seed(0)
        backbone = Conv4((1, 16, 16), 4, "pool", "transductive")
        made = learner("maml", backbone, engine=ENGINES[engine], steps=steps, checkpoint_inner_steps=recompute)
        return kept_bytes(made.train().training_loss(random_episode(tasks=2)).loss)

    torch.manual_seed(0)
    parameters = learner("maml", Conv4((1, 16, 16), 4, "pool", "transductive")).parameters()
    of_a_step = 2 * sum(parameter.nbytes for parameter in parameters)  # 2 tasks have their own
    assert 0 < kept(6, True) - kept(1, True) <= 5 * 1.1 * of_a_step
    assert kept(6, False) - kept(1, False) > 5 * 20 * of_a_step


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_after_every_step_are_not_kept_either(engine: str) -> None:
    def kept(recompute: bool) -> int:
        torch.manual_seed(0)
        settings = {"steps": 5, "checkpoint_inner_steps": recompute, "multi_step_loss": "discounted"}
        made = learner("mamlpp", Conv4((1, 16, 16), 4, "pool", "transductive"), engine=ENGINES[engine], **settings)
        return kept_bytes(made.train().training_loss(random_episode(tasks=2)).loss)

    assert kept(True) < 0.1 * kept(False)


def test_without_recomputation_autograd_keeps_what_is_inside() -> None:
    """What the tests above count is what torch hands to its own hooks."""
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    x = torch.ones(1000, requires_grad=True)
    counts = []
    for call in (lambda: x.exp().exp().exp(), lambda: recomputed(lambda x: (x.exp().exp().exp(),), [x], [])[0]):
        kept = 0
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            call()
        counts.append(kept)
        # A result of the last exp is kept too, and the input of a function is the leaf, which is there anyway.
    assert counts == [3 * x.nbytes, x.nbytes]
    assert kept_bytes(x.exp().exp().exp().sum()) == 3 * x.nbytes
    assert kept_bytes(recomputed(lambda x: (x.exp().exp().exp(),), [x], [])[0].sum()) == 0
