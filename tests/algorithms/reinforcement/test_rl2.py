"""RL2: what its memory holds and when it is empty, what it is trained on, and that it learns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import metashot
from metashot.algorithms.optimization import Optimization
from metashot.algorithms.reinforcement.proximal import ProximalPolicy
from metashot.algorithms.reinforcement.rl2 import RL2, Remembered, Targets
from metashot.backbones.identity import Identity
from metashot.backbones.mlp import MLP
from metashot.bad_input import BadInput
from metashot.problems import Returns
from metashot.worlds import Box, Spaces, Trajectories

from .ending import NUMBER, Ending, worlds

EPISODES, HIDDEN = 3, 6
MOVES = Box((2,), (-1.0, -np.inf), (1.0, np.inf))


def learner(problem: Returns | None = None, penalty: float = 0.1, **own: Any) -> RL2:
    """A learner away from its initial state, in 64 bits, which acts alone on one device."""
    torch.manual_seed(0)
    settings = {"episodes": EPISODES, "minibatches": 2} | own
    made = RL2(
        backbone=Identity((1,)),
        problem=problem or Returns(2, "discrete"),
        hidden=HIDDEN,
        discount=0.9,
        trace=0.7,
        deviation=1.0,
        ppo=ProximalPolicy(2, 0.2, penalty),
        entropy=0.01,
        value=0.5,
        optimizer=Optimization("adam", 0.01, 0.9, 0.0, "constant", 1, 1.0),
        **settings,
    ).double()
    for layer in (made.network.head, made.network.value):
        torch.nn.init.normal_(layer.weight)
    made.mean_over_devices = lambda values: values  # type: ignore[method-assign]
    return made


def reference(made: RL2, played: Sequence[Trajectories], world: int, trial: int) -> list[tuple[Tensor, Tensor]]:
    """The outputs and the value of each step that a trial took, by a cell of torch's own that is called step by step."""
    network = made.network
    cell = torch.nn.GRUCell(network.memory.input_size, HIDDEN).double()
    weights = {name.removesuffix("_l0"): value for name, value in network.memory.state_dict().items()}
    cell.load_state_dict(weights)
    memory, before = torch.zeros(1, HIDDEN).double(), torch.zeros(network.fed_back).double()
    found = []
    for episode in played:
        length = int(episode.taken[world, trial].sum())
        for step in range(length):
            observation, action, reward = (
                values[world, trial, step] for values in (episode.observations, episode.actions, episode.rewards)
            )
            memory = cell(torch.cat([observation, before])[None], memory)
            found.append((network.outputs(memory)[0], network.value(memory)[0, 0]))
            done = action if network.continuous else torch.eye(2).double()[int(action)]
            before = torch.cat([done, torch.stack([reward, torch.tensor(float(step == length - 1)).double()])])
    return found


class Recorded(Returns):
    """Keeps the outputs that actions were drawn from."""

    def __init__(self, outputs: int, actions: Any) -> None:
        super().__init__(outputs, actions)
        self.outputs_seen: list[Tensor] = []

    def sample(self, outputs: Tensor, noise: Tensor) -> Tensor:
        self.outputs_seen.append(outputs)
        return super().sample(outputs, noise)


@pytest.mark.parametrize("kind", ["choices", "numbers"])
def test_memory_lasts_for_a_trial_and_is_empty_at_its_start(kind: str) -> None:
    """Outputs while playing, and those in training, are those of a cell that sees the steps of one trial, one by one."""
    numbers = kind == "numbers"
    family = Ending(early=False, spaces=Spaces(NUMBER, MOVES)) if numbers else Ending(early=False)
    problem = Recorded(4, "continuous") if numbers else Recorded(2, "discrete")
    made = learner(problem)
    if numbers:
        family.environment = _without_actions(family)  # type: ignore[method-assign]
    for _ in range(2):  # the second time, a trial begins after others have been played
        problem.outputs_seen.clear()
        played = made.played(worlds(family), 3)
        seen = torch.stack(problem.outputs_seen, 2)  # [T, N, episodes * H, outputs]
        trained, values = made._answers(made.remembered(played))
        for world in range(4):
            for trial in range(3):
                expected = reference(made, played, world, trial)
                outputs, worths = (torch.stack(part) for part in zip(*expected, strict=True))
                torch.testing.assert_close(seen[world, trial], outputs)
                torch.testing.assert_close(trained[world, trial], outputs)
                torch.testing.assert_close(values[world, trial], worths)


def _without_actions(family: Ending) -> Any:
    """Environments whose rewards do not depend on actions, which may be numbers."""

    def environment(*arguments: Any) -> Any:
        found = Ending.environment(family, *arguments)
        step = found.step
        found.step = lambda actions: step(actions[:, 0] * 0)  # type: ignore[method-assign]
        return found

    return environment


def test_memory_stops_at_the_end_of_an_episode_until_the_next_one() -> None:
    made = learner()
    problem = made.problem = Recorded(2, "discrete")
    played = made.played(worlds(Ending(garbage=7.0)), 3)
    taken = torch.cat([episode.taken for episode in played], 2)
    assert 0.3 < taken.double().mean() < 0.9  # some steps were not taken
    steps = iter(problem.outputs_seen)
    seen = torch.stack(
        [
            next(steps) if alive.any() else torch.zeros(4, 3, 2)  # nobody acts when all trajectories have ended
            for alive in taken.unbind(2)
        ],
        2,
    )
    trained, values = made._answers(made.remembered(played))
    for world in range(4):
        for trial in range(3):
            outputs, worths = (torch.stack(part) for part in zip(*reference(made, played, world, trial), strict=True))
            torch.testing.assert_close(seen[world, trial][taken[world, trial]], outputs)
            torch.testing.assert_close(trained[world, trial, : len(outputs)], outputs)
            torch.testing.assert_close(values[world, trial, : len(worths)], worths)


def trained_on(made: RL2, family: Ending) -> tuple[Remembered, Targets, Tensor, list[Tensor]]:
    steps = made.remembered(made.played(worlds(family), 3))
    targets = made.targets(steps)
    with torch.no_grad():
        made.network.head.bias += torch.tensor([0.3, -0.2])  # away from the policy that played
    loss, _ = made.loss(steps, targets)
    return steps, targets, loss, list(torch.autograd.grad(loss, made.trainable_parameters()))


@pytest.mark.parametrize("garbage", [3.0, float("nan")])
def test_steps_after_the_end_of_an_episode_change_neither_loss_nor_gradient(garbage: float) -> None:
    _, _, loss, gradients = trained_on(learner(), Ending())
    _, _, other_loss, others = trained_on(learner(), Ending(garbage=garbage))
    assert loss.isfinite()
    assert torch.equal(loss, other_loss)
    assert all(map(torch.equal, gradients, others))


def test_loss_is_that_of_the_steps_that_were_taken() -> None:
    """Computed again trial by trial, without padding."""
    made = learner()
    played = made.played(worlds(Ending(garbage=5.0)), 3)
    old = {at: reference(made, played, *at) for at in np.ndindex(4, 3)}
    steps = made.remembered(played)
    targets = made.targets(steps)
    made.network.head.bias.data += torch.tensor([0.3, -0.2]).double()
    rewards, actions = {}, {}
    for at in old:
        rewards[at] = torch.cat([episode.rewards[at][episode.taken[at]] for episode in played])
        actions[at] = torch.cat([episode.actions[at][episode.taken[at]] for episode in played])
    advantages, returns = {}, {}
    for at, of_trial in old.items():
        values = torch.stack([value for _, value in of_trial])  # statistics of returns are still those of nothing
        estimates, total, after = [], torch.zeros(()).double(), torch.zeros(()).double()
        for reward, value in zip(rewards[at].flip(0), values.flip(0), strict=True):
            total = reward + 0.9 * after - value + 0.9 * 0.7 * total
            after = value
            estimates.insert(0, total)
        advantages[at] = torch.stack(estimates)
        returns[at] = advantages[at] + values
    every, goals = (torch.cat([*of_trials.values()]) for of_trials in (advantages, returns))
    losses = []
    for at in old:
        new = reference(made, played, *at)
        for (before, _), (outputs, value), action, advantage, goal in zip(
            old[at], new, actions[at], advantages[at], returns[at], strict=True
        ):
            logs, logs_before = outputs.log_softmax(0), before.log_softmax(0)
            ratio = (logs[action] - logs_before[action]).exp()
            standard = (advantage - every.mean()) / every.std(correction=0)
            gain = torch.minimum(ratio * standard, ratio.clamp(0.8, 1.2) * standard)
            error = (value - (goal - goals.mean()) / goals.std(correction=0)) ** 2
            entropy = -(logs.exp() * logs).sum()
            divergence = (logs_before.exp() * (logs_before - logs)).sum()
            losses.append(0.5 * error - gain - 0.01 * entropy + 0.1 * divergence)
    torch.testing.assert_close(made.loss(steps, targets)[0], torch.stack(losses).mean())


def afresh(made: RL2) -> RL2:
    """The same without statistics of returns."""
    for name in ("return_mean", "return_square", "return_weight"):
        getattr(made, name).zero_()
    return made


def test_parts_of_a_step_are_the_same_worlds_on_two_devices() -> None:
    """The gradient of a minibatch of one device is the mean of those of two devices with half of the worlds each."""
    whole, made = learner(), learner()
    parts = [worlds(Ending(), tasks=4, first=first) for first in (0, 4)]
    steps = whole.remembered(whole.played(worlds(Ending(), tasks=8), 3))
    halves = [made.remembered(made.played(half, 3)) for half in parts]
    targets = whole.targets(steps)

    def gradients(of: RL2, some: Remembered, goals: Targets, turn: int) -> Tensor:
        part = slice(turn % of.minibatches, None, of.minibatches)
        loss, _ = of.loss(Remembered(*(v[part] for v in some)), Targets(*(v[part] for v in goals)))
        return torch.cat([found.flatten() for found in torch.autograd.grad(loss, of.trainable_parameters())])

    shared: list[Tensor] = []
    made.mean_over_devices = lambda values: shared.append(values) or values  # type: ignore[method-assign,func-returns-value]
    for half in halves:
        afresh(made).targets(half)
    mean = torch.stack(shared).mean(0)
    made.mean_over_devices = lambda values: mean  # type: ignore[method-assign]
    own = [afresh(made).targets(half) for half in halves]
    torch.testing.assert_close(torch.cat([one.advantages for one in own]), targets.advantages)
    torch.testing.assert_close(made.return_mean, whole.return_mean)
    for turn in range(2):
        both = [gradients(made, half, goals, turn) for half, goals in zip(halves, own, strict=True)]
        torch.testing.assert_close(torch.stack(both).mean(0), gradients(whole, steps, targets, turn))


def test_worlds_that_minibatches_cannot_share_evenly_are_refused() -> None:
    made = learner(minibatches=4)
    made.refuse_share(8)
    with pytest.raises(BadInput, match=r"algo\.minibatches=4 cannot share the 6 worlds"):
        made.refuse_share(6)


def test_normalisation_over_observations_is_refused() -> None:
    with pytest.raises(BadInput, match=r"give backbone\.normalisation=none"):
        RL2(
            **dict.fromkeys(("episodes", "hidden", "discount", "trace", "deviation", "minibatches", "entropy", "value"), 1),
            backbone=MLP((1,), [2], "running"),
            problem=Returns(2, "discrete"),
            ppo=ProximalPolicy(1, 0.2, 0.0),
            optimizer=Optimization("adam", 0.01, 0.9, 0.0, "constant", 1, 1.0),
        )


@pytest.mark.parametrize(("episodes", "watched"), [(1, (0,)), (3, (0, 1, 2)), (12, (*range(10), 11))])
def test_returns_are_those_of_the_first_episodes_and_the_last_one(episodes: int, watched: tuple[int, ...]) -> None:
    made = learner(episodes=episodes)
    assert made.watched_steps == watched
    acted = made.acted(worlds(Ending()))
    played = made.played(worlds(Ending()), 3)
    of_episodes = torch.stack([episode.returns for episode in played], 1)
    assert torch.equal(acted.returns, of_episodes[:, list(watched)])
    assert acted.trials is not None
    assert torch.equal(acted.trials, of_episodes.sum(1))
    assert int(acted.steps.sum()) == sum(int(episode.taken.sum()) for episode in played)


def test_what_happens_in_a_world_does_not_depend_on_the_others_in_its_batch() -> None:
    made = learner()
    whole = made.acted(worlds(Ending(), tasks=5)).returns
    parts = [made.acted(part).returns for part in worlds(Ending(), tasks=5).parts(2)]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_it_learns_bandits_and_counts_its_steps(tmp_path: Any) -> None:
    pytest.importorskip("gymnasium")
    experiment = metashot.Experiment(
        *("experiment=bandits", "data.source.arms=2", "algo.hidden=16", "algo.optimizer.lr=0.01", "logger=none"),
        *("data.tasks_per_step=100", "trainer.max_steps=40", "trainer.validate_every=40", "trainer.checkpoint_every=40"),
        *("data.val.episodes=20", "data.test.episodes=200", "pictures=none", f"folder={tmp_path / 'run'}"),
    )
    experiment.fit()
    assert experiment._trainer.global_step == 40
    assert int(experiment.algorithm.environment_steps) == 40 * 100 * 2 * 10
    report = experiment.test()
    by_chance = metashot.Experiment(
        *("algo=random", "data=bandits", "data.source.arms=2", "logger=none", "data.val.episodes=1", "pictures=none"),
        *("data.test.episodes=200", f"folder={tmp_path / 'random'}"),
    )
    assert report.score > by_chance.fit().test().score + 0.15  # an untrained policy acts just as by chance
