"""Rules that need no training: what they choose, against published tables and what can be computed by hand."""

import itertools
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import metashot
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.beta import beta_quantiles, beta_shares
from metashot.algorithms.reinforcement.chance import Chance
from metashot.algorithms.reinforcement.gittins import Gittins, GittinsPlayer, discounted_indices, indices_of_horizons
from metashot.algorithms.reinforcement.rules import BanditPlayer, BanditRule, first_best
from metashot.algorithms.reinforcement.thompson import Thompson, ThompsonPlayer
from metashot.algorithms.reinforcement.ucb1 import UCB1, UCB1Player
from metashot.backbones.identity import Identity
from metashot.bad_input import BadInput
from metashot.problems import Returns
from metashot.worlds import Box, Discrete, Spaces, Worlds

from .ending import Ending, worlds

OPTIMIZER = Optimization("adam", 0.01, 0.9, 0.0, "constant", 1, 1.0)
ARMS = Spaces(Discrete(1), Discrete(3))
RULES: dict[type[BanditRule], dict[str, Any]] = {Thompson: {}, UCB1: {"exploration": 1.0}, Gittins: {"discount": None}}


def bandits(tasks: int = 1, queries: int = 1, arms: int = 3, horizon: int = 5) -> Worlds:
    """Worlds with the spaces of bandits; their environments are not those of bandits."""
    spaces = Spaces(Discrete(1), Discrete(arms))
    return worlds(Ending(early=False, horizon=horizon, spaces=spaces), tasks, queries, dtype=torch.float32)


def rule(kind: type[BanditRule], episodes: int = 1) -> BanditRule:
    made: BanditRule = kind(
        backbone=Identity((1,)), problem=Returns(3, "discrete"), episodes=episodes, optimizer=OPTIMIZER, **RULES[kind]
    )
    return made


def saw(player: BanditPlayer, *pulls: tuple[int, int]) -> None:
    """Tell all trials of a player what came of pulls: an arm, and what it paid."""
    shape = player.successes.shape[:2]
    for arm, paid in pulls:
        player.saw(torch.full(shape, arm), torch.full(shape, float(paid)), torch.zeros(shape, dtype=torch.bool))


@pytest.mark.parametrize(
    ("discount", "expected"),  # Gittins 1989, table 1: of Beta(a, b) for a = 1, 2, 3 (columns) and b = 1, 2, 3 (rows)
    [
        (0.5, [[0.5590, 0.7060, 0.7772], [0.3758, 0.5359, 0.6289], [0.2802, 0.4298, 0.5258]]),
        (0.9, [[0.7029, 0.8001, 0.8452], [0.5001, 0.6346, 0.7072], [0.3796, 0.5163, 0.6010]]),
        (0.99, [[0.8699, 0.9102, 0.9285], [0.7005, 0.7844, 0.8268], [0.5671, 0.6726, 0.7308]]),
    ],
)
def test_gittins_indices_are_the_published_ones(discount: float, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(discounted_indices(5, discount)[:3, :3].T, expected, atol=1e-4)


def test_indices_of_horizons_make_the_best_choice_between_an_arm_and_a_sure_reward() -> None:
    """Computed again by recursion over what may happen."""

    @cache
    def gain(successes: int, failures: int, left: int, sure: float) -> float:
        p = (successes + 1) / (successes + failures + 2)
        return p + sum(
            chance * best(successes + paid, failures + 1 - paid, left - 1, sure) for paid, chance in ((1, p), (0, 1 - p))
        )

    @cache
    def best(successes: int, failures: int, left: int, sure: float) -> float:
        return max(left * sure, gain(successes, failures, left, sure)) if left else 0.0

    indices = indices_of_horizons(6)
    for successes, failures in itertools.product(range(3), range(3)):
        for left in range(1, 7 - successes - failures):
            index = indices[left - 1, successes, failures]
            assert gain(successes, failures, left, index - 1e-4) > left * (index - 1e-4)
            assert gain(successes, failures, left, index + 1e-4) < left * (index + 1e-4)


def test_gittins_counts_the_pulls_that_are_left_over_all_episodes() -> None:
    made = Gittins(Identity((1,)), Returns(3, "discrete"), 2, None, OPTIMIZER)
    player = made.player(bandits(horizon=3), 1)
    assert isinstance(player, GittinsPlayer)
    player.begin()
    indices = torch.from_numpy(indices_of_horizons(6))
    for left in (6, 5, 4, 3, 2, 1):
        assert torch.equal(player.table, indices[left - 1])
        assert player.choose().item() == first_best(indices[left - 1][player.successes, player.failures]).item()
        saw(player, (0, left % 2))


def test_gittins_pulls_an_arm_for_what_it_may_teach() -> None:
    """With many pulls left a new arm is better than one whose posterior mean is a little larger; with one left it is not."""
    player = rule(Gittins).player(bandits(horizon=10), 1)
    saw(player, (0, 1), (0, 0), (0, 1), (0, 0), (0, 1))  # the mean is 4/7
    assert player.choose().item() == 1
    saw(player, (1, 0), (2, 0), (1, 0), (2, 0))
    assert player.choose().item() == 0


def test_gittins_refuses_trials_that_are_too_long() -> None:
    with pytest.raises(BadInput, match=r"1,000 pulls is too long for algo=gittins with algo\.discount=null: at most 2,000"):
        rule(Gittins).player(bandits(horizon=1000), 1)


def test_ucb1_adds_what_is_not_known() -> None:
    player = rule(UCB1).player(bandits(), 1)
    assert isinstance(player, UCB1Player)
    assert player.choose().item() == 0  # nothing is known: the first one
    saw(player, (0, 1), (0, 1), (1, 0))

    def bound(successes: int, pulls: int) -> float:
        return (successes + 1) / (pulls + 2) + math.sqrt(2 * math.log(3 + 6) / (pulls + 2))

    bounds = [bound(2, 2), bound(0, 1), bound(0, 0)]
    torch.testing.assert_close(player.bounds()[0, 0], torch.tensor(bounds, dtype=torch.float64))
    assert player.choose().item() == int(np.argmax(bounds)) == 2
    player.exploration = 0.0
    assert player.choose().item() == 0


def test_thompson_pulls_an_arm_as_often_as_it_is_the_best_one() -> None:
    player = rule(Thompson).player(bandits(100, 200, arms=2), 200)
    assert isinstance(player, ThompsonPlayer)
    player.begin()
    assert 0.49 < player.choose().double().mean() < 0.51
    saw(player, (0, 1), (1, 0), (0, 1))  # Beta(3, 1) and Beta(1, 2)
    # P(X < Y) for densities 3 x^2 and 2 (1 - y): the integral of y^3 * 2 (1 - y)
    assert player.choose().double().mean().item() == pytest.approx(2 * (1 / 4 - 1 / 5), abs=0.008)


def test_thompson_draws_anew_for_each_pull_and_episode() -> None:
    player = rule(Thompson).player(bandits(20, 20), 20)
    assert isinstance(player, ThompsonPlayer)
    chosen = []
    for _ in range(2):
        player.begin()
        for _ in range(5):
            chosen.append(player.choose())
            player.pulls += 1  # of which nothing is seen
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(chosen, 2))


def test_quantiles_of_beta_distributions() -> None:
    shares = torch.tensor([1e-9, 0.001, 0.3, 0.5, 0.9, 1 - 1e-6], dtype=torch.float64)
    one = torch.ones_like(shares)
    close: Any = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(beta_quantiles(one, one, shares), shares, **close)
    for count in (2, 7, 300):
        torch.testing.assert_close(beta_quantiles(count * one, one, shares), shares ** (1 / count), **close)
        torch.testing.assert_close(beta_quantiles(one, count * one, shares), 1 - (1 - shares) ** (1 / count), **close)


@pytest.mark.parametrize(("a", "b"), [(2, 3), (9, 4), (40, 60), (200, 3), (250, 250)])
def test_shares_of_beta_distributions_are_those_of_binomial_ones(a: int, b: int) -> None:
    for x in (0.05, 0.4, 0.5, 0.97):
        n = a + b - 1
        expected = sum(math.comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(a, n + 1))
        found = beta_shares(*(torch.tensor([value], dtype=torch.float64) for value in (a, b, x)))
        assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", RULES)
def test_bandit_rules_count_each_trial_alone_and_begin_anew_in_the_next_one(kind: type[BanditRule]) -> None:
    made = rule(kind)
    player = made.player(bandits(2, 2), 2)
    assert isinstance(player, BanditPlayer)
    arms, paid = torch.tensor([[0, 1], [2, 0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for _ in range(2):
        player.begin()
        player.saw(arms, paid, torch.ones(2, 2, dtype=torch.bool))
    assert player.successes.tolist() == [[[2, 0, 0], [0, 0, 0]], [[0, 0, 0], [2, 0, 0]]]
    assert player.failures.tolist() == [[[0, 0, 0], [0, 2, 0]], [[0, 0, 2], [0, 0, 0]]]
    again = made.player(bandits(2, 2), 2)
    assert isinstance(again, BanditPlayer)
    assert not again.successes.any()
    assert not again.failures.any()


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("spaces", [Spaces(Discrete(10), Discrete(5)), Spaces(Discrete(1), Box((1,), (0.0,), (1.0,)))])
def test_bandit_rules_refuse_other_worlds(kind: type[BanditRule], spaces: Spaces) -> None:
    rule(kind).refuse_spaces(ARMS)
    with pytest.raises(
        BadInput, match=rf"algo={kind.__name__.lower()} chooses arms of bandits, and these worlds have .*: use"
    ):
        rule(kind).refuse_spaces(spaces)


def test_bandit_rules_refuse_arms_that_pay_anything_else() -> None:
    player = rule(UCB1).player(bandits(), 1)
    with pytest.raises(BadInput, match="arms have to pay 0 or 1"):
        player.saw(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[0.5]]), torch.zeros(1, 1, dtype=torch.bool))


def by_chance(spaces: Spaces, problem: Returns) -> Tensor:
    made = Chance(Identity((1,)), problem, 1, OPTIMIZER)
    family = Ending(spaces=spaces)
    of = worlds(family, 50, 40)
    draw = of.uniform_noise if problem.actions == "discrete" else of.normal_noise
    noise = draw(40, 0, problem.action_size)[:, :, 0]
    return made.player(of, 40).act(torch.zeros(50, 40, 1), noise)


def test_random_is_uniform_over_choices() -> None:
    shares = by_chance(Spaces(Discrete(1), Discrete(4)), Returns(4, "discrete")).flatten().bincount() / 2000
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.03, rtol=0)


def test_random_is_uniform_between_bounds_and_normal_without() -> None:
    space = Box((2,), (-3.0, -np.inf), (5.0, np.inf))
    actions = by_chance(Spaces(Discrete(1), space), Returns(4, "continuous")).flatten(0, 1)
    bounded, free = actions.unbind(-1)
    assert bounded.abs().max() <= 1  # which stand for the bounds
    for x in (-0.8, -0.2, 0.5):
        assert (bounded < x).double().mean().item() == pytest.approx((x + 1) / 2, abs=0.03)
    assert free.mean().item() == pytest.approx(0, abs=0.06)
    assert free.std().item() == pytest.approx(1, abs=0.05)
    assert free.abs().max() > 2


def test_the_first_of_the_best_is_chosen() -> None:
    assert first_best(torch.tensor([[0.1, 0.5, 0.5], [0.3, 0.3, 0.3]])).tolist() == [1, 0]


def test_rules_are_tested_without_training_and_do_as_well_as_they_should(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    scores = {}
    for algo in ("gittins", "thompson", "ucb1", "random"):
        experiment = metashot.Experiment(
            *(f"algo={algo}", "data=bandits", "data.val.episodes=2", "data.test.episodes=300", "logger=none"),
            *("pictures=none", f"folder={tmp_path / algo}"),
        )
        report = experiment.fit().test()
        assert report.step == 0
        scores[algo] = report.score
    assert scores["random"] + 0.5 < scores["thompson"] < scores["gittins"] - 0.5
    assert scores["random"] + 0.5 < scores["ucb1"]


def test_bandit_rules_are_refused_in_other_worlds_before_anything_is_written(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    experiment = metashot.Experiment("algo=gittins", "data=mazes", f"folder={tmp_path / 'run'}")
    with pytest.raises(BadInput, match="algo=gittins chooses arms of bandits"):
        experiment.fit()
    assert not (tmp_path / "run").exists()
