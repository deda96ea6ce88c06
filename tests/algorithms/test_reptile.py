"""Reptile against plain loops of torch.optim: where each task leads, and where the meta-parameters then go."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.algorithms.gradient.minibatches import minibatches
from metashot.algorithms.optimization import Optimization
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.episodes import Episode
from tests.algorithms.gradient_learners import (
    ENGINES,
    assert_same,
    learner,
    outer_gradient,
    plain_network,
    random_episode,
    trained_plainly,
)

TASKS, STEPS, BATCH = 3, 4, 4  # of ten examples, so that the third batch takes some that were seen
RATES = {"sgd": 0.1, "momentum": 0.05, "adam": 0.01}
Optimizer = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
# Adam's decay of the mean is zero, as in Reptile's code. Its epsilon stands elsewhere in ours and has to be out of the way.
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, RATES["sgd"]),
    "momentum": lambda parameters: torch.optim.SGD(parameters, RATES["momentum"], momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, RATES["adam"], betas=(0.0, 0.999), eps=1e-30),
}


def made_with(inner: str, engine: str = "learn2learn", backbone: str = "mlp", **settings: Any) -> GradientLearner:
    torch.manual_seed(0)
    network = Conv4((1, 16, 16), 3, "pool", "transductive") if backbone == "conv4" else MLP((1, 16, 16), [6], "transductive")
    given = {"inner_batch": BATCH, "test_inner_batch": 3, "inner_lr": RATES[inner], "steps": STEPS}
    inner_optimizer = InnerOptimizer(inner, 0.9 if inner == "momentum" else 0.0)
    return learner("reptile", network, engine=ENGINES[engine], inner_optimizer=inner_optimizer, **(given | settings)).train()


def episode() -> Episode:
    """Whose tasks have numbers that are not their places."""
    drawn = random_episode(TASKS)
    return Episode(drawn.support, drawn.query, torch.tensor([12, 3, 7]), drawn.classes)


def all_examples(of: Episode, task: int) -> tuple[Tensor, Tensor]:
    return torch.cat([of.support.x[task], of.query.x[task]]), torch.cat([of.support.y[task], of.query.y[task]])


def where_tasks_lead(made: GradientLearner, of: Episode, optimizer: Optimizer) -> list[dict[str, Tensor]]:
    """phi_task of each task, by plain loops."""
    found = []
    for task in range(len(of)):
        x, y = all_examples(of, task)
        (batches,) = minibatches(of.number[task : task + 1].numpy(), len(x), BATCH, STEPS)
        found.append(trained_plainly(made.network, optimizer, [(x[batch], y[batch]) for batch in batches]))
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("backbone", ["mlp", "conv4"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_outer_gradient_is_the_mean_way_back_from_where_plain_loops_lead(optimizer: str, backbone: str, engine: str) -> None:
    made = made_with(optimizer, engine, backbone)
    led = where_tasks_lead(made, episode(), OPTIMIZERS[optimizer])
    expected = {
        f"network.{name}": torch.stack([phi.detach() - of_task[name] for of_task in led]).mean(0)
        for name, phi in made.network.named_parameters()
    }
    tolerance = {"rtol": 1e-5, "atol": 1e-7} if optimizer == "adam" else {}
    assert_same(outer_gradient(made, episode()), expected, **tolerance)


def test_a_step_of_sgd_with_the_rate_epsilon_goes_that_part_of_the_way() -> None:
    made = made_with("sgd", optimizer=Optimization("sgd", 0.3, 0.0, 0.0, "constant", 1, 1.0))
    led = where_tasks_lead(made, episode(), OPTIMIZERS["sgd"])
    expected = {
        name: phi.detach() + 0.3 * torch.stack([of_task[name] - phi.detach() for of_task in led]).mean(0)
        for name, phi in made.network.named_parameters()
    }
    outer = made.optimization.build(made.parameters(), 10)["optimizer"]
    made.training_loss(episode()).loss.backward()
    outer.step()
    assert_same(dict(made.network.named_parameters()), expected)


def test_the_loss_that_is_reported_is_that_of_the_queries_after_adapting() -> None:
    made, given = made_with("sgd"), episode()
    losses, answers = [], []
    for task, led in enumerate(where_tasks_lead(made, given, OPTIMIZERS["sgd"])):
        network = made_with("sgd").network
        network.load_state_dict(led)
        answers.append(plain_network(network)(given.query.x[task]).detach())
        losses.append(F.cross_entropy(answers[-1], given.query.y[task]).item())
    learned = made.training_loss(given)
    assert learned.loss.item() == pytest.approx(sum(losses) / TASKS)
    torch.testing.assert_close(learned.answers, torch.stack(answers))
    assert learned.inner_losses is not None
    assert learned.inner_losses.shape == (TASKS, STEPS)


@pytest.mark.parametrize("engine", ENGINES)
def test_testing_takes_its_own_number_of_steps_on_its_own_batches_of_the_support_set(engine: str) -> None:
    made, given = made_with("sgd", engine, test_inner_steps=6).eval(), episode()
    (batches,) = minibatches(torch.zeros(1, dtype=torch.int64).numpy(), 4, 3, 6)
    answers = []
    for task in range(TASKS):
        x, y = given.support.x[task], given.support.y[task]
        network = made_with("sgd").network
        network.load_state_dict(trained_plainly(made.network, OPTIMIZERS["sgd"], [(x[b], y[b]) for b in batches]))
        answers.append(plain_network(network)(given.query.x[task]).detach())
    torch.testing.assert_close(made(given.support, given.query.x), torch.stack(answers))


def test_batches_follow_the_numbers_of_the_episodes_and_not_their_places() -> None:
    made, given = made_with("sgd"), episode()
    back = torch.tensor([2, 0, 1])
    moved = Episode(
        *(type(given.support)(examples.x[back], examples.y[back]) for examples in (given.support, given.query)),
        given.number[back],
        given.classes[back],
    )
    assert_same(outer_gradient(made, moved), outer_gradient(made, given))
    others = Episode(given.support, given.query, given.number + 1, given.classes)
    name = "network.head.weight"
    assert (outer_gradient(made, others)[name] - outer_gradient(made, given)[name]).abs().max() > 1e-4


class Continued:
    """Adam without momentum, which goes on from the averages of squared gradients of the tasks before."""

    def __init__(self, squares: list[Tensor] | None, steps: int) -> None:
        self.squares, self.steps = squares, steps

    def __call__(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        own = list(parameters)
        self.adam = OPTIMIZERS["adam"](iter(own))
        for parameter, squares in zip(own, self.squares or [], strict=self.squares is not None):
            self.adam.state[parameter] = {
                "step": torch.tensor(float(self.steps)),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": squares.clone(),
            }
        return self.adam

    def led_to(self) -> list[Tensor]:
        return [state["exp_avg_sq"] for state in self.adam.state.values()]


@pytest.mark.parametrize("engine", ENGINES)
def test_tasks_continue_the_averages_of_squared_gradients_of_the_training_steps_before(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_with("adam", engine, carries_squares=True)
    monkeypatch.setattr(made, "_total", lambda values: values)  # of one device
    squares: list[Tensor] | None = None
    for step in range(3):
        given = episode()
        given = Episode(given.support, given.query, given.number + step, given.classes)
        continued = [Continued(squares, step * STEPS) for _ in range(TASKS)]
        led = [
            where_tasks_lead(made, Episode(*_of_task(given, task)), continued[task])[0] for task in range(TASKS)
        ]  # from the same averages
        found = made.training_step([given], step)["loss"]
        gradients = torch.autograd.grad(found, list(made.network.parameters()))
        for (name, phi), gradient in zip(made.network.named_parameters(), gradients, strict=True):
            expected = torch.stack([phi.detach() - of_task[name] for of_task in led]).mean(0)
            torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-9)
            phi.grad = gradient
        made.on_before_optimizer_step(None)
        squares = [torch.stack(of_tasks).mean(0) for of_tasks in zip(*(one.led_to() for one in continued), strict=True)]
        assert made.squares is not None
        torch.testing.assert_close(made.squares, torch.cat([value.flatten() for value in squares]), rtol=1e-6, atol=1e-12)
    tested = made.eval()(episode().support, episode().query.x)
    made.squares = made.share = None
    assert (made(episode().support, episode().query.x) - tested).abs().max() > 1e-3  # tests continue them, too


def _of_task(given: Episode, task: int) -> tuple[Any, ...]:
    one = slice(task, task + 1)
    parts = (type(part)(part.x[one], part.y[one]) for part in (given.support, given.query))
    return *parts, given.number[one], given.classes[one]


def test_groups_of_other_shapes_and_other_devices_count_by_their_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The averages are the mean over all tasks, and those of a group do not change those of the next one."""
    together, groups = (made_with("adam", carries_squares=True) for _ in range(2))
    given = episode()
    for made, batch in ((together, [given]), (groups, [Episode(*_of_task(given, task)) for task in range(TASKS)])):
        monkeypatch.setattr(made, "_total", lambda values: 2 * values)  # of two devices with the same tasks
        for step in range(2):
            made.training_step(batch, step)["loss"].backward()
            made.on_before_optimizer_step(None)
    assert together.squares is not None
    assert together.share is not None
    assert together.squares.abs().max() > 0
    torch.testing.assert_close(groups.squares, together.squares, rtol=1e-9, atol=0)
    assert together.share.item() == pytest.approx(1 - 0.999 ** (2 * STEPS))


@pytest.mark.parametrize("inner", ["sgd", "momentum"])
def test_other_inner_optimisers_have_nothing_to_carry_over(inner: str) -> None:
    made = made_with(inner, carries_squares=True)
    assert made.squares is None
    assert not any("squares" in name for name in made.state_dict())


def test_what_no_task_changes_is_not_learned() -> None:
    made = made_with("sgd", adapts=["head.*"])
    assert {name for name, parameter in made.named_parameters() if parameter.requires_grad} == {
        "network.head.weight",
        "network.head.bias",
    }
    assert_same(
        outer_gradient(made, episode()),
        {
            f"network.{name}": torch.stack(
                [phi.detach() - led[name] for led in where_tasks_lead(made, episode(), OPTIMIZERS["sgd"])]
            ).mean(0)
            for name, phi in made.network.named_parameters()
            if name.startswith("head.")
        },
    )
