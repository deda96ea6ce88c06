"""A run that is killed and resumed is the run that was not killed, bit for bit; and what resume= and repeat= promise."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command, Trained
from .killed_runs import ATTEMPTS, MOMENTS, killed, same_run
from .processes import (
    Outcome,
    checkpoint,
    contents,
    copy,
    measured,
    one_bit_flipped,
    report,
    rows,
    step_of,
)

ALGORITHMS = ("protonet", "maml")


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture(scope="module")
def runs(
    anywhere: Command, tmp_path_factory: pytest.TempPathFactory, pool: ThreadPoolExecutor, request: pytest.FixtureRequest
) -> dict[tuple[str, str], Future[Path]]:
    """The killed and resumed runs that the chosen tests need, two at a time."""
    folder = tmp_path_factory.mktemp("killed")

    def scenario(algo: str, moment: str) -> Path:
        run = killed(anywhere.at(folder), f"{algo}-{moment.replace(' ', '-')}", moment, f"algo={algo}")
        outcome = anywhere.at(folder).run("train.py", f"resume={run}")
        assert outcome.code == 0, outcome
        assert outcome.run == run
        return run

    chosen = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = [(given["algo"], given["moment"]) for given in chosen if {"algo", "moment"} <= given.keys()]
    return {pair: pool.submit(scenario, *pair) for pair in dict.fromkeys(wanted)}


def reference(algo: str, first: Trained, maml: Trained) -> Path:
    return first.run if algo == "protonet" else maml.run


# What an inner loop could break shows in the middle and at the end; at the other moments it is one more algorithm.
LATER = [("maml", "before the first checkpoint"), ("maml", "right after a validation")]
KILLED = [
    pytest.param(algo, moment, marks=[pytest.mark.long] if (algo, moment) in LATER else [])
    for algo in ALGORITHMS
    for moment in MOMENTS
]


@pytest.mark.parametrize(("algo", "moment"), KILLED)
def test_killed_and_resumed_run_equals_one_that_was_not_killed(
    first: Trained, maml: Trained, runs: dict[tuple[str, str], Future[Path]], algo: str, moment: str
) -> None:
    same_run(reference(algo, first, maml), runs[algo, moment].result())


def test_run_killed_twice_at_random_moments_equals_one_that_was_not_killed(command: Command, first: Trained) -> None:
    run = command.folder / "run"
    process = command.start_small("folder=run")
    for step in (7, 35):
        if process.wait_until(lambda step=step: step_of(run) >= step):  # type: ignore[misc]
            time.sleep(random.random() * 0.2)
            process.send(signal.SIGKILL)
        process.wait()
        process = command.start("train.py", f"resume={run}/checkpoints/last.ckpt")
    outcome = process.wait()
    assert outcome.code == 0, outcome
    assert outcome.run == run
    same_run(first.run, run)


@pytest.mark.parametrize("algo", ["mamlpp", "reptile"])
def test_run_whose_steps_depend_on_its_progress_and_on_mini_batches_resumes_exactly(command: Command, algo: str) -> None:
    few = ("algo.inner_steps=3", "algo.test_inner_steps=3", "data.test.episodes=8")
    given = (f"algo={algo}", *few, "data.train.shots=2", "trainer.gradient_clip=1.0")
    whole = command.train(*given, "folder=whole")
    assert whole.code == 0, whole
    run = killed(command, "run", "between two validations", *given)
    outcome = command.run("train.py", f"resume={run.relative_to(command.folder)}")
    assert outcome.code == 0, outcome
    same_run(command.folder / "whole", run)


@pytest.mark.long
def test_fresh_process_resumes_exactly_too(command: Command, maml: Trained) -> None:
    run = killed(command, "run", "between two validations", "algo=maml")
    outcome = command.run("train.py", f"resume={run.relative_to(command.folder)}", fresh=True)
    assert outcome.code == 0, outcome
    same_run(maml.run, run)


def test_resuming_a_finished_run_changes_no_number(command: Command, first: Trained) -> None:
    run = copy(first.run, command.folder / "run")
    outcome = command.run("train.py", f"resume={run}")
    assert outcome.code == 0, outcome
    same_run(first.run, run)


@pytest.fixture(scope="module")
def interrupted(anywhere: Command, first: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed between its validations; tests copy it."""
    folder = tmp_path_factory.mktemp("half")
    return killed(anywhere.at(folder), "run", "between two validations")


def half_of_it(file: bytes) -> bytes:
    return file[: len(file) // 2]


def bit_flipped_near_the_start(file: bytes) -> bytes:
    changed = bytearray(file)
    changed[2000] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("damage", [half_of_it, one_bit_flipped, bit_flipped_near_the_start], ids=lambda d: d.__name__)
def test_damaged_last_checkpoint_is_refused_and_the_best_one_named(
    command: Command, interrupted: Path, damage: Callable[[bytes], bytes]
) -> None:
    run = copy(interrupted, command.folder / "run")
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(damage(last.read_bytes()))
    before = contents(command.folder)
    outcome = command.run("train.py", f"resume={run}")
    assert outcome.code == 2, outcome
    assert str(last) in outcome.err
    assert str(run / "checkpoints" / "best.ckpt") in outcome.err
    assert "Traceback" not in outcome.err
    assert contents(command.folder) == before


def test_only_one_of_two_processes_resumes_a_run(command: Command, interrupted: Path, first: Trained) -> None:
    run = copy(interrupted, command.folder / "run")
    one, two = (command.start("train.py", f"resume={run}") for _ in range(2))
    outcomes: list[Outcome] = sorted((one.wait(), two.wait()), key=lambda outcome: outcome.code)
    assert [outcome.code for outcome in outcomes] == [0, 2], outcomes
    assert "in use" in outcomes[1].err
    assert str(run) in outcomes[1].err
    same_run(first.run, run)


CHANGES = {
    "algo=maml": "algo.",
    "data.ways=7": "data.ways",
    "data.tasks_per_step=8": "data.tasks_per_step",
    "backbone.channels=16": "backbone.channels",
    "seed=5": "seed",
    "algo.optimizer.lr=0.5": "algo.optimizer.lr",
}


@pytest.mark.parametrize("change", CHANGES)
def test_resumed_run_cannot_become_another_experiment(command: Command, interrupted: Path, change: str) -> None:
    before = contents(interrupted)
    outcome = command.run("train.py", f"resume={interrupted}", change)
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: "), outcome
    assert CHANGES[change] in outcome.err, outcome
    assert "repeat=" in outcome.err, outcome
    assert contents(interrupted) == before
    assert contents(command.folder) == {}


def test_resumed_run_without_a_checkpoint_cannot_become_another_experiment(command: Command, interrupted: Path) -> None:
    run = copy(interrupted, command.folder / "run")
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    before = contents(command.folder)
    outcome = command.run("train.py", f"resume={run}", "data.ways=7")
    assert outcome.code == 2, outcome
    assert "data.ways" in outcome.err, outcome
    assert contents(command.folder) == before


def test_more_steps_than_planned_go_on_from_where_the_run_was(command: Command, first: Trained) -> None:
    run = copy(first.run, command.folder / "run")
    done = rows(run)
    outcome = command.run("train.py", f"resume={run}", "trainer.max_steps=80")
    assert outcome.code == 0, outcome
    assert outcome.run == run
    assert step_of(run) == 80
    losses = measured(run, "train/loss")
    assert losses[:12] == [(row["step"], row["train/loss"]) for row in done if row["train/loss"]]
    assert [int(step) for step, _ in losses] == list(range(5, 81, 5))
    assert [int(step) for step, _ in measured(run, "val/accuracy")] == [25, 50, 60, 75, 80]
    assert "max_steps: 80" in (run / "config.yaml").read_text()


def test_best_checkpoint_continues_in_a_new_folder(command: Command, first: Trained) -> None:
    before = contents(first.folder / "runs")
    outcome = command.run("train.py", f"resume={first.run}/checkpoints/best.ckpt", "trainer.max_steps=70")
    assert outcome.code == 0, outcome
    run = command.folder / outcome.run
    assert run.parent.parent == command.folder / "runs"
    assert step_of(run) == 70
    assert contents(first.folder / "runs") == before
    best = checkpoint(first.run, "best.ckpt")["global_step"]
    assert all(int(row["step"]) > best for row in rows(run))


def early_stopping(command: Command) -> list[str]:
    return command.small(
        "trainer.validate_every=4", "trainer.max_steps=400", "trainer.early_stopping=4", "algo.optimizer.lr=0.000001"
    )


@pytest.fixture(scope="module")
def stopped_early(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    outcome = anywhere.at(folder).run("train.py", *early_stopping(anywhere), "folder=run")
    assert outcome.code == 0, outcome
    return folder / "run"


def saving(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = next(state for name, state in checkpoint(run)["callbacks"].items() if name.startswith("Saving"))
    return state


def test_patience_of_early_stopping_survives_a_kill(command: Command, stopped_early: Path) -> None:
    assert step_of(stopped_early) < 400
    assert saving(stopped_early)["waited"] == 4
    assert step_of(stopped_early) == saving(stopped_early)["best_step"] + 16
    run = command.folder / "run"

    def has_waited() -> bool:
        return step_of(run) > 0 and saving(run)["waited"] in (2, 3)

    for _ in range(ATTEMPTS):
        process = command.start("train.py", *early_stopping(command), f"folder={run}")
        process.wait_until(has_waited)
        process.send(signal.SIGKILL)
        process.wait()
        if has_waited():
            break
        run = run.with_name(f"{run.name}-again")
    assert has_waited()
    outcome = command.run("train.py", f"resume={run}")
    assert outcome.code == 0, outcome
    same_run(stopped_early, run)


def test_run_that_stopped_early_does_not_go_on_when_resumed(command: Command, stopped_early: Path) -> None:
    run = copy(stopped_early, command.folder / "run")
    outcome = command.run("train.py", f"resume={run}")
    assert outcome.code == 0, outcome
    assert step_of(run) == step_of(stopped_early)
    assert measured(run, "val/accuracy") == measured(stopped_early, "val/accuracy")


def test_repeated_run_gives_the_same_numbers_in_a_new_folder(command: Command, first: Trained) -> None:
    before = contents(first.folder / "runs")
    process = command.start("train.py", f"repeat={first.run}")
    other = command.start("train.py", f"repeat={first.run}/checkpoints/best.ckpt", "seed=1", "folder=other")
    outcome = process.wait()
    assert outcome.code == 0, outcome
    assert outcome.run.parts[0] == "runs"
    same_run(first.run, command.folder / outcome.run)
    assert other.wait().code == 0, other.wait()
    assert measured(command.folder / "other", "train/loss") != measured(first.run, "train/loss")
    assert report(command.folder / "other")["training_seed"] == 1
    assert contents(first.folder / "runs") == before


def test_config_of_a_repeated_run_is_that_of_the_first(command: Command, first: Trained) -> None:
    outcome = command.run("train.py", f"repeat={first.run}", "trainer.max_steps=2", "folder=again")
    assert outcome.code == 0, outcome
    expected = (first.run / "config.yaml").read_text().replace("max_steps: 60", "max_steps: 2")
    assert (command.folder / "again" / "config.yaml").read_text() == expected
