"""A world is a pure function of seed, split and number: its task, its environments' noise and that of a policy's actions."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("gymnasium")

from metashot.algorithms.reinforcement.playing import play
from metashot.problems import Returns
from metashot.randomness import key_of
from metashot.sources.worlds.bandits import Bandits
from metashot.sources.worlds.mazes import Mazes
from metashot.sources.worlds.navigation import Navigation
from metashot.worlds import (
    MOST_ROUNDS,
    MOST_TRAJECTORIES,
    Family,
    Trajectories,
    Worlds,
    stream_of_actions,
    stream_of_environments,
    stream_of_tasks,
)

FAMILIES: dict[str, Family] = {
    "navigation": Navigation(30, 0.1, 0.1, "distance"),
    "bandits": Bandits(4, 6),
    "mazes": Mazes(5, 3, 6),
}
NUMBERS = [5, 0, 7_000_000_000, 12, 3]


def worlds(name: str, numbers: list[int], split: str = "train", seed: int = 0, **given: Any) -> Worlds:
    key = key_of(seed, "worlds", split)
    return replace(Worlds(FAMILIES[name], key, torch.from_numpy(np.array(numbers)), 3, 4), **given)


def problem(name: str) -> Returns:
    size = FAMILIES[name].spaces.actions.size
    return Returns(2 * size, "continuous") if name == "navigation" else Returns(size, "discrete")


class Elementwise:
    """A policy whose outputs are computed for each number alone, so that nothing is rounded otherwise in another batch."""

    def __init__(self, of: Returns) -> None:
        self.problem = of

    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        parts = [(observations[..., 0] * place).sin() for place in range(1, self.problem.outputs + 1)]
        return self.problem.sample(torch.stack(parts, -1), noise)

    def saw(self, actions: Tensor, rewards: Tensor, ended: Tensor) -> None:
        pass


def played(name: str, given: Worlds, trajectories: int = 4, round: int = 0) -> Trajectories:
    return play(given, Elementwise(problem(name)), problem(name), trajectories, round)


def parts(given: Trajectories) -> list[Tensor]:
    return [given.observations, given.actions, given.rewards, given.taken]


def same(one: Trajectories, other: Trajectories) -> bool:
    return all(map(torch.equal, parts(one), parts(other)))


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.mark.parametrize("tells", [False, True])
def test_trajectories_of_a_world_are_the_same_in_any_batch(name: str, tells: bool) -> None:
    together = played(name, worlds(name, NUMBERS, tells=tells))
    for place, number in enumerate(NUMBERS):
        alone = played(name, worlds(name, [number], tells=tells))
        assert all(map(torch.equal, parts(alone), [part[place : place + 1] for part in parts(together)]))
    reversed_order = played(name, worlds(name, NUMBERS[::-1], tells=tells))
    assert all(map(torch.equal, parts(reversed_order), [part.flip(0) for part in parts(together)]))


def test_more_trajectories_begin_with_the_same_ones(name: str) -> None:
    few, many = (played(name, worlds(name, NUMBERS), count) for count in (2, 9))
    assert all(map(torch.equal, parts(few), [part[:, :2] for part in parts(many)]))


def test_trajectories_do_not_depend_on_what_was_drawn_before(name: str) -> None:
    first = played(name, worlds(name, NUMBERS), round=3)
    for round in (0, 4):
        played(name, worlds(name, [1, 2]), round=round)
    torch.manual_seed(1), np.random.seed(1)
    assert same(played(name, worlds(name, NUMBERS), round=3), first)


@pytest.mark.parametrize(
    "other", [{"split": "val"}, {"split": "test"}, {"seed": 1}, {"round": 1}, {"numbers": [6, 1, 2, 13, 4]}]
)
def test_other_splits_seeds_rounds_and_numbers_are_other_worlds(name: str, other: dict[str, Any]) -> None:
    given = {"numbers": NUMBERS} | {key: value for key, value in other.items() if key != "round"}
    one, another = played(name, worlds(name, NUMBERS)), played(name, worlds(name, **given), round=other.get("round", 0))
    different = [not torch.equal(a, b) for a, b in zip(one.actions, another.actions, strict=True)]
    assert all(different)
    told = worlds(name, NUMBERS).descriptions(), worlds(name, **given).descriptions()
    assert torch.equal(*told) == ("round" in other)


def test_noise_of_actions_and_of_environments_is_not_shared(name: str) -> None:
    """Uniform numbers of all streams of a world are different ones, and normal ones too."""
    given = worlds(name, [3])
    noise = torch.cat([given.uniform_noise(3, round).flatten() for round in range(3)])
    assert len(noise.unique()) == len(noise)
    assert (given.uniform_noise(3, 0) > 0).all()
    assert given.normal_noise(2, 0, 2).shape == (1, 2, FAMILIES[name].horizon, 2)


def test_streams_are_all_different() -> None:
    """The ends of all ranges, with the one that a family adds to the streams of its environments (mazes)."""
    rounds, trajectories = (0, 1, MOST_ROUNDS - 1), (0, 1, MOST_TRAJECTORIES - 1)
    found = [stream_of_tasks(), stream_of_tasks() + 1]
    ranges: list[tuple[int, int, int]] = []
    for round in rounds:
        streams = [stream_of_environments(round, MOST_TRAJECTORIES), stream_of_actions(round, MOST_TRAJECTORIES)]
        streams.append(streams[0] + (1 << 30))
        found += [int(each[place]) for each, place in itertools.product(streams, trajectories)]
        whole = [(int(each.min()), int(each.max()), len(set(each.tolist()))) for each in streams]
        ranges += whole
    assert len(set(found)) == len(found)
    ranges.sort()
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ranges))
    assert {count for *_, count in ranges} == {MOST_TRAJECTORIES}
    assert max(found) < 2**32  # words of a counter


def test_32_and_64_bit_agree(name: str) -> None:
    single, double = played(name, worlds(name, NUMBERS)), played(name, worlds(name, NUMBERS).in_double())
    for one, other in zip(parts(single), parts(double), strict=True):
        assert one.dtype != torch.float64
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-5)


class Disturbing(Elementwise):
    """Does what the other one does, and acts wildly in trajectories that have ended, which it is told."""

    def __init__(self, of: Returns) -> None:
        super().__init__(of)
        self.over: Tensor | None = None

    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        actions = super().act(observations, noise)
        if self.over is None:
            return actions
        assert not observations[self.over].any()
        return torch.where(self.over[..., None], torch.tensor(float("nan")), actions)

    def saw(self, actions: Tensor, rewards: Tensor, ended: Tensor) -> None:
        self.over = ended if self.over is None else self.over | ended


def test_nothing_is_kept_of_steps_after_the_end() -> None:
    given, of = worlds("navigation", NUMBERS), problem("navigation")
    one = played("navigation", given, 40)
    lengths = one.taken.sum(-1)
    assert (lengths < 30).any()
    assert (lengths == 30).any()
    assert torch.equal(one.taken, torch.arange(30) < lengths[..., None])
    assert same(play(given, Disturbing(of), of, 40, 0), one)
    for part in parts(one):
        assert not part[~one.taken].any()
    assert one.steps.tolist() == lengths.sum(1).tolist()
    torch.testing.assert_close(one.returns, one.rewards.sum(-1))
    last = one.observations[0, 0, lengths[0, 0] - 1]
    assert last.any()


def test_parts_are_the_same_worlds(name: str) -> None:
    whole = played(name, worlds(name, NUMBERS))
    found = [played(name, part) for part in worlds(name, NUMBERS).parts(2)]
    assert [len(part.rewards) for part in found] == [2, 2, 1]
    for place, part in enumerate(parts(whole)):
        assert torch.equal(torch.cat([parts(one)[place] for one in found]), part)
