"""Learners that act in worlds, the way a user goes: every combination trains and is tested, and the promises hold."""

import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gymnasium")

import torch

from metashot import Experiment
from metashot.bad_input import GaveUp
from metashot.sources.worlds.mazes import Mazes, Processes

from .conftest import Command
from .killed_runs import ATTEMPTS, same_run
from .processes import Scripts, checkpoint, report, rows, step_of
from .test_devices import ended, largest_difference, started

TINY = (
    "data.shots=3",
    "data.queries=3",
    "data.source.horizon=4",
    "data.tasks_per_step=2",
    "data.val.episodes=2",
    "data.test.episodes=5",
    "data.tasks_per_evaluation_step=2",
    "backbone.hidden=[4]",
    "algo.test_inner_steps=2",
    "algo.optimizer.lr=0.01",
    "trainer.max_steps=2",
    "trainer.validate_every=2",
    "trainer.checkpoint_every=1",
    "trainer.log_every=1",
    "logger=csv",
    "pictures=none",
    "curve=2",
)
SIZES = {"mazes": ("data.source.states=3", "data.source.choices=2"), "bandits": ("data.source.arms=3",), "navigation": ()}


def tiny(algo: str, data: str, *given: str) -> list[str]:
    keys = {one.partition("=")[0] for one in given}
    usual = [f"algo={algo}", f"data={data}", *TINY, *SIZES[data]]
    return [one for one in usual if one.partition("=")[0] not in keys] + list(given)


# Every pair of an outer step, an engine and a family, and each algorithm.
COMBINATIONS = [
    ("maml_rl", "trpo", "learn2learn", "navigation", False),
    ("maml_rl", "trpo", "batched", "bandits", False),
    ("maml_rl", "trpo", "batched", "mazes", True),
    ("maml_rl", "ppo", "batched", "navigation", True),
    ("maml_rl", "ppo", "learn2learn", "bandits", True),
    ("maml_rl", "ppo", "learn2learn", "mazes", False),
    ("pretrained", "trpo", "batched", "navigation", False),
    ("pretrained", "ppo", "learn2learn", "mazes", False),
    ("oracle", "trpo", "batched", "bandits", False),
    ("oracle", "ppo", "batched", "navigation", False),
    ("oracle", "trpo", "batched", "mazes", False),
]


@pytest.mark.parametrize(("algo", "outer", "engine", "data", "first_order"), COMBINATIONS)
def test_combination_trains_and_is_tested(
    tmp_path: Path, algo: str, outer: str, engine: str, data: str, first_order: bool
) -> None:
    given = [f"algo.outer={outer}", f"engine={engine}", f"algo.first_order={first_order}"]
    given += ["algo.test_inner_steps=0"] if algo == "oracle" else []
    experiment = Experiment(*tiny(algo, data, *given, f"folder={tmp_path / 'run'}"))
    experiment.build()
    before = {name: value.clone() for name, value in experiment.algorithm.named_parameters()}
    tested = experiment.fit().test()
    assert tested.episodes == 5
    assert abs(tested.score) < 100
    updates = 1 if algo == "oracle" else 3
    found = report(tmp_path / "run")
    assert len(found["inner_steps"]) == updates
    last = checkpoint(tmp_path / "run")["state_dict"]
    steps = int(last["environment_steps"])
    assert 0 < steps <= 2 * 2 * (6 if algo == "maml_rl" else 3) * 4
    assert data == "navigation" or steps == 2 * 2 * (6 if algo == "maml_rl" else 3) * 4  # where none ends early
    assert all(last[name].isfinite().all() for name in before)
    assert any(not torch.equal(last[name], value) for name, value in before.items())


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
def test_a_reward_that_is_not_finite_ends_the_run_with_its_last_checkpoint_whole(
    tmp_path: Path, outer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the run that goes on from there is the one that never met it."""
    given = tiny("maml_rl", "mazes", f"algo.outer={outer}", "trainer.max_steps=4")
    Experiment(*given, f"folder={tmp_path / 'whole'}").fit().test()
    advance = Processes.advance

    def spoiled(self: Processes, actions: Any) -> Any:
        states, rewards, ended = advance(self, actions)
        if self.elapsed == 2 and self.place[-1] and self.world_numbers[0] == 4:  # in the third step
            rewards = rewards.clone()
            rewards[4] = float("nan")
        return states, rewards, ended

    environment = Mazes.environment

    def numbered(self: Mazes, key: Any, numbers: Any, *rest: Any) -> Processes:
        made = environment(self, key, numbers, *rest)
        made.world_numbers = numbers  # type: ignore[attr-defined]
        return made

    experiment = Experiment(*given, f"folder={tmp_path / 'run'}")
    with monkeypatch.context() as patch:
        patch.setattr(Processes, "advance", spoiled)
        patch.setattr(Mazes, "environment", numbered)
        with pytest.raises(GaveUp, match="of world 5 returned the reward nan in step 3 of trajectory 2"):
            experiment.fit()
    experiment.close()
    assert checkpoint(tmp_path / "run")["global_step"] == 2
    Experiment(f"resume={tmp_path / 'run'}").fit().test()
    same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("data", ["mazes", "navigation"])
def test_report_does_not_depend_on_how_many_worlds_are_evaluated_at_once(tmp_path: Path, data: str) -> None:
    reports = []
    for size in (1, 5):
        given = tiny(
            "maml_rl", data, f"data.tasks_per_evaluation_step={size}", "trainer.precision=64-true", "trainer.max_steps=1"
        )
        Experiment(*given, f"folder={tmp_path / str(size)}").fit().test()
        reports.append(report(tmp_path / str(size)))
        assert all(value.dtype == torch.double for value in parameters(tmp_path / str(size)))
    one, other = reports
    assert one.get("environment_steps") == other.get("environment_steps")
    assert almost(one, other), reports


def parameters(run: Path) -> list[torch.Tensor]:
    return [value for name, value in checkpoint(run)["state_dict"].items() if name.startswith("network.")]


class InWorlds(Command):
    """The scripts with tiny worlds, in an empty working directory of this test's own."""

    def small(self, *arguments: str) -> list[str]:
        return tiny("maml_rl", "mazes", *arguments)


@pytest.fixture
def command(scripts: Scripts, tmp_path: Path) -> Command:
    return InWorlds(scripts, tmp_path, tmp_path)


STEPS = 16


def killed(command: Command, *given: str) -> Path:
    """A run that was killed between two validations."""
    for attempt in range(ATTEMPTS):
        run = command.folder / f"run-{attempt}"
        process = command.start_small(*given, "trainer.checkpoint_every=3", f"folder={run}")
        if process.wait_until(lambda run=run: step_of(run) >= 6):  # type: ignore[misc]
            process.send(signal.SIGKILL)
        outcome = process.wait()
        if outcome.code == -signal.SIGKILL and 6 <= step_of(run) < STEPS:
            return run
    raise AssertionError(f"no kill hit a run in {ATTEMPTS} attempts\n{outcome}")


@pytest.mark.parametrize("outer", ["ppo", pytest.param("trpo", marks=pytest.mark.long)])
def test_run_that_was_killed_and_resumed_and_one_that_repeats_it_are_the_same_to_the_last_bit(
    command: Command, outer: str
) -> None:
    """With all that the optimiser remembers, and the number of steps that were taken in environments."""
    run = killed(command, f"algo.outer={outer}", f"trainer.max_steps={STEPS}", "trainer.validate_every=5")
    outcome = command.run("train.py", f"resume={run.relative_to(command.folder)}")
    assert outcome.code == 0, outcome
    repeated = command.run("train.py", f"repeat={run}", "folder=whole", "trainer.checkpoint_every=1")
    assert repeated.code == 0, repeated
    same_run(command.folder / "whole", run)
    last = checkpoint(run)
    assert int(last["state_dict"]["environment_steps"]) == STEPS * 2 * 6 * 4
    assert bool(last["optimizer_states"][0]["state"]) == (outer == "ppo")


@pytest.mark.parametrize("outer", ["trpo", pytest.param("ppo", marks=pytest.mark.long)])
def test_two_devices_train_and_test_as_one(command: Command, outer: str) -> None:
    """Not quite to the last bit, since sums over worlds are rounded otherwise. With an odd number of worlds in the test, of
    which one is played twice and counts once."""
    given = [f"algo.outer={outer}", "data.tasks_per_step=4", "trainer.max_steps=6", "trainer.precision=64-true"]
    outcomes = ended(started(command, *command.small(*given, "trainer=ddp", "trainer.devices=2", "folder=two")))
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    one = command.run("train.py", *command.small(*given, "folder=one"))
    assert one.code == 0, one
    two, alone = command.folder / "two", command.folder / "one"
    assert largest_difference(two, alone) < 1e-9
    assert [len(rows(run)) for run in (two, alone)] == [len(rows(alone))] * 2
    for found, expected in zip(rows(two), rows(alone), strict=True):
        for name, value in expected.items():
            assert (found[name] == value) or float(found[name]) == pytest.approx(float(value), rel=1e-6, abs=1e-9), name
    assert almost(report(two), report(alone)), (report(two), report(alone))
    assert float(rows(alone)[-1].get("train/environment_steps") or 6 * 4 * 6 * 4) == 6 * 4 * 6 * 4


def almost(one: Any, other: Any) -> bool:
    """Whether two reports say the same, of numbers to rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(almost(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(almost, one, other))
    return bool(one == (pytest.approx(other, rel=1e-7, abs=1e-10) if isinstance(one, float) else other))


def test_evaluate_plays_the_same_test_again(command: Command) -> None:
    trained = command.train("folder=run", "algo.outer=trpo", "data.tasks_per_evaluation_step=5")
    assert trained.code == 0, trained
    outcome = command.evaluate("ckpt=run", "episodes=5", "data.tasks_per_evaluation_step=5")
    assert outcome.code == 0, outcome
    (written,) = (command.folder / "run" / "evaluations").glob("*/report.json")
    again, first = report(written.parent), report(command.folder / "run")
    for name in ("return", "ci95", "episodes", "inner_steps", "environment_steps"):
        assert again.get(name) == first.get(name), name
