"""Families in torch: their formulas beside a plain loop, random numbers that depend on the world alone, and gymnasium's
interface."""

from typing import Any

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

from metashot.randomness import normal, uniform, uniform_inside  # noqa: E402
from metashot.sources.worlds.bandits import Bandits  # noqa: E402
from metashot.sources.worlds.mazes import Mazes  # noqa: E402
from metashot.sources.worlds.navigation import Navigation  # noqa: E402
from metashot.worlds import stream_of_environments, stream_of_tasks  # noqa: E402
from tests.sources.worlds.families import HORIZON, IN_TORCH, KEY, actions, happened, same, worlds  # noqa: E402

NUMBERS, COPIES, ROUND = [4, 2**33 + 1], 2, 3


def every_trajectory(found: list[Any]) -> Any:
    for t, number in enumerate(NUMBERS):
        for copy in range(COPIES):
            yield number, copy, found[t][copy]


def chosen(family: Any, number: int, copy: int) -> list[Any]:
    return [actions(family, [number], copy + 1, step)[copy].numpy() for step in range(HORIZON)]


@pytest.mark.parametrize("reward", ["distance", "squared"])
def test_navigation_is_its_formulas(reward: Any) -> None:
    family = Navigation(HORIZON, 1.0, 0.1, reward)
    for number, copy, (seen, paid, ended) in every_trajectory(happened(family, NUMBERS, COPIES, ROUND)):
        goal = family.descriptions(KEY, np.array([number]))[0]
        assert (abs(goal) < 0.5).all()
        place = np.zeros(2)
        for step, action in enumerate(chosen(family, number, copy)):
            np.testing.assert_allclose(seen[step], place, atol=1e-12)
            place = place + np.clip(0.1 * action, -0.1, 0.1)
            squares = ((place - goal) ** 2).sum()
            assert paid[step] == pytest.approx(-squares if reward == "squared" else -(squares**0.5), abs=1e-12)
            assert ended[step] == ((abs(place - goal) < 0.01).all() or step == HORIZON - 1)


def test_navigation_ends_near_its_goal_and_goals_fill_the_square() -> None:
    family = Navigation(HORIZON, 0.1, 0.1, "distance")  # a small square, in which a step reaches the goal
    goals = torch.from_numpy(family.descriptions(KEY, np.arange(500)))
    assert goals.min() < -0.0495
    assert goals.max() > 0.0495
    environment = worlds(family, *range(500), dtype=torch.float64).environment(1, 0)
    environment.reset()
    for offset, ends in ((0.0099, True), (0.0101, False)):
        environment.reset()
        _, _, terminated, truncated, _ = environment.step(goals + torch.tensor([offset, -offset]))
        assert (terminated == ends).all()
        assert not truncated.any()


def test_bandits_are_their_formulas() -> None:
    family = Bandits(4, HORIZON)
    for number, copy, (seen, paid, ended) in every_trajectory(happened(family, NUMBERS, COPIES, ROUND)):
        numbers = np.array([number])
        chances = uniform_inside(KEY, numbers, stream_of_tasks(), 4)[0]
        luck = uniform(KEY, numbers, stream_of_environments(ROUND, COPIES)[copy], HORIZON)[0]
        for step, arm in enumerate(chosen(family, number, copy)):
            assert paid[step] == float(luck[step] < chances[arm])
        assert not seen.any()
        assert ended.tolist() == [False] * (HORIZON - 1) + [True]


def test_the_regret_of_an_arm_is_what_the_best_one_pays_more() -> None:
    family = Bandits(4, HORIZON)
    numbers, pulled = np.array(NUMBERS), np.random.default_rng(0).integers(0, 4, (2, 3, HORIZON))
    found = family.regrets(KEY, numbers, pulled)
    for t in range(2):
        chances = family.descriptions(KEY, numbers)[t]
        for place in np.ndindex(3, HORIZON):
            assert found[t][place] == max(chances) - chances[pulled[t][place]]


def test_mazes_are_their_formulas() -> None:
    family = Mazes(6, 3, HORIZON)
    for number, copy, (seen, paid, _) in every_trajectory(happened(family, NUMBERS, COPIES, ROUND)):
        numbers = np.array([number])
        means = 1 + normal(KEY, numbers, stream_of_tasks(), 18).reshape(6, 3)
        shares = -np.log(uniform_inside(KEY, numbers, stream_of_tasks() + 1, 108)).reshape(6, 3, 6)
        stream = stream_of_environments(ROUND, COPIES)[copy]
        luck = uniform_inside(KEY, numbers, stream, HORIZON)[0]
        noise = normal(KEY, numbers, stream + (1 << 30), HORIZON)[0]
        state = 0
        for step, action in enumerate(chosen(family, number, copy)):
            assert seen[step] == state
            assert paid[step] == pytest.approx(means[state, action] + noise[step], abs=1e-12)
            edges = np.cumsum(shares[state, action] / shares[state, action].sum())
            state = min(int((luck[step] >= edges).sum()), 5)


def test_a_described_maze_is_the_one_that_is_played() -> None:
    family = Mazes(6, 3, HORIZON)
    described = family.descriptions(KEY, np.array(NUMBERS))
    assert described.shape == (2, family.described_by)
    rewards, transitions = family.drawn(KEY, np.array(NUMBERS))
    np.testing.assert_array_equal(described[1], np.concatenate([rewards[1].ravel(), transitions[1].ravel()]))
    np.testing.assert_allclose(transitions.sum(-1), 1)


@pytest.mark.parametrize("name", sorted(IN_TORCH))
def test_trajectories_depend_on_their_world_round_and_place_alone(name: str) -> None:
    family = IN_TORCH[name]()
    together = happened(family, [3, 8, 5], 3, 2)
    for number, t in ((3, 0), (8, 1)):
        alone = happened(IN_TORCH[name](), [number], 2, 2)[0]
        assert same(together[t][0], alone[0])
        assert same(together[t][1], alone[1])
    if name != "navigation":  # which has no random numbers but its goals
        other = happened(family, [3, 8, 5], 3, 1)
        assert any(not same(together[t][n], other[t][n]) for t in range(3) for n in range(3))


@pytest.mark.parametrize("name", sorted(IN_TORCH))
def test_precision_changes_the_last_digits_alone(name: str) -> None:
    family = IN_TORCH[name]()
    for fine, coarse in zip(
        happened(family, [3, 8], 2, 2), happened(family, [3, 8], 2, 2, dtype=torch.float32), strict=True
    ):
        for one, other in zip(fine, coarse, strict=True):
            for a, b in zip(one, other, strict=True):
                assert b.dtype != np.float64
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(IN_TORCH))
def test_environments_have_gymnasiums_interface(name: str) -> None:
    family = IN_TORCH[name]()
    environment = worlds(family, 0, 1).environment(3, 0)
    assert isinstance(environment, gymnasium.vector.VectorEnv)
    assert environment.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.DISABLED
    assert (environment.num_envs, environment.observation_space.shape[0]) == (6, 6)
    begun, info = environment.reset(seed=1, options={})
    assert info == {}
    for step in range(HORIZON):
        seen, paid, terminated, truncated, info = environment.step(family.spaces.moves(actions(family, [0, 1], 3, step)))
        assert environment.single_observation_space.contains(seen[0].numpy())
        assert [len(part) for part in (seen, paid, terminated, truncated)] == [6] * 4
        assert (paid.dtype, terminated.dtype, truncated.dtype) == (torch.float32, torch.bool, torch.bool)
        assert truncated.all() == (step == HORIZON - 1)
    with pytest.raises(gymnasium.error.ResetNeeded):
        environment.step(family.spaces.moves(actions(family, [0, 1], 3, 0)))
    assert torch.equal(environment.reset()[0], begun)
