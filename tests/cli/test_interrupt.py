"""Ctrl-C, SIGTERM and a closed terminal end a run with an intact checkpoint and name the command that resumes it."""

import signal
import time
from pathlib import Path

import pytest

from . import storms
from .conftest import Command, Trained
from .processes import Outcome, checkpoint, contents, different, measured, report, rows, step_of


def stopped_politely(outcome: Outcome, run: str) -> None:
    assert outcome.code == 130, outcome
    assert f"train.py resume={run}" in outcome.err, outcome
    assert "Traceback" not in outcome.err, outcome
    assert "error" not in outcome.err.lower(), outcome


def trains(run: Path, step: int = 5) -> bool:
    return any(int(row["step"]) >= step for row in rows(run))


@pytest.mark.parametrize(
    ("algo", "number"),
    [
        ("protonet", signal.SIGTERM),
        ("maml", signal.SIGINT),
        pytest.param("protonet", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("maml", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_interrupted_and_resumed_run_equals_one_that_was_not(
    command: Command, first: Trained, maml: Trained, algo: str, number: signal.Signals
) -> None:
    reference = first.run if algo == "protonet" else maml.run
    process = command.start_small(f"algo={algo}", "folder=run", fresh=algo == "protonet" and number is signal.SIGTERM)
    run = command.folder / "run"
    assert process.wait_until(lambda: trains(run, 30)), process.wait()
    process.send(number)
    stopped_politely(process.wait(), "run")
    assert 30 <= step_of(run) < 60
    assert not (run / "report.json").exists()
    assert not list(run.rglob("*.writing"))
    outcome = command.run("train.py", "resume=run")
    assert outcome.code == 0, outcome
    for name in ("last.ckpt", "best.ckpt"):
        assert different(checkpoint(run, name), checkpoint(reference, name)) == [], name
    assert rows(run) == rows(reference)
    assert report(run) == report(reference)


@pytest.fixture(scope="module")
def calm(anywhere: Command, first: Trained, tmp_path_factory: pytest.TempPathFactory) -> storms.Reference:
    return storms.reference(anywhere.at(tmp_path_factory.mktemp("calm")))


@pytest.mark.parametrize(
    "number",
    [pytest.param(number, marks=[] if number is signal.SIGTERM else [pytest.mark.long]) for number in storms.SIGNALS],
    ids=[number.name for number in storms.SIGNALS],
)
def test_a_signal_at_any_moment_leaves_what_can_go_on_or_is_complete(
    command: Command, calm: storms.Reference, number: signal.Signals
) -> None:
    assert storms.storm(command, calm, number, signals=8, seed=number).total() == 8


@pytest.mark.long
@pytest.mark.parametrize("number", storms.SIGNALS, ids=lambda number: number.name)
def test_a_thousand_signals_at_random_moments(command: Command, calm: storms.Reference, number: signal.Signals) -> None:
    ended = storms.storm(command, calm, number, signals=334, seed=1000 + number)
    assert set(ended) == {"finished", "stopped before its folder", "stopped in its folder"}
    assert ended.total() == 334


def test_no_step_is_lost_by_an_interrupt(command: Command, first: Trained) -> None:
    process = command.start_small("folder=run", "trainer.checkpoint_every=1000", "trainer.log_every=1")
    run = command.folder / "run"
    assert process.wait_until(lambda: trains(run, 3)), process.wait()
    process.send(signal.SIGINT)
    stopped_politely(process.wait(), "run")
    assert step_of(run) == max(int(row["step"]) for row in rows(run))


def test_second_interrupt_stops_at_once(command: Command, first: Trained) -> None:
    # One step of so many tasks takes minutes: the first signal alone would wait for its end.
    given = ("data.tasks_per_step=4000", "data.queries=15", "algo=maml", "engine=learn2learn")
    process = command.start_small("folder=run", *given)
    assert process.wait_until(lambda: "run: " in process.out), process.wait()
    time.sleep(2)
    process.send(signal.SIGINT)
    assert process.wait_until(lambda: "once more stops at once" in process.err), process.wait()
    process.send(signal.SIGINT)
    outcome = process.wait(20)
    stopped_politely(outcome, "run")


def test_interrupted_test_can_be_resumed(command: Command, first: Trained) -> None:
    run = command.folder / "run"
    process = command.start_small("folder=run", "data.test.episodes=5000", "trainer.max_steps=2")
    assert process.wait_until(lambda: step_of(run) == 2), process.wait()
    process.send(signal.SIGINT)
    stopped_politely(process.wait(), "run")
    assert step_of(run) == 2
    assert not (run / "report.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_evaluation_leaves_nothing(command: Command, first: Trained, number: signal.Signals) -> None:
    before = contents(first.run)
    process = command.start("evaluate.py", f"ckpt={first.run}", "episodes=100000", "out=here")
    assert process.wait_until(lambda: "test.npy" in Path(f"/proc/{process.pid}/maps").read_text()), process.wait()
    time.sleep(1)
    process.send(number)
    outcome = process.wait(20)
    assert outcome.code == 130, outcome
    assert "Traceback" not in outcome.err, outcome
    assert contents(command.folder) == {}
    assert contents(first.run) == before


def test_nothing_half_written_stays_when_building_the_bank_is_interrupted(command: Command, first: Trained) -> None:
    banks = command.folder / "banks"
    process = command.start_small(f"data.banks={banks}", fresh=True)
    assert process.wait_until(lambda: bool(list(banks.glob(".*building*/train.npy")))), process.wait()
    process.send(signal.SIGINT)
    outcome = process.wait()
    assert outcome.code == 130, outcome
    assert "Traceback" not in outcome.err, outcome
    assert contents(command.folder) == {}


def test_every_measurement_is_there_once_after_an_interrupt(command: Command, first: Trained) -> None:
    process = command.start_small("folder=run")
    run = command.folder / "run"
    assert process.wait_until(lambda: trains(run, 25)), process.wait()
    process.send(signal.SIGINT)
    process.wait()
    assert command.run("train.py", "resume=run").code == 0
    assert [int(step) for step, _ in measured(run, "train/loss")] == list(range(5, 61, 5))
    assert [int(step) for step, _ in measured(run, "val/loss")] == [25, 50, 60]
