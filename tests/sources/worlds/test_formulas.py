"""The families that are formulas, against what the papers say of them."""

import numpy as np
import pytest
import torch
from scipy import stats

pytest.importorskip("gymnasium")

from metashot.randomness import key_of
from metashot.sources.worlds.bandits import Bandits
from metashot.sources.worlds.mazes import Mazes
from metashot.sources.worlds.navigation import Navigation

KEY = key_of(0, "worlds", "test")
CPU = torch.device("cpu")
NUMBERS = np.arange(400)


def level(p: float) -> None:
    """A test of a distribution that is true fails as seldom as this; the numbers are the same every time."""
    assert p > 1e-3


def test_goals_are_uniform_in_the_square() -> None:
    goals = Navigation(10, 2.0, 0.1, "distance").descriptions(KEY, NUMBERS)
    level(stats.kstest(goals.ravel(), stats.uniform(-1, 2).cdf).pvalue)


@pytest.mark.parametrize("reward", ["distance", "squared"])
def test_robot_moves_and_pays_as_in_the_authors_code(reward: str) -> None:
    family = Navigation(3, 1.0, 0.1, reward)  # type: ignore[arg-type]
    goal = family.descriptions(KEY, NUMBERS[:1])[0]
    robots = family.environment(KEY, NUMBERS[:1], 2, 0, CPU, torch.float64)
    position, _ = robots.reset()
    assert position.tolist() == [[0, 0], [0, 0]]
    for move in ([0.03, -0.2], [5.0, 0.01], [-0.05, 0.0]):
        expected = position.numpy() + np.clip(move, -0.1, 0.1)
        position, rewards, terminated, truncated, _ = robots.step(torch.tensor([move, move], dtype=torch.double))
        np.testing.assert_allclose(position.numpy(), expected)
        distance = np.sqrt(((expected - goal) ** 2).sum(1))
        np.testing.assert_allclose(rewards.numpy(), -distance if reward == "distance" else -(distance**2))
        assert not terminated.any()
    assert truncated.all()


def test_robot_arrives_near_the_goal_along_each_axis() -> None:
    family = Navigation(30, 0.1, 0.1, "distance")
    goal = torch.from_numpy(family.descriptions(KEY, NUMBERS[:1]))
    for offset, arrives in ((0.0099, True), (0.0101, False)):
        robots = family.environment(KEY, NUMBERS[:1], 1, 0, CPU, torch.float64)
        robots.reset()
        _, _, terminated, _, _ = robots.step(goal + torch.tensor([[offset, 0.0]], dtype=torch.double))
        assert bool(terminated) == arrives


def test_arms_pay_with_probabilities_that_are_uniform() -> None:
    family = Bandits(3, 50)
    chances = family.descriptions(KEY, NUMBERS)
    level(stats.kstest(chances.ravel(), stats.uniform.cdf).pvalue)
    arms = family.environment(KEY, NUMBERS[:3], 400, 0, CPU, torch.float64)
    arms.reset()
    actions = torch.arange(3).repeat(400)  # the trajectories of a world pull its arms in turn
    paid = torch.stack([arms.step(actions)[1] for _ in range(50)]).reshape(50, 3, 400)
    for world in range(3):
        for arm in range(3):
            of_arm = paid[:, world, actions[:1200].view(3, 400)[world] == arm]
            level(stats.binomtest(int(of_arm.sum()), of_arm.numel(), chances[world, arm]).pvalue)


def test_regret_is_what_the_best_arm_would_have_paid_more() -> None:
    family = Bandits(3, 4)
    chances, actions = family.descriptions(KEY, NUMBERS[:2]), np.random.default_rng(0).integers(0, 3, (2, 5, 4))
    found = family.regrets(KEY, NUMBERS[:2], actions)
    for world, trajectory, pull in np.ndindex(2, 5, 4):
        expected = chances[world].max() - chances[world, actions[world, trajectory, pull]]
        assert found[world, trajectory, pull] == expected
    assert Mazes(3, 2, 4).regrets(KEY, NUMBERS, actions) is None


def test_mazes_are_drawn_as_in_the_paper() -> None:
    """Transitions from a flat Dirichlet distribution, of which each share is Beta(1, S - 1); mean rewards N(1, 1)."""
    rewards, transitions = Mazes(4, 3, 5).drawn(KEY, NUMBERS)
    level(stats.kstest(rewards.ravel(), stats.norm(1, 1).cdf).pvalue)
    level(stats.kstest(transitions[..., 2].ravel(), stats.beta(1, 3).cdf).pvalue)
    np.testing.assert_allclose(transitions.sum(-1), 1)
    assert abs(np.corrcoef(rewards[:, 0, 0], transitions[:, 0, 0, 0])[0, 1]) < 0.2


def test_mazes_move_and_pay_as_they_say() -> None:
    family, copies = Mazes(3, 2, 2), 20_000
    rewards, transitions = family.drawn(KEY, NUMBERS[7:8])
    processes = family.environment(KEY, NUMBERS[7:8], copies, 0, CPU, torch.float64)
    states, _ = processes.reset()
    assert not states.any()
    actions = torch.arange(copies) % 2
    for _ in range(2):
        before = states
        states, paid, terminated, truncated, _ = processes.step(actions)
        assert not terminated.any()
        for state, action in np.ndindex(3, 2):
            here = (before == state) & (actions == action)
            if here.sum() < 50:
                continue
            level(stats.kstest(paid[here].numpy(), stats.norm(rewards[0, state, action], 1).cdf).pvalue)
            counts = states[here].bincount(minlength=3).numpy()
            level(stats.chisquare(counts, transitions[0, state, action] * counts.sum()).pvalue)
    assert truncated.all()


def test_reset_begins_the_same_trajectories_again() -> None:
    processes = Mazes(3, 2, 4).environment(KEY, NUMBERS[:2], 3, 0, CPU, torch.float64)
    found = []
    for _ in range(2):
        processes.reset()
        found.append([processes.step(torch.ones(6, dtype=torch.long))[:2] for _ in range(4)])
    for one, other in zip(*found, strict=True):
        assert all(map(torch.equal, one, other))
