"""The engines mean the same: answers, outer gradients and learned averages of every algorithm, whoever runs it."""

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch

from metashot.algorithms.gradient.inner_optimizer import InnerOptimizer
from metashot.algorithms.gradient.learner import GradientLearner
from metashot.backbones.conv4 import Conv4
from metashot.backbones.mlp import MLP
from metashot.backbones.normalisation import Protocol
from metashot.bad_input import BadInput
from metashot.engines.batched import Batched
from metashot.engines.choice import Auto
from metashot.engines.inner import Engine, InnerLoopResult
from metashot.engines.learn2learn import Learn2Learn
from metashot.episodes import Episode, Examples
from metashot.problems import Classification, Regression
from tests.algorithms.gradient_learners import ALGORITHMS, ENGINES, learner, random_curves, random_episode

TASKS, WAYS = 3, 3
IN_CHUNKS = Batched(chunk=2, compile=False, cuda_graph=False)
PROTOCOLS: list[Protocol] = ["transductive", "running", "support", "support_later", "none"]
# Settings of the inner loop that an engine has to know about, each with more than one step.
SETTINGS: dict[str, dict[str, Any]] = {
    "momentum": {"inner_optimizer": InnerOptimizer("momentum", 0.5)},
    "adam": {"inner_optimizer": InnerOptimizer("adam", 0.5), "inner_lr": 0.01},
    "mini-batches": {"inner_batch": 2},
    "hinge": {"inner_loss": "hinge"},
    "recomputed": {"checkpoint_inner_steps": True},
    "recomputed adam": {
        "checkpoint_inner_steps": True,
        "inner_optimizer": InnerOptimizer("adam", 0.5),
        "inner_lr": 0.01,
    },
    "tasks that stop": {"least_fall": 0.05, "inner_lr": 1.0},
}


def images() -> Episode:
    return random_episode(TASKS, (1, 16, 16), WAYS, shots=2, queries=4, seed=0)


Outcome = tuple[torch.Tensor, torch.Tensor, list[torch.Tensor | None], dict[str, torch.Tensor]]


def outcome(made: GradientLearner, episode: Episode) -> Outcome:
    learned = made.train().training_loss(episode)
    assert learned.inner_losses is not None
    wanted = [parameter for parameter in made.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(learned.loss, wanted, allow_unused=True)
    return learned.answers, learned.inner_losses, list(gradients), dict(made.named_buffers())


def same(one: GradientLearner, other: GradientLearner, episode: Episode) -> None:
    all_same(one, [other], episode)


def all_same(one: GradientLearner, others: Sequence[GradientLearner], episode: Episode) -> None:
    begun = copy.deepcopy(one.state_dict())  # averages are learned on the way
    answers, losses, gradients, buffers = outcome(one, episode)
    assert any(gradient is not None and gradient.abs().max() > 1e-6 for gradient in gradients)
    for other in others:
        other.load_state_dict(begun)
        other_answers, other_losses, other_gradients, other_buffers = outcome(other, episode)
        torch.testing.assert_close(other_answers, answers, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(other_losses, losses, rtol=1e-9, atol=1e-11)
        for mine, theirs in zip(gradients, other_gradients, strict=True):
            # An engine may say nothing where another says zero.
            mine, theirs = (torch.zeros(()) if gradient is None else gradient for gradient in (mine, theirs))
            torch.testing.assert_close(
                theirs.expand_as(mine), mine.expand_as(theirs), rtol=1e-7, atol=1e-11, check_dtype=False
            )
        assert buffers.keys() == other_buffers.keys()
        for name, value in buffers.items():
            torch.testing.assert_close(other_buffers[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_engines_agree_on_images(algorithm: str, steps: int, first_order: bool, protocol: Protocol) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"steps": steps, "first_order": first_order}
    if algorithm == "mamlpp":
        settings["averages_per_step"] = protocol == "running"
    one, *others = (
        learner(algorithm, Conv4((1, 16, 16), 4, "pool", protocol), Classification(WAYS), engine, **settings)
        for engine in (*ENGINES.values(), IN_CHUNKS)
    )
    all_same(one, others, images())


@pytest.mark.parametrize("protocol", ["transductive", "running"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_engines_agree_on_every_setting_of_the_inner_loop(setting: str, protocol: Protocol) -> None:
    torch.manual_seed(0)
    one, *others = (
        learner("maml", Conv4((1, 16, 16), 4, "pool", protocol), Classification(WAYS), engine, steps=4, **SETTINGS[setting])
        for engine in (*ENGINES.values(), IN_CHUNKS)
    )
    all_same(one, others, images())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_engines_agree_on_regression(algorithm: str) -> None:
    torch.manual_seed(0)
    one, other = (
        learner(algorithm, MLP((1,), [8, 8], "none"), Regression(1), engine, steps=2, inner_lr=0.1)
        for engine in ENGINES.values()
    )
    same(one, other, random_curves(TASKS))


# After how many of three steps a test's curve, a loss of several steps, and training ask for answers.
WANTED = ((0, 1, 2, 3), (1, 2), (3,))
FORMS: dict[str, dict[str, Any]] = {algorithm: {} for algorithm in ALGORITHMS} | SETTINGS
EVERY = {**ENGINES, "in chunks": IN_CHUNKS}


def of_form(form: str, engine: Engine) -> GradientLearner:
    """One of the algorithms, or MAML with one of the settings; always with the same weights."""
    torch.manual_seed(0)
    algorithm, settings = (form, {}) if form in ALGORITHMS else ("maml", SETTINGS[form])
    backbone = Conv4((1, 16, 16), 3, "stride", "support")
    return learner(algorithm, backbone, Classification(WAYS), engine, steps=3, **settings).eval()


def three_tasks() -> Episode:
    return random_episode(3, (1, 16, 16), WAYS, shots=2, queries=2, seed=0)


@cache
def reference(form: str) -> dict[int, InnerLoopResult]:
    """After each number of steps, each asked for alone and with gradients: no answer gets in the way of a step."""
    episode = three_tasks()
    made = of_form(form, Learn2Learn())
    return {steps: made.run_inner_loop(episode.support, episode.query.x, answer_after=(steps,)) for steps in range(4)}


@pytest.mark.parametrize("gradients", [True, False], ids=["with gradients", "without"])
@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("form", FORMS)
def test_engines_agree_on_answers_after_every_step_with_gradients_and_without(
    form: str, engine: Engine, gradients: bool
) -> None:
    episode, made, alone = three_tasks(), of_form(form, engine), reference(form)
    for wanted in WANTED:
        with torch.set_grad_enabled(gradients):  # Lightning's loops and fitted learners switch them off
            adapted = made.run_inner_loop(episode.support, episode.query.x, answer_after=wanted)
        torch.testing.assert_close(adapted.losses, alone[3].losses, rtol=1e-9, atol=1e-11)
        for name, value in alone[3].parameters.items():
            torch.testing.assert_close(adapted.parameters[name], value, rtol=1e-9, atol=1e-11)
        for position, steps in enumerate(wanted):
            assert adapted.answers.requires_grad == gradients
            torch.testing.assert_close(adapted.answers[:, position], alone[steps].answers[:, 0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("engine", EVERY.values(), ids=EVERY)
def test_what_a_test_and_a_fitted_learner_ask_for_needs_no_gradients(engine: Engine, protocol: Protocol) -> None:
    torch.manual_seed(0)
    made = learner("maml", MLP((1, 16, 16), [8], protocol), Classification(WAYS), engine, steps=2).eval()
    episode = images()
    expected, features = made(episode.support, episode.query.x).detach(), made.features_before_and_after(episode)
    with torch.no_grad():
        curve = made.answers_after_steps(episode)
        of_learned = made.answer_queries(made.adapt(episode.support), episode.query.x)
        without = made.features_before_and_after(episode)
    assert curve.shape[:2] == (TASKS, 3)
    for found in (curve[:, -1], of_learned):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    for one, other in zip(features, without, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_an_engine_answers_in_mixed_precision_without_gradients_as_with_them(engine: Engine, recompute: bool) -> None:
    torch.manual_seed(0)
    backbone = Conv4((1, 16, 16), 4, "pool", "transductive")
    settings: dict[str, Any] = {"steps": 2, "checkpoint_inner_steps": recompute}
    made = learner("maml", backbone, Classification(WAYS), engine, **settings).float().eval()
    support, query = (Examples(part.x.float(), part.y) for part in (images().support, images().query))
    exact = made.run_inner_loop(support, query.x, answer_after=(0, 1, 2)).answers
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = made.run_inner_loop(support, query.x, answer_after=(0, 1, 2)).answers
        with torch.no_grad():
            found = made.run_inner_loop(support, query.x, answer_after=(0, 1, 2)).answers
    assert not torch.allclose(expected.float(), exact, atol=1e-5)  # as queries are answered in fewer bits
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_queries_are_answered_after_each_number_of_steps_that_is_asked_for(engine: Engine) -> None:
    torch.manual_seed(0)
    made = learner("maml", MLP((1, 16, 16), [8], "support"), Classification(WAYS), engine, steps=3).eval()
    episode = images()
    curve = made.run_inner_loop(episode.support, episode.query.x, answer_after=(0, 1, 3)).answers
    assert curve.shape[:2] == (TASKS, 3)
    for position, steps in enumerate((0, 1, 3)):
        made.test_inner_steps = steps
        torch.testing.assert_close(curve[:, position], made(episode.support, episode.query.x))


def test_a_task_that_stopped_costs_no_further_passes() -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"steps": 20, "inner_lr": 1.0, "least_fall": 1e9}
    made = learner("maml", MLP((1, 16, 16), [8], "transductive"), Classification(WAYS), **settings).eval()
    passes = []
    loss = made.inner_loss
    made.inner_loss = lambda answers, y: passes.append(answers) or loss(answers, y)  # type: ignore[func-returns-value]
    episode = images()
    adapted = made.run_inner_loop(episode.support, episode.query.x)
    assert len(passes) == 2 * TASKS  # before the first step and before the second, which takes the first one back
    made.test_inner_steps = 0
    torch.testing.assert_close(adapted.answers, made.run_inner_loop(episode.support, episode.query.x).answers)


def test_the_last_step_is_judged_too_and_answers_are_those_of_what_was_kept() -> None:
    torch.manual_seed(0)
    made = learner("maml", MLP((1, 16, 16), [8], "none"), Classification(WAYS), steps=1, least_fall=1e9).eval()
    episode = images()
    before, after = made.run_inner_loop(episode.support, episode.query.x, answer_after=(0, 1)).answers.unbind(1)
    torch.testing.assert_close(after, before)
    made.least_fall = 1e-9
    _, fallen = made.run_inner_loop(episode.support, episode.query.x, answer_after=(0, 1)).answers.unbind(1)
    assert (fallen - before).abs().max() > 1e-3


def test_only_what_adapts_is_given_to_the_update() -> None:
    for algorithm, adapted in (("anil", "head."), ("boil", "backbone.")):
        made = learner(algorithm, MLP((1, 16, 16), [8], "none"))
        assert made.adapted_names
        assert all(name.startswith(adapted) for name in made.adapted_names)
    made = learner("maml", MLP((1, 16, 16), [8], "transductive"), adapts=["*", "-*.normalisations.*", "-*.bias"])
    assert made.adapted_names == ("network.backbone.linears.0.weight"[8:], "head.weight")


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["haed.*"], r"algo\.adapts=haed\.\* matches no parameter .*head\.weight"),
        (["*", "-haed.*"], r"algo\.adapts=-haed\.\* matches no parameter .*head\.weight"),
        (["*", "-*"], r"algo\.adapts=\[\*,-\*\] adapts no parameter; .*head\.weight"),
        ([], r"algo\.adapts=\[\] adapts no parameter; .*head\.weight"),
    ],
)
def test_patterns_that_adapt_nothing_are_refused_with_the_names_there_are(patterns: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        learner("maml", MLP((1, 16, 16), [8], "none"), adapts=patterns)


def test_auto_goes_one_by_one_for_large_images_on_a_cpu_and_all_at_once_elsewhere() -> None:
    for shape, device, kind, name in (
        ((1, 28, 28), "cpu", Batched, "batched"),
        ((1,), "cpu", Batched, "batched"),
        ((3, 84, 84), "cpu", Learn2Learn, "learn2learn"),
        ((3, 84, 84), "cuda", Batched, "batched"),
    ):
        assert isinstance(Auto().chosen(device, shape), kind)
        assert Auto().description(device, shape).startswith(name)


def test_auto_runs_what_it_says() -> None:
    torch.manual_seed(0)
    made = learner("maml", Conv4((1, 16, 16), 4, "stride", "none"), Classification(WAYS), Auto(), steps=1)
    (said,) = made.description("cpu")
    assert said == "engine: batched, all tasks of a step at once (chosen by auto)"
    ran = []
    made.engine.batched = lambda *given: ran.append(given) or Batched(None, False, False)(*given)  # type: ignore
    made.training_loss(images())
    assert len(ran) == 1
