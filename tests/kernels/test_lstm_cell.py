"""The fused gates of the LSTM meta-learner and their gradients against the plain formula, mostly in double precision."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metashot.algorithms.model.metalstm import Cell, P
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.engines.inner import Engine
from metashot.episodes import Episode, Examples
from metashot.kernels import images, lstm_cell
from metashot.kernels.lstm_cell import Gates, are_available, are_usable
from metashot.problems import Classification
from tests.algorithms.gradient_learners import ENGINES, learner, random_episode
from tests.engines.test_agreement import EVERY

pytestmark = pytest.mark.skipif(not are_available(), reason="there is no C compiler")

STATE = Gates._fields
NUMBERS = ("theta", "gradient", "loss", *STATE)
Numbers = dict[str, Tensor]


def made(hidden: int, size: float = 0.7) -> Cell:
    cell = Cell(hidden, 0.3)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter += size * torch.randn_like(parameter)
    return cell


def double(cell: Cell) -> Cell:
    exact = Cell(cell.hidden, 0.3).double()
    exact.load_state_dict(cell.state_dict())
    return exact


def numbers(coordinates: int, hidden: int, *tasks: int) -> Numbers:
    """With gradients of all sizes around e^-P, and zeros."""
    gradient = torch.randn(*tasks, coordinates) * torch.exp(6 * torch.randn(*tasks, coordinates) - 5)
    gradient[..., ::5] = 0
    of_gates = {name: torch.rand(*tasks, coordinates) for name in ("i", "f")}
    of_hidden = {name: torch.randn(*tasks, coordinates, hidden) for name in ("h", "c")}
    return {
        "theta": torch.randn(*tasks, coordinates),
        "gradient": gradient,
        "loss": torch.rand(tasks) + 0.1,
        **of_gates,
        **of_hidden,
    }


def step(cell: Cell, given: Numbers, fused: bool, dims: tuple[int | None, ...] | None = None) -> Numbers:
    """A step of one task, or of several; `dims` says which numbers belong to tasks."""

    def of_task(*values: Tensor) -> Numbers:
        theta, gradient, loss, *state = values
        return cell(theta, gradient, loss, dict(zip(STATE, state, strict=True)), fused=fused)  # type: ignore[no-any-return]

    values = [given[name] for name in NUMBERS]
    if given["h"].dim() == given["c"].dim() == 2:
        return of_task(*values)
    found: Numbers = torch.func.vmap(of_task, in_dims=dims or (0,) * len(values))(*values)
    return found


def derivatives(
    cell: Cell, given: Numbers, fused: bool, dims: tuple[int | None, ...] | None = None, outcomes: tuple[str, ...] = STATE
) -> Numbers:
    """What a step gives, and the gradients of a function of some of its outcomes."""
    given = {name: value.detach().clone().requires_grad_() for name, value in given.items()}
    found = step(cell, given, fused, dims)
    random = torch.Generator().manual_seed(1)
    total = sum((found[name] * torch.randn(found[name].shape, generator=random).to(found[name])).sum() for name in outcomes)
    wanted = given | dict(cell.named_parameters())
    gradients = torch.autograd.grad(total, list(wanted.values()), materialize_grads=True)  # type: ignore[arg-type]
    of_wanted = {f"gradient of {name}": value for name, value in zip(wanted, gradients, strict=True)}
    return {name: value.detach() for name, value in (found | of_wanted).items()}


def assert_as_exact(cell: Cell, given: Numbers, **how: Any) -> None:
    """The error is at most a few times that of PyTorch's operations in single precision."""
    ours, plain = derivatives(cell, given, True, **how), derivatives(cell, given, False, **how)
    exact = derivatives(double(cell), {name: value.double() for name, value in given.items()}, False, **how)
    for name, theirs in exact.items():
        assert ours[name].dtype is torch.float32
        size = float(theirs.norm()) or 1.0
        error, rounding = (float((one[name].double() - theirs).norm()) / size for one in (ours, plain))
        assert error <= max(6 * rounding, 1e-6), (name, error, rounding)


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each call of the kernel."""
    counted: list[int] = []
    real = lstm_cell.gates
    monkeypatch.setattr(lstm_cell, "gates", lambda *given: (counted.append(1), real(*given))[1])
    return counted


@pytest.mark.parametrize("coordinates", [1, 7, 32, 33, 1001])
@pytest.mark.parametrize("hidden", [1, 3, 4, 20])
@pytest.mark.parametrize("tasks", [(), (1,), (3,)], ids=str)
def test_gates_and_gradients_are_exact(hidden: int, coordinates: int, tasks: tuple[int, ...], uses: list[int]) -> None:
    torch.manual_seed(hidden + coordinates)
    assert_as_exact(made(hidden), numbers(coordinates, hidden, *tasks))
    assert uses == [1]


def test_so_are_those_of_several_chunks() -> None:
    torch.manual_seed(0)
    assert_as_exact(made(4), numbers(10_007, 4, 2))


@pytest.mark.parametrize("outcome", STATE)
def test_outcomes_that_are_not_used_have_no_gradient(outcome: str) -> None:
    torch.manual_seed(0)
    assert_as_exact(made(3), numbers(37, 3, 2), outcomes=(outcome,))


@pytest.mark.parametrize("shared", NUMBERS)
def test_tasks_can_share_numbers(shared: str) -> None:
    torch.manual_seed(0)
    given = numbers(37, 3, 2)
    given[shared] = given[shared][0]
    assert_as_exact(made(3), given, dims=tuple(None if name == shared else 0 for name in NUMBERS))


def test_the_plain_formula_has_the_gradients_of_finite_differences() -> None:
    torch.manual_seed(0)
    cell, given = made(3).double(), {name: value.double() for name, value in numbers(5, 3).items()}
    given["gradient"] = torch.tensor([1e-6, -2e-5, 1e-3, -0.3, 4.0], dtype=torch.float64)  # on both sides of e^-P

    def outcomes(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(step(cell, dict(zip(NUMBERS, values, strict=True)), fused=True).values())

    assert torch.autograd.gradcheck(
        outcomes, [given[name].requires_grad_() for name in NUMBERS], eps=1e-8, atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_preprocessing_is_exact_on_both_sides_of_its_limit(sign: int) -> None:
    """The limit is the same number as the plain formula's. At the limit itself there is no derivative."""
    limit = torch.tensor(math.exp(-P))
    beside = [torch.nextafter(limit, torch.tensor(to)) for to in (0.0, 1.0)]
    gradient = sign * torch.stack([limit, *beside, limit / 2, limit * 2, torch.tensor(1e-42), torch.tensor(3e38)])
    torch.manual_seed(0)
    cell, given = made(2), numbers(len(gradient), 2) | {"gradient": gradient}
    ours, plain = (derivatives(cell, given, fused) for fused in (True, False))
    for name, value in plain.items():
        first = 1 if name == "gradient of gradient" else 0
        torch.testing.assert_close(ours[name].flatten()[first:], value.flatten()[first:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [5.0, 30.0, 100.0, 1e4, 1e30])
def test_gates_saturate_as_those_of_pytorch(size: float) -> None:
    torch.manual_seed(0)
    cell, given = made(3, size), numbers(101, 3, 2)
    ours, plain = (derivatives(cell, given, fused) for fused in (True, False))
    for name, value in plain.items():
        assert torch.equal(ours[name].isfinite(), value.isfinite()), name
        if size < 1e4:  # beyond, sums of numbers that cancel depend on their order
            torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4 * float(value.abs().max()))
    assert ours["c"].isfinite().all()


@pytest.mark.parametrize("argument", torch.linspace(-120, 120, 961).split(120), ids=lambda part: f"from {part[0]:g}")
def test_the_logistic_function_and_the_tangent_are_exact_to_rounding(argument: Tensor) -> None:
    """A cell whose only input is c: h = tanh(c) / 2, and i is the logistic function of theta."""
    cell, n = Cell(1, 0.3), len(argument)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.lstm.bias[1] = 100.0  # the cell forgets nothing
        cell.W_I[1] = 1.0
    given = numbers(n, 1) | {"theta": argument, "c": (argument / 12).unsqueeze(1)}
    found = step(cell, given, fused=True)
    for ours, exact in (
        (found["i"], argument.double().sigmoid()),
        (2 * found["h"][:, 0], (argument / 12).double().tanh()),
    ):
        torch.testing.assert_close(ours.double(), exact, rtol=4e-7, atol=1e-37)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_not_finite_has_the_same_effect(name: str, bad: float) -> None:
    torch.manual_seed(0)
    cell, given = made(3), numbers(40, 3, 2)
    given[name].view(-1)[0] = bad
    ours, plain = step(cell, given, True), step(cell, given, False)
    for each, value in plain.items():
        torch.testing.assert_close(ours[each], value, rtol=1e-5, atol=1e-6, equal_nan=True)
    if math.isnan(bad):
        assert any(value.isnan().any() for value in ours.values())
        ours, plain = (derivatives(cell, given, fused) for fused in (True, False))
        for each in ("gradient of W_I", "gradient of b_F"):
            assert torch.equal(ours[each].isnan(), plain[each].isnan())


def test_neither_threads_nor_other_tasks_nor_the_layout_of_memory_change_a_bit() -> None:
    torch.manual_seed(0)
    cell, given = made(4), numbers(9001, 4, 3)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = derivatives(cell, given, True)
        torch.set_num_threads(3)
        several = derivatives(cell, given, True)
    finally:
        torch.set_num_threads(threads)
    turned = {name: value.mT.contiguous().mT if name in ("h", "c") else value for name, value in given.items()}
    other = derivatives(cell, turned, True)
    for name, value in one.items():
        assert torch.equal(several[name], value), name
        assert torch.equal(other[name], value), name
    alone = step(cell, {name: value[1] for name, value in given.items()}, True)
    for name in STATE:
        assert torch.equal(alone[name], one[name][1])


def test_it_is_used_only_where_it_can_be(monkeypatch: pytest.MonkeyPatch, uses: list[int]) -> None:
    cell, given = made(2), numbers(5, 2)
    values = list(given.values())
    weights = cell._weights
    assert are_usable(weights, *values)
    assert not are_usable(weights, values[0].double())
    assert not are_usable(weights, values[0][:0])
    assert not are_usable(weights, torch.rand(2, device="meta"))
    assert not are_usable(double(cell)._weights, *values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not are_usable(weights, *values)
    seen: list[bool] = []
    torch.func.grad(lambda one: (seen.append(are_usable(weights, one)), one.sum())[1])(values[0])
    torch.func.vmap(torch.func.grad(lambda one: (seen.append(are_usable(weights, one)), one.sum())[1]))(torch.rand(2, 3))
    torch.func.vmap(lambda b: (seen.append(are_usable(weights._replace(bias_i=b), *values)), b)[1])(torch.rand(2))
    torch.jit.trace(lambda one: (seen.append(are_usable(weights, one)), one + 1)[1], values[0], check_trace=False)
    assert len(seen) >= 4
    assert not any(seen)
    assert not uses
    step(cell, given, fused=False)
    hook = cell.lstm.register_forward_hook(lambda *_: None)
    step(cell, given, fused=True)
    hook.remove()
    assert not uses
    step(cell, given, fused=True)
    assert uses == [1]
    monkeypatch.setattr(lstm_cell, "library", lambda *_: None)
    step(cell, given, fused=True)
    assert uses == [1]


def test_compiled_steps_use_the_plain_formula(uses: list[int]) -> None:
    torch.manual_seed(0)
    cell, given = made(2), numbers(5, 2, 3)
    compiled = torch.compile(step, backend="eager", fullgraph=True)(cell, given, True)
    assert not uses
    for name, value in step(cell, given, False).items():
        torch.testing.assert_close(compiled[name], value)


def test_there_is_no_second_derivative() -> None:
    cell, given = made(2), numbers(5, 2)
    theta = given["theta"].requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative: use METASHOT_KERNELS=0"):
        torch.autograd.grad(step(cell, given, True)["i"].sum(), theta, create_graph=True)


def test_too_little_memory_is_an_error_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def metashot_gates(self, *arguments: object) -> int:
            return 1

    monkeypatch.setattr(images, "library", lambda *_: Failing())
    with pytest.raises(MemoryError):
        step(made(2), numbers(5, 2), True)


def single(episode: Episode) -> Episode:
    parts = (Examples(part.x.float(), part.y) for part in (episode.support, episode.query))
    return replace(episode, **dict(zip(("support", "query"), parts, strict=True)))


def outer(engine: Engine, backbone: Any, first_order: bool, dtype: torch.dtype, **settings: Any) -> tuple[Tensor, Tensor]:
    """Answers and outer gradients."""
    torch.manual_seed(0)
    one = learner("metalstm", backbone(), Classification(2), engine, steps=3, hidden=4, first_order=first_order, **settings)
    with torch.no_grad():
        for parameter in one.cell.parameters():  # type: ignore[union-attr]
            parameter += 0.3 * torch.randn_like(parameter)
    episode = random_episode(3, one.network.backbone.input_shape, 2)
    trained = one.to(dtype).train().training_loss(episode if dtype is torch.float64 else single(episode))
    gradients = torch.autograd.grad(trained.loss, list(one.parameters()))
    return trained.answers.detach(), torch.cat([value.flatten() for value in gradients])


BACKBONES = {
    "conv4": lambda: Conv4((1, 12, 12), 5, "pool", "transductive", 2, fused=True),
    "mlp": lambda: MLP((1, 4, 4), [7], "transductive"),
}


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_learners_have_the_same_answers_and_outer_gradients(
    backbone: str, engine: Engine, first_order: bool, uses: list[int]
) -> None:
    ours = outer(engine, BACKBONES[backbone], first_order, torch.float32)
    assert uses
    used = len(uses)
    exact = outer(engine, BACKBONES[backbone], first_order, torch.float64)
    assert len(uses) == used
    for mine, theirs in zip(ours, exact, strict=True):
        assert float((mine.double() - theirs).norm() / theirs.norm()) < 1e-4


@pytest.mark.parametrize("settings", [{"checkpoint_inner_steps": True}, {"least_fall": 0.01}], ids=str)
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_so_do_those_that_recompute_or_stop(engine: Engine, settings: dict[str, Any], uses: list[int]) -> None:
    ours = outer(engine, BACKBONES["mlp"], True, torch.float32, **settings)
    assert uses
    for mine, theirs in zip(ours, outer(engine, BACKBONES["mlp"], True, torch.float64, **settings), strict=True):
        assert float((mine.double() - theirs).norm() / theirs.norm()) < 1e-4


def test_a_run_says_where_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    one = learner("metalstm", BACKBONES["mlp"](), Classification(2)).float()
    assert not any("gates" in line for line in one.description("cpu"))
    monkeypatch.setattr(lstm_cell, "library", lambda *_: None)
    monkeypatch.setenv("METASHOT_KERNELS", "0")
    assert one.description("cpu")[-1] == "fused gates: not used, since METASHOT_KERNELS=0 switches them off"
    assert not any("gates" in line for line in (*one.description("cuda"), *one.double().description("cpu")))


def test_backbone_fused_switches_it_off(uses: list[int]) -> None:
    outer(ENGINES["batched"], lambda: Conv4((1, 12, 12), 5, "pool", "transductive", 2), True, torch.float32)
    assert not uses
