"""MAML++ with each of its improvements alone, against a plain computation of the same and against finite differences."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metashot.algorithms.gradient.mamlpp import MAMLpp
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput
from metashot.episodes import Episode, Examples
from tests.algorithms.gradient_learners import ENGINES, assert_same, learner, outer_gradient, random_episode, slopes

STEPS = 3
RATE = 0.25
OFF = {
    "multi_step_loss": None,
    "annealed_share": 0.5,
    "gamma": 0.8,
    "learned_step_sizes": False,
    "averages_per_step": False,
    "affine_per_step": False,
    "first_order_share": 0.0,
}
ALONE: dict[str, dict[str, Any]] = {
    "all off": {},
    "annealed loss": {"multi_step_loss": "annealed"},
    "discounted loss": {"multi_step_loss": "discounted"},
    "learned step sizes": {"learned_step_sizes": True},
    "affine per step": {"affine_per_step": True},
    "adapted affine per step": {"affine_per_step": True, "adapts": ["*"]},
    "averages per step": {"averages_per_step": True},
    "first order at first": {"first_order_share": 0.3},
    "all on": {
        "multi_step_loss": "annealed",
        "learned_step_sizes": True,
        "affine_per_step": True,
        "averages_per_step": True,
    },
}
LINEAR, WEIGHT, BIAS = "backbone.linears.0.weight", "backbone.normalisations.0.weight", "backbone.normalisations.0.bias"


def made_with(protocol: Protocol = "running", steps: int = STEPS, **settings: Any) -> MAMLpp:
    """With values that differ from step to step, where there are separate ones."""
    torch.manual_seed(0)
    given = {"adapts": ["*", "-*.normalisations.*"], "inner_lr": RATE} | OFF | settings
    made = learner("mamlpp", MLP((1, 4, 4), [6], protocol), steps=steps, **given)
    assert isinstance(made, MAMLpp)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for buffer in made.buffers():
            buffer += 0.1 * torch.rand_like(buffer)
    return made.train()


def trained_for(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MAMLpp, "progress", share)


def episode() -> Episode:
    return random_episode(3, (1, 4, 4))


def row(values: Tensor, step: int) -> Tensor:
    return values if values.dim() == 1 else values[min(step, len(values) - 1)]


class Plain:
    """The network and the inner loop of one task, written out."""

    def __init__(self, made: MAMLpp, first_order: bool = False, steps: int = STEPS) -> None:
        self.made, self.first_order, self.steps = made, first_order, steps
        self.statistics: list[tuple[int, Tensor]] = []  # mean and variance of each pass, with its step

    def answers(self, theta: dict[str, Tensor], x: Tensor, step: int) -> Tensor:
        hidden = x.flatten(1) @ theta[LINEAR].T
        if self.made.training:
            mean, variance = hidden.mean(0), ((hidden - hidden.mean(0)) ** 2).mean(0)
        else:  # only `running` is tested there
            layer = self.made.network.backbone.normalisations[0]
            mean, variance = row(layer.running_mean, step), row(layer.running_var, step)
        self.statistics.append((step, torch.stack([mean, variance]).detach()))
        normalised = (hidden - mean) / (variance + 1e-5).sqrt()
        features = (normalised * row(theta[WEIGHT], step) + row(theta[BIAS], step)).clamp(min=0)
        return features @ theta["head.weight"].T + theta["head.bias"]

    def rate(self, name: str, step: int) -> Tensor | float:
        if not self.made.learned_step_sizes:
            return RATE
        of_steps: Tensor = self.made.alpha[self.made.adapted_names.index(name)]
        return of_steps[min(step, len(of_steps) - 1)]

    def after(self, of: Episode, task: int) -> list[Tensor]:
        """The answers to the queries after each step, from 0 on."""
        theta = dict(self.made.network.named_parameters())
        x, y, query_x = of.support.x[task], of.support.y[task], of.query.x[task]
        answers = []
        for step in range(self.steps):
            loss = F.cross_entropy(self.answers(theta, x, step), y)
            gradients = torch.autograd.grad(loss, [theta[name] for name in self.made.adapted_names], create_graph=True)
            for name, gradient in zip(self.made.adapted_names, gradients, strict=True):
                gradient = gradient.detach() if self.first_order else gradient
                theta[name] = theta[name] - self.rate(name, step) * gradient
            answers.append(self.answers(theta, query_x, step))
        return answers

    def outer_loss(self, of: Episode, weights: list[float]) -> Tensor:
        losses = []
        for task in range(len(of)):
            for weight, answers in zip(weights, self.after(of, task), strict=True):
                losses.append(weight * F.cross_entropy(answers, of.query.y[task]) / len(of))
        return torch.stack(losses).sum()


# At a fifth of training, of half of which the weights are annealed: they have gone two fifths of the way.
EARLY = (1 - 0.4) / STEPS
WEIGHTS = {
    "annealed loss": [EARLY, EARLY, 1 - 2 * EARLY],
    "all on": [EARLY, EARLY, 1 - 2 * EARLY],
    "discounted loss": [weight / (0.64 + 0.8 + 1) for weight in (0.64, 0.8, 1)],
}
LAST = [0.0] * (STEPS - 1) + [1.0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("switch", ALONE)
def test_each_improvement_alone_has_the_loss_and_outer_gradient_of_a_plain_computation(
    switch: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_for(0.2, monkeypatch)
    made = made_with(engine=ENGINES[engine], **ALONE[switch])
    plain = Plain(made, first_order=switch == "first order at first")
    loss = plain.outer_loss(episode(), WEIGHTS.get(switch, LAST))
    parameters = dict(made.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    expected = {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
    }
    assert_same(outer_gradient(made, episode()), expected)
    assert made.training_loss(episode()).loss.item() == pytest.approx(loss.item(), rel=1e-10)


@pytest.mark.parametrize("switch", [switch for switch in ALONE if switch != "first order at first"])
def test_each_improvement_alone_has_the_outer_gradient_of_finite_differences(
    switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_for(0.2, monkeypatch)
    for name, measured, claimed in slopes(made_with(**ALONE[switch]), episode()):
        assert claimed == pytest.approx(measured, rel=1e-4, abs=1e-8), name
        assert abs(claimed) > 1e-6, name


def test_without_its_improvements_it_is_maml() -> None:
    made = made_with()
    maml = learner("maml", MLP((1, 4, 4), [6], "running"), steps=STEPS, inner_lr=RATE, adapts=["*", "-*.normalisations.*"])
    maml.load_state_dict(made.state_dict())
    assert_same(outer_gradient(made, episode()), outer_gradient(maml, episode()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, [0.25, 0.25, 0.25, 0.25]),
        (0.1, [0.1875, 0.1875, 0.1875, 0.4375]),
        (0.2, [0.125, 0.125, 0.125, 0.625]),
        (0.395, [0.0075, 0.0075, 0.0075, 0.9775]),  # 0.03 of an equal weight is the least
        (0.4, [0, 0, 0, 1]),
        (1.0, [0, 0, 0, 1]),
    ],
)
def test_annealed_weights_move_from_equal_ones_to_the_last_step(
    share: float, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_for(share, monkeypatch)
    made = made_with(steps=4, multi_step_loss="annealed", annealed_share=0.4)
    assert made.step_weights() == pytest.approx(expected)


def test_weights_that_are_annealed_over_no_share_are_the_last_ones_from_the_beginning() -> None:
    assert made_with(multi_step_loss="annealed", annealed_share=0.0).step_weights() == LAST


@pytest.mark.parametrize("share", [0.0, 0.9])
@pytest.mark.parametrize(
    ("gamma", "expected"), [(0.5, [1 / 7, 2 / 7, 4 / 7]), (1.0, [1 / 3, 1 / 3, 1 / 3]), (0.0, [0.0, 0.0, 1.0])]
)
def test_discounted_weights_fall_with_each_step_before_the_last(
    gamma: float, expected: list[float], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_for(share, monkeypatch)
    assert made_with(multi_step_loss="discounted", gamma=gamma).step_weights() == pytest.approx(expected)


@pytest.mark.parametrize("setting", ["annealed", "discounted", None])
def test_with_one_step_its_loss_is_all_there_is(setting: str | None) -> None:
    assert made_with(steps=1, multi_step_loss=setting).step_weights() == [1.0]


def test_scores_are_those_of_the_answers_after_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    trained_for(0.0, monkeypatch)
    made = made_with(multi_step_loss="annealed")
    plain = Plain(made)
    expected = torch.stack([plain.after(episode(), task)[-1] for task in range(3)])
    torch.testing.assert_close(made.training_loss(episode()).answers, expected)


def test_second_derivatives_count_when_the_first_share_of_training_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    made, first, second = made_with(first_order_share=0.3), made_with(first_order=True), made_with()
    trained_for(0.29, monkeypatch)
    assert_same(outer_gradient(made, episode()), outer_gradient(first, episode()), rtol=0, atol=0)
    trained_for(0.3, monkeypatch)
    assert_same(outer_gradient(made, episode()), outer_gradient(second, episode()), rtol=0, atol=0)
    difference = (
        outer_gradient(first, episode())[f"network.{LINEAR}"] - outer_gradient(second, episode())[f"network.{LINEAR}"]
    )
    assert difference.abs().max() > 1e-5


def test_every_layer_and_step_begins_with_the_inner_rate() -> None:
    made = learner("mamlpp", MLP((1, 4, 4), [6], "transductive"), steps=4, inner_lr=RATE, adapts=["*.weight"])
    assert isinstance(made.alpha, torch.nn.Parameter)
    assert made.alpha.tolist() == [[RATE] * 4] * 3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("averages", [False, True])
def test_the_averages_of_a_step_learn_from_its_passes_and_normalise_them_in_testing(averages: bool, engine: str) -> None:
    made = made_with(averages_per_step=averages, engine=ENGINES[engine], multi_step_loss="discounted")
    layer = made.network.backbone.normalisations[0]
    before = [layer.running_mean.clone(), layer.running_var.clone()]
    tasks = [Plain(made) for _ in range(3)]
    for task, plain in enumerate(tasks):
        plain.after(episode(), task)
    made.training_loss(episode())
    for passes in zip(*(plain.statistics for plain in tasks), strict=True):
        step = passes[0][0] if averages else 0
        mean = torch.stack([statistics for _, statistics in passes]).mean(0)
        for values, target in zip(before, mean, strict=True):
            own = values[step] if averages else values
            own += 0.1 * (target - own)
    torch.testing.assert_close(layer.running_mean, before[0])
    torch.testing.assert_close(layer.running_var, before[1])
    made.eval()
    expected = torch.stack([Plain(made).after(episode(), task)[-1] for task in range(3)])
    torch.testing.assert_close(made(episode().support, episode().query.x), expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_steps_beyond_those_of_training_are_as_the_last_one(engine: str) -> None:
    switches = {"learned_step_sizes": True, "affine_per_step": True, "averages_per_step": True}
    made = made_with(test_inner_steps=STEPS + 3, engine=ENGINES[engine], **switches).eval()
    expected = torch.stack([Plain(made, steps=STEPS + 3).after(episode(), task)[-1] for task in range(3)])
    torch.testing.assert_close(made(episode().support, episode().query.x), expected)


def stopping_plainly(made: MAMLpp, of: Episode, task: int) -> tuple[dict[str, Tensor], int]:
    """The parameters of a task, and how many steps it has kept."""
    plain = Plain(made)
    theta = before = {name: value.detach() for name, value in made.network.named_parameters()}
    last = float("inf")
    for step in range(made.inner_steps):
        own = {name: value.clone().requires_grad_() for name, value in theta.items()}
        loss = F.cross_entropy(plain.answers(own, of.support.x[task], step), of.support.y[task])
        if last - loss.item() < made.least_fall:
            return before, step - 1
        gradients = torch.autograd.grad(loss, [own[name] for name in made.adapted_names])
        before, last = theta, loss.item()
        ways = zip(made.adapted_names, gradients, strict=True)
        theta = theta | {name: theta[name] - made.alpha * gradient for name, gradient in ways}
    return theta, made.inner_steps


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("steps", [6, 7])  # what went on again would be somewhere else after every other step
@pytest.mark.parametrize(("least", "rate"), [(0.1, RATE), (0.0, 6.0)], ids=["slow steps", "steps that are too long"])
def test_a_task_whose_loss_falls_by_too_little_takes_the_step_back_and_stops(
    least: float, rate: float, steps: int, engine: str
) -> None:
    made = made_with("transductive", steps=steps, least_fall=least, inner_lr=rate, engine=ENGINES[engine])
    given = episode()
    x = given.support.x.clone()
    x[0] = x[0, :1]  # one image with two labels: nothing to learn but their shares
    x[1, 2:] += 1  # two classes that are easy to tell apart
    given = Episode(Examples(x, given.support.y), given.query, given.number, given.classes)
    found = made.run_inner_loop(given.support, given.query.x).parameters
    kept = []
    for task in range(3):
        theta, taken = stopping_plainly(made, given, task)
        kept.append(taken)
        for name in made.adapted_names:
            torch.testing.assert_close(found[name][task], theta[name], msg=f"{name} of task {task}")
    assert kept[0] == 0
    assert len(set(kept)) > 1  # they do not all stop together


@pytest.mark.parametrize("protocol", ["transductive", "support", "none"])
def test_averages_for_each_step_are_refused_where_there_are_none(protocol: Protocol) -> None:
    with pytest.raises(BadInput, match=r"algo\.averages_per_step=true needs backbone\.normalisation=running.*" + protocol):
        made_with(protocol, averages_per_step=True)
