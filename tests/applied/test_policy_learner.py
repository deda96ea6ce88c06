"""A policy in a user's hands: it adapts to an environment or to trajectories, acts in the environment's own spaces, and says
what it cannot use."""

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metashot
from metashot.applied.learner import Unavailable
from metashot.applied.policy import Policy
from metashot.applied.policy_learner import PolicyLearner
from metashot.checkpoints.stored import OURS

gymnasium = pytest.importorskip("gymnasium")

from tests.applied.environments import Arms, Plain, Robot, trained  # noqa: E402


@pytest.fixture(scope="module")
def navigation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("navigation") / "run", "algo=maml_rl", "backbone.hidden=[8]")


@pytest.fixture(scope="module")
def bandits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = ("backbone.hidden=[8]", "algo.test_inner_steps=2")
    return trained(tmp_path_factory.mktemp("bandits") / "run", "algo=maml_rl", "data=bandits", *small)


def learner(run: Path) -> PolicyLearner:
    found = metashot.load(run, device="cpu")
    assert isinstance(found, PolicyLearner)
    return found


@pytest.fixture(scope="module")
def robots(navigation: Path) -> PolicyLearner:
    return learner(navigation)


@pytest.fixture(scope="module")
def arms(bandits: Path) -> PolicyLearner:
    return learner(bandits)


def mean_return(policy: Policy, environment: Any) -> float:
    return float(np.mean([one.total_reward for one in policy.play(environment, 10, seed=1, horizon=20)]))


def changed(run: Path, path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The checkpoint of a run with another description of its worlds."""
    whole = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    change(whole[OURS]["origin"])
    torch.save(whole, path)
    return path


def test_an_adapted_policy_earns_more_in_its_environment_than_before(robots: PolicyLearner) -> None:
    robot = Robot()
    adapted = robots.fit(robot, trajectories=10, horizon=20, seed=0)
    assert adapted.adapted_to == 30  # of 3 updates
    assert mean_return(adapted, robot) > mean_return(robots.policy, robot) + 1


def test_an_update_is_a_step_along_the_policy_gradient(arms: PolicyLearner) -> None:
    played = arms.policy.play(Arms(), 6, seed=3)
    found = arms.fit(played)
    algorithm: Any = arms.algorithm
    rewards = torch.tensor(np.stack([one.rewards for one in played]))
    returns = torch.stack(
        [(rewards[:, step:] * algorithm.discount ** torch.arange(10 - step)).sum(1) for step in range(10)], 1
    )
    time = torch.arange(10).double() / 100  # every pull sees the same, so that the baseline is a cubic of time
    features = torch.stack([torch.ones(10), torch.ones(10), time, time**2, time**3, torch.ones(10)], 1).repeat(6, 1)
    weights = torch.linalg.solve(features.T @ features + 1e-5 * torch.eye(6), features.T @ returns.view(-1, 1))
    advantages = returns - (features @ weights).view(6, 10)  # with lambda = 1
    advantages = (advantages - advantages.mean()) / (advantages.std(unbiased=False) + 1e-8)
    theta = {name: value[0].detach().clone().requires_grad_() for name, value in arms.policy.state.theta.items()}
    outputs = torch.func.functional_call(algorithm.network, theta, (torch.ones(1, 60, 1),))[0]
    chosen = torch.tensor(np.concatenate([one.actions for one in played]))
    gain = (outputs.log_softmax(-1)[torch.arange(60), chosen] * advantages.view(-1)).mean()
    gradients = torch.autograd.grad(gain, list(theta.values()), materialize_grads=True)
    for (name, value), gradient in zip(theta.items(), gradients, strict=True):
        torch.testing.assert_close(found.state.theta[name][0], value + algorithm.alpha * gradient, rtol=1e-4, atol=1e-6)


def test_trajectories_that_the_policy_played_give_the_update_that_fit_takes_itself(arms: PolicyLearner) -> None:
    itself = arms.fit(Arms(), trajectories=5, updates=1, seed=3)
    recorded = arms.policy.play(Arms(), 5, seed=3)
    for given in (recorded, [(one.observations, one.actions, one.rewards) for one in recorded]):
        found = arms.fit(given)
        assert all(torch.equal(found.state.theta[name], value) for name, value in itself.state.theta.items())
    two = arms.fit(Arms(), trajectories=5, updates=2, seed=3)
    assert any(not torch.equal(two.state.theta[name], value) for name, value in itself.state.theta.items())


def test_what_was_clipped_is_learned_from_as_it_was_drawn(robots: PolicyLearner) -> None:
    itself = robots.fit(Robot(), trajectories=5, updates=1, seed=3)
    recorded = robots.policy.play(Robot(), 5, seed=3)
    assert any((np.abs(one.actions) > 0.0999).any() for one in recorded)
    found, without = robots.fit(recorded), robots.fit([(one.observations, one.actions, one.rewards) for one in recorded])
    assert all(torch.equal(found.state.theta[name], value) for name, value in itself.state.theta.items())
    assert any(not torch.equal(without.state.theta[name], value) for name, value in itself.state.theta.items())
    acting = robots.policy.acting(0)
    with pytest.raises(metashot.BadInput, match="no action was chosen yet"):
        acting.drawn  # noqa: B018
    move = acting.act(np.zeros(2), sample=True)
    np.testing.assert_allclose(np.clip(acting.drawn, -1, 1) / 10, move, atol=1e-6)
    broken = metashot.Trajectory(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3), np.zeros((3, 1)))
    with pytest.raises(metashot.BadInput, match=r"drawn actions of the shape \[3, 1\]; allowed: \[3, 2\]"):
        robots.fit([broken])


def test_fit_can_go_on_where_it_ended(arms: PolicyLearner) -> None:
    random = np.random.default_rng(0)
    environment = Arms()
    environment.reset(seed=0)
    step_by_step = arms.policy
    for _ in range(2):
        step_by_step = step_by_step.fit(step_by_step.play(environment, 4, seed=random))
    assert step_by_step.adapted_to == 8
    before, after = (policy.state.theta for policy in (arms.policy, step_by_step))
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    assert step_by_step.state.updates == 2


def test_actions_are_of_the_environments_space(robots: PolicyLearner, arms: PolicyLearner) -> None:
    policy = robots.policy
    for floats in (np.float32, np.float64):
        space = Robot(floats=floats).action_space
        for seed in range(20):
            action = policy.act([50.0, -50.0], sample=True, seed=seed)
            assert action.dtype == np.float32
            assert space.contains(action)
    assert policy.act(np.zeros((3, 2))).shape == (3, 2)
    assert type(arms.policy.act(0)) is int
    assert arms.policy.act([0, 0, 0]).tolist() == [arms.policy.act(0)] * 3


def test_choices_begin_where_the_space_does(arms: PolicyLearner, bandits: Path, tmp_path: Path) -> None:
    other = learner(changed(bandits, tmp_path / "from3.ckpt", lambda origin: origin["spaces"]["actions"].update(start=3)))
    assert other.policy.act(0) == arms.policy.act(0) + 3
    assert mean_return(other.policy, Arms(start=3)) == mean_return(arms.policy, Arms())
    played = other.policy.play(Arms(start=3), 5, seed=3)
    assert set(np.concatenate([one.actions for one in played])) <= {3, 4, 5, 6, 7}
    same = arms.fit(arms.policy.play(Arms(), 5, seed=3)).state.theta
    assert all(torch.equal(value, same[name]) for name, value in other.fit(played).state.theta.items())
    with pytest.raises(metashot.BadInput, match="action 2; allowed: 5 choices from 3"):
        other.fit([([0], [2], [1.0])])


def test_the_same_seed_gives_the_same_and_a_generator_goes_on(robots: PolicyLearner) -> None:
    seen = [0.1, 0.2]
    first, again = (robots.policy.act(seen, sample=True, seed=4) for _ in range(2))
    random = np.random.default_rng(4)
    drawn = [robots.policy.act(seen, sample=True, seed=random) for _ in range(2)]
    assert np.array_equal(first, again)
    assert np.array_equal(first, drawn[0])
    assert not np.array_equal(*drawn)
    assert np.array_equal(robots.policy.act(seen), robots.policy.act(seen))
    one, other = (robots.fit(Robot(), trajectories=2, updates=1, seed=5) for _ in range(2))
    assert np.array_equal(one.act(seen), other.act(seen))


def test_a_policy_never_changes_and_can_be_copied_pickled_and_shared(robots: PolicyLearner) -> None:
    policy = robots.fit(Robot(), trajectories=2, updates=1, seed=0)
    seen = np.random.default_rng(0).normal(size=(50, 2))
    before, untouched = policy.act(seen), robots.policy.act(seen)
    assert np.array_equal(pickle.loads(pickle.dumps(policy)).act(seen), before)
    assert np.array_equal(copy.deepcopy(policy).act(seen), before)
    with ThreadPoolExecutor(4) as threads:
        fits = [threads.submit(robots.fit, Robot(), 2, 1, None, seed) for seed in range(4)]
        acts = list(threads.map(policy.act, [seen] * 40))
        found = [fit.result() for fit in fits]
    assert all(np.array_equal(act, before) for act in acts)
    assert np.array_equal(found[0].act(seen), before)
    assert not np.array_equal(found[1].act(seen), before)
    assert np.array_equal(robots.policy.act(seen), untouched)
    with pytest.raises(AttributeError):
        policy.state = {}  # type: ignore[misc]


def test_an_environment_is_seeded_once_and_left_open(robots: PolicyLearner) -> None:
    robot = Robot()
    robots.fit(robot, trajectories=2, updates=2, seed=0, horizon=3)
    first, *others = robot.seeds
    assert first is not None
    assert others == [None] * 3
    assert not robot.closed
    robots.fit(robot, trajectories=1, updates=1, horizon=3)
    assert robot.seeds[4] is None
    robot.reset()
    robot.step(np.zeros(2, dtype=np.float32))


def test_wrapped_registered_and_plain_environments_are_played_alike(robots: PolicyLearner) -> None:
    gymnasium.register("metashot-tests/Robot-v0", Robot, max_episode_steps=7)
    made = gymnasium.make("metashot-tests/Robot-v0")
    try:
        (short,) = robots.policy.play(made, seed=0)
        assert len(short) == 7
        robots.fit(made, trajectories=2, updates=1)
    finally:
        del gymnasium.registry["metashot-tests/Robot-v0"]
    (plain,), (own,) = (robots.policy.play(one, seed=0, horizon=20) for one in (Plain(), Robot()))
    assert np.array_equal(plain.rewards, own.rewards)
    assert len(robots.policy.play(Robot())[0]) == 100  # as in training


def test_a_trajectory_ends_with_its_environment(arms: PolicyLearner, robots: PolicyLearner) -> None:
    (played,) = arms.policy.play(Arms(horizon=4), seed=0)
    assert (len(played), played.observations.shape, played.actions.shape, played.rewards.shape) == (4, (4,), (4,), (4,))
    assert played.total_reward == played.rewards.sum()
    assert repr(played) == f"<Trajectory: 4 steps, total_reward={played.rewards.sum():g}>"
    (cut,) = robots.policy.play(Robot(), seed=0, horizon=4)
    assert (cut.observations.shape, cut.actions.shape) == ((4, 2), (4, 2))


def test_trajectories_of_different_lengths_are_learned_from_together(arms: PolicyLearner) -> None:
    played = [*arms.policy.play(Arms(horizon=4), 3, seed=0), *arms.policy.play(Arms(), 3, seed=1)]
    one, other = arms.fit(played).state.theta, arms.fit(played[::-1]).state.theta
    for name, value in one.items():
        torch.testing.assert_close(value, other[name])


@pytest.fixture(scope="module")
def rl2(tmp_path_factory: pytest.TempPathFactory) -> PolicyLearner:
    small = ("algo.hidden=8", "algo.minibatches=1", "algo.episodes=3", "algo.optimizer.lr=0.3")
    return learner(trained(tmp_path_factory.mktemp("rl2") / "run", "algo=rl2", "data=bandits", *small))


def test_a_policy_with_a_memory_remembers_the_trajectories_of_fit(rl2: PolicyLearner) -> None:
    played = [([0] * 4, [1, 2, 3, 4], [0.0, 1.0, 1.0, 0.0]), ([0] * 2, [0, 1], [1.0, 0.0])]
    found = rl2.fit(played)
    network: Any = rl2.algorithm.network  # type: ignore[union-attr]
    actions, rewards = torch.tensor([1, 2, 3, 4, 0, 1]), torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    feedback = network.feedback(actions, rewards, torch.tensor([False, False, False, True, False, True]))
    told = torch.cat([torch.zeros(1, 7), feedback])
    outputs, _ = network(torch.ones(1, 7, 1), told[None])  # of the first action after them, too
    assert found.act(0) == outputs[0, -1].argmax()
    torch.testing.assert_close(found.state[0][0, 0], network.remember(torch.ones(1, 6, 1), told[None, :6])[0, -1])
    step_by_step = rl2.fit(played[:1]).fit(played[1:])
    assert all(torch.equal(one, other) for one, other in zip(found.state, step_by_step.state, strict=True))
    assert found.adapted_to == 2


def test_a_policy_with_a_memory_is_told_what_came_of_its_actions(rl2: PolicyLearner) -> None:
    policy = rl2.fit(Arms(), seed=0)
    assert policy.adapted_to == 2  # of the three episodes of a trial
    state = [part.clone() for part in policy.state]
    paid, unpaid = policy.acting(seed=1), policy.acting(seed=1)
    first = [paid.act([0] * 3, sample=True).tolist(), unpaid.act([0] * 3, sample=True).tolist()]
    assert first[0] == first[1]
    paid.act([0] * 3, reward=[1.0, 1.0, 1.0])
    unpaid.act([0] * 3, reward=0.0, ended=[True, False, False])
    assert not torch.equal(paid._actor.state[0], unpaid._actor.state[0])  # type: ignore[union-attr]
    with pytest.raises(metashot.BadInput, match="1 observations after 3"):
        paid.act(0, reward=0.0)
    with pytest.raises(metashot.BadInput, match="finite numbers, and True or False, one for each of 3"):
        unpaid.act([0] * 3, reward=[1.0, np.nan, 0.0])
    assert all(torch.equal(part, before) for part, before in zip(policy.state, state, strict=True))
    assert pickle.loads(pickle.dumps(policy)).act(0) == policy.act(0)
    same = [one.actions.tolist() for seed in (2, 2) for one in policy.play(Arms(), seed=seed)]
    assert same[0] == same[1]


def test_an_acting_policy_remembers_what_fit_would(rl2: PolicyLearner) -> None:
    acting, chosen, paid = rl2.policy.acting(seed=0), [], []
    reward = None
    for step in range(5):
        chosen.append(acting.act(0, sample=True, reward=reward))
        reward = float(step % 2)
        paid.append(reward)
    acting.saw(reward, ended=True)
    fitted = rl2.fit([([0] * 5, chosen, paid)])
    assert all(torch.equal(one, other) for one, other in zip(acting._actor.state, fitted.state, strict=True))  # type: ignore[union-attr]


def test_updates_are_refused_where_nothing_is_updated(rl2: PolicyLearner) -> None:
    with pytest.raises(metashot.BadInput, match=r"updates=3.*remembers trajectories"):
        rl2.fit(Arms(), updates=3)


def test_rules_of_bandits_act_in_their_own_worlds_only(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "algo=thompson", "data=bandits", "trainer.max_steps=0")
    with pytest.raises(metashot.BadInput, match="Thompson acts in worlds of data= only"):
        learner(run).fit(Arms())


def test_the_page_for_users_runs(navigation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs/how-to/policies.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/robot").symlink_to(navigation)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block.replace("trajectories=20", "trajectories=2").replace("range(20)", "range(2)"), names)
    assert names["policy"].adapted_to == 2


UNUSABLE: dict[str, tuple[Callable[[PolicyLearner], Any], str]] = {
    "a name": (lambda one: one.fit("CartPole-v1"), "no environment and no trajectories"),
    "nothing": (lambda one: one.fit(None), "no environment and no trajectories"),
    "a class": (lambda one: one.fit(Robot), "such as gymnasium.make"),
    "another environment": (
        lambda one: one.fit(gymnasium.make("CartPole-v1")),
        "CartPole-v1 cannot be used: .* 4 num",
    ),
    "other observations": (lambda one: one.fit(gymnasium.make("Pendulum-v1")), "observations are 3 numbers.*are 2 numbers"),
    "other actions": (lambda one: one.fit(with_actions(gymnasium.spaces.Box(-1, 1, (2,)))), "2 numbers from -1 to 1"),
    "choices": (lambda one: one.fit(with_actions(gymnasium.spaces.Discrete(2))), "its actions are 2 choices"),
    "bits": (lambda one: one.fit(with_actions(gymnasium.spaces.MultiBinary(2))), "action_space=MultiBinary.*Discrete"),
    "whole numbers": (lambda one: one.fit(with_actions(gymnasium.spaces.Box(-1, 1, (2,), int))), "a Box of floats"),
    "several": (lambda one: one.fit(gymnasium.vector.SyncVectorEnv([Robot])), "is a vector of environments"),
    "no spaces": (lambda one: one.fit(without_spaces()), "observation_space=None"),
    "no trajectories": (lambda one: one.fit([]), "0 trajectories were given; allowed: 1"),
    "arrays in place of trajectories": (
        lambda one: one.fit((np.zeros((2, 2)),) * 3),
        "trajectory 1 is.*a list of",
    ),
    "one of two lengths": (
        lambda one: one.fit([good(), (zeros(3), zeros(3), [0.0] * 2)]),
        "trajectory 2 has.*2 rewards",
    ),
    "a last observation": (
        lambda one: one.fit([(zeros(4), zeros(3), [0.0] * 3)]),
        "4 observations, 3 actions and 3",
    ),
    "no steps": (lambda one: one.fit([(zeros(0), zeros(0), [])]), "0 steps; allowed: 1 to"),
    "another shape": (lambda one: one.fit([(np.zeros((2, 3)), zeros(2), [0.0] * 2)]), r"shape \[2, 3\]; allowed: \[2\]"),
    "no batch": (lambda one: one.fit([(np.zeros(2), zeros(2), [0.0] * 2)]), "those before each of its actions"),
    "flat actions": (lambda one: one.fit([(zeros(2), [0.0] * 2, [0.0] * 2)]), r"actions of the shape \[2\]"),
    "actions outside": (
        lambda one: one.fit([(zeros(2), zeros(2) + 0.2, [0.0] * 2)]),
        "action with 0.2; allowed: 2 numbers",
    ),
    "a reward that is nan": (lambda one: one.fit([(zeros(2), zeros(2), [0.0, np.nan])]), "has rewards with nan"),
    "a reward that is text": (lambda one: one.fit([(zeros(2), zeros(2), ["a", "b"])]), "has rewards .*an array of numbers"),
    "an observation that is inf": (lambda one: one.fit([(zeros(1) + np.inf, zeros(1), [0.0])]), "observations with inf"),
    "an observation of 1e300": (lambda one: one.fit([(zeros(1) + 1e300, zeros(1), [0.0])]), "too large for the 32 bits"),
    "observations of 1e38": (lambda one: one.fit([(zeros(2) + 1e38, zeros(2), [0.0, 1.0])]), "gives non-finite updates"),
    "updates of recorded ones": (lambda one: one.fit([good()], updates=2), "updates=2.*one update"),
    "a horizon of recorded ones": (lambda one: one.fit([good()], horizon=5), "horizon=5 is for environments"),
    "a number of recorded ones": (lambda one: one.fit([good()], trajectories=5), "trajectories=5 is for environments"),
    "no updates": (lambda one: one.fit(Robot(), updates=0), "updates=0.*at least 1 and at most 100"),
    "negative updates": (lambda one: one.fit(Robot(), updates=-1), "updates=-1"),
    "too many updates": (lambda one: one.fit(Robot(), updates=101), "updates=101"),
    "half an update": (lambda one: one.fit(Robot(), updates=0.5), "updates=0.5.*whole number"),  # type: ignore[arg-type]
    "no trajectories to play": (lambda one: one.fit(Robot(), trajectories=0), "trajectories=0"),
    "true": (lambda one: one.fit(Robot(), trajectories=True), "trajectories=true"),
    "too many to keep": (lambda one: one.fit(Robot(), 100_000, horizon=10_000, updates=1), "GB of memory"),
    "no horizon": (lambda one: one.policy.play(Robot(), horizon=0), "horizon=0"),
    "a negative seed": (lambda one: one.policy.play(Robot(), seed=-1), "seed=-1"),
    "a seed that is text": (lambda one: one.policy.act([0, 0], seed="a"), "seed=a"),  # type: ignore[arg-type]
    "a sample that is no truth": (lambda one: one.policy.act([0, 0], sample="a"), "True or False"),  # type: ignore[arg-type]
    "an observation of another size": (lambda one: one.policy.act([0, 0, 0]), r"shape \[3\]; allowed: \[2\]"),
    "no observations": (lambda one: one.policy.act(zeros(0)), r"shape \[0, 2\]"),
    "observations of two batches": (lambda one: one.policy.act(np.zeros((2, 2, 2))), "one, or several in rows"),
    "an observation in parts": (lambda one: one.policy.act({"position": 1}), "an array of numbers"),
    "a reward before any action": (lambda one: one.policy.acting().saw(1.0), "none was chosen yet"),
}


def zeros(steps: int) -> Any:
    return np.zeros((steps, 2))


def good() -> Any:
    return zeros(2), zeros(2), [0.0, 1.0]


def with_actions(space: Any) -> Robot:
    robot = Robot()
    robot.action_space = space
    return robot


def without_spaces() -> Any:
    plain = Plain()
    del plain.observation_space
    return plain


@pytest.mark.parametrize(("call", "message"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_cannot_be_used_is_refused(robots: PolicyLearner, call: Callable[[PolicyLearner], Any], message: str) -> None:
    with pytest.raises(metashot.BadInput, match=message) as refused:
        call(robots)
    assert isinstance(refused.value, ValueError)


class Failing(Robot):
    """The robot, of which one method gives something else in its third call."""

    def __init__(self, method: str, found: Any) -> None:
        super().__init__()
        self.method, self.found, self.calls = method, found, 0

    def given(self, method: str, usual: Any) -> Any:
        self.calls += method == self.method
        if method != self.method or self.calls < 3:
            return usual
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.given("reset", super().reset(seed=seed))

    def step(self, action: Any) -> Any:
        return self.given("step", super().step(action))


FAILURES: dict[str, tuple[str, Any, str]] = {
    "an exception": (
        "step",
        RuntimeError("the motor is hot"),
        "Failing: step 3 of trajectory 1 raised RuntimeError",
    ),
    "an exception of a reset": ("reset", KeyError("door"), r"Failing: reset\(\) of trajectory 3 raised KeyError"),
    "a reward that is nan": ("step", (np.zeros(2), np.nan, False, False, {}), "step 3 .* returned the reward nan"),
    "a reward that is inf": ("step", (np.zeros(2), -np.inf, False, False, {}), "returned the reward -inf"),
    "no reward": ("step", (np.zeros(2), None, False, False, {}), "returned the reward None"),
    "two rewards": ("step", (np.zeros(2), np.zeros(2), False, False, {}), "returned the reward array"),
    "an observation that is nan": ("step", (np.full(2, np.nan), 0.0, False, False, {}), "an observation with nan"),
    "an observation of another shape": ("step", (np.zeros(3), 0.0, False, False, {}), r"of the shape \[3\]; allowed: \[2\]"),
    "several observations": ("step", (np.zeros((1, 2)), 0.0, False, False, {}), r"of the shape \[1, 2\]"),
    "a huge observation": ("step", (np.full(2, 1e300), 0.0, False, False, {}), "step 4 of trajectory 1 .*too large"),
    "four values, as gym did": (
        "step",
        (np.zeros(2), 0.0, False, {}),
        "returned 4 values; allowed: an observation",
    ),
    "an observation alone": ("reset", np.zeros(2), r"reset\(\) of trajectory 3 returned .*; allowed: an observation and"),
}


@pytest.mark.parametrize(("method", "found", "message"), FAILURES.values(), ids=FAILURES.keys())
def test_an_environment_that_fails_is_named_with_the_place(
    robots: PolicyLearner, method: str, found: Any, message: str
) -> None:
    with pytest.raises(metashot.BadInput, match=message):
        robots.fit(Failing(method, found), trajectories=3, updates=1, horizon=5)


@pytest.mark.parametrize(
    "name", ["predict", "predict_proba", "score", "save", "estimate", "explain", "next_to_label", "generate", "classes_"]
)
def test_what_makes_no_sense_for_a_policy_is_not_there(robots: PolicyLearner, name: str) -> None:
    assert not hasattr(robots, name)
    with pytest.raises(Unavailable, match="fit"):
        getattr(robots, name)


def test_a_learner_describes_itself_and_its_policies(robots: PolicyLearner) -> None:
    assert repr(robots) == "<PolicyLearner: maml_rl trained on navigation>"
    assert repr(robots.policy) == "<Policy: maml_rl trained on navigation, not adapted yet>"
    assert repr(robots.fit([good()])) == "<Policy: maml_rl trained on navigation, adapted to 1 trajectories>"
    with pytest.raises(metashot.BadInput, match="ink=dark is for learners of drawings"):
        metashot.load(robots.checkpoint, ink="dark")


def test_a_policy_that_is_told_its_tasks_cannot_be_told_those_of_a_user(navigation: Path, tmp_path: Path) -> None:
    whole = torch.load(navigation / "checkpoints" / "best.ckpt", weights_only=True)
    with pytest.raises(metashot.BadInput, match="algo=maml_rl is not: leave algo"):
        metashot.load(changed(navigation, tmp_path / "told.ckpt", lambda origin: origin.update(told=True)))
    run = trained(tmp_path / "oracle", "algo=oracle")
    oracle = learner(run)
    assert oracle.origin["input_shape"] == [4]
    assert whole[OURS]["origin"]["input_shape"] == [2]
    with pytest.raises(metashot.BadInput, match=r"told the task.*algo=maml_rl"):
        oracle.fit(Robot())


WITHOUT_GYMNASIUM = """
import sys

sys.modules["gymnasium"] = None
import numpy as np
import metashot

learner = metashot.load(sys.argv[1], device="cpu")
step = metashot.Trajectory(np.zeros((3, 2)), np.zeros((3, 2)), np.arange(3.0))
print(learner.fit([step, step]).act([0.0, 0.0]).shape)
"""


def test_recorded_trajectories_need_no_gymnasium(navigation: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_GYMNASIUM, str(navigation)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "(2,)\n", done.stderr
