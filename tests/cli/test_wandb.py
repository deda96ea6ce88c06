"""Weights & Biases: works without an account, never holds up a run, and leaves a record that can be read back."""

import csv
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command, Trained
from .processes import Outcome, contents, measured, report, step_of

CREDENTIALS = {"WANDB_API_KEY": "0" * 40}
DELAY = 40  # seconds a server that does not answer may cost
QUICK = ("trainer.max_steps=10", "trainer.validate_every=5", "data.test.episodes=8", "folder=run")


@dataclass(frozen=True)
class Record:
    """What W&B's own tool reads in the file of a run."""

    run_id: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]

    def curve(self, name: str) -> list[tuple[int, float]]:
        return [(row["trainer/global_step"], row[name]) for row in self.history if name in row]


def read_back(file: Path, home: Path) -> Record:
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for record in records:
        if record["type"] == "config":
            config |= record["config"]["update"]
        if record["type"] == "summary":
            summary |= record["summary"]["update"]
    return Record(
        run_id=next(record["run"]["run_id"] for record in records if record["type"] == "run"),
        config=config,
        history=[record["history"]["item"] for record in records if record["type"] == "history"],
        summary=summary,
    )


def files_of(run: Path) -> list[Path]:
    return sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)


def is_offline(outcome: Outcome, run: Path) -> None:
    """The run went through, its record lies in its folder, and one line says how to look at it."""
    assert outcome.code == 0, outcome
    lines = [line for line in outcome.out.splitlines() if line.startswith("W&B:")]
    assert len(lines) == 1, outcome
    assert "offline" in lines[0]
    assert "wandb sync" in lines[0]
    assert "wandb leet" in lines[0]
    assert len(files_of(run)) == 1
    assert (run / "report.json").is_file()


@pytest.fixture(scope="module")
def offline(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run with the default logger, in a fresh process without credentials."""
    folder = tmp_path_factory.mktemp("offline")
    command = anywhere.at(folder)
    arguments = [
        argument for argument in command.small("folder=run", "pictures=episode") if not argument.startswith("logger=")
    ]
    outcome = command.run("train.py", *arguments, fresh=True)
    assert outcome.code == 0, outcome
    return Trained(outcome, folder, folder / "run")


@pytest.fixture(scope="module")
def record(offline: Trained, anywhere: Command) -> Record:
    return read_back(files_of(offline.run)[0], anywhere.scripts.home)


def test_run_without_credentials_is_kept_offline_and_says_how_to_look(offline: Trained) -> None:
    is_offline(offline.outcome, offline.run)
    line = next(line for line in offline.outcome.out.splitlines() if line.startswith("W&B:"))
    assert "no credentials" in line
    named = line.rpartition("wandb leet ")[2].rstrip("`")
    assert (offline.folder / named).is_dir()
    assert line.count(named) == 2
    assert offline.outcome.err == ""
    assert {path.name for path in offline.folder.iterdir()} == {"run"}


def test_logger_does_not_change_what_is_computed(offline: Trained, first: Trained) -> None:
    assert report(offline.run) == report(first.run)
    assert measured(offline.run, "train/loss") == measured(first.run, "train/loss")


def test_record_holds_the_configuration(record: Record) -> None:
    config = record.config
    assert config["algo"]["name"] == "protonet"
    assert config["algo"]["optimizer"]["lr"] == 0.01
    assert config["backbone"]["channels"] == 8
    assert config["data"]["queries"] == 3
    assert config["seed"] == 0
    assert config["trainer"]["max_steps"] == 60


def test_record_holds_every_measurement_at_its_step(record: Record, offline: Trained) -> None:
    for name in ("train/loss", "train/accuracy", "train/gradient_norm", "train/lr"):
        assert [step for step, _ in record.curve(name)] == list(range(5, 61, 5)), name
    assert all(speed > 0 for _, speed in record.curve("train/tasks_per_second"))
    assert len(record.curve("train/tasks_per_second")) == 12
    for name in ("val/accuracy", "val/ci95", "val/loss"):
        assert [step for step, _ in record.curve(name)] == [25, 50, 60], name
    for name in ("train/loss", "val/accuracy"):
        assert record.curve(name) == [(int(step), float(value)) for step, value in measured(offline.run, name)]


def test_record_holds_the_picture_of_a_test_episode(record: Record, offline: Trained) -> None:
    pictures = [row for row in record.history if "test/episode.filenames" in row]
    assert len(pictures) == 1
    file = files_of(offline.run)[0].parent / "files" / pictures[0]["test/episode.filenames"][0]
    assert file.read_bytes() == (offline.run / "episode.png").read_bytes()


def test_record_holds_the_episodes_and_the_numbers_of_the_test(record: Record, offline: Trained) -> None:
    file = files_of(offline.run)[0].parent / "files" / record.summary["test/episodes_table"]["path"]
    content = json.loads(file.read_text())
    assert content["columns"] == ["number", "accuracy", "loss", "classes"]
    with (offline.run / "episodes.csv").open() as lines:
        written = list(csv.DictReader(lines))
    assert [row[:3] for row in content["data"]] == [
        [int(row["number"]), float(row["accuracy"]), pytest.approx(float(row["loss"]))] for row in written
    ]
    own = report(offline.run)
    for name in ("accuracy", "ci95", "loss", "episodes", "worst_episodes", "calibration_error"):
        assert record.summary[f"test/{name}"] == own[name], name
    assert record.summary["test/worst_class"] == own["worst_class"]["accuracy"]


def test_numbers_of_the_test_are_no_curves_of_one_point(record: Record) -> None:
    of_test = {name for row in record.history for name, value in row.items() if name.startswith("test/")}
    assert {name.partition(".")[0] for name in of_test} == {"test/episode"}  # its picture


def test_agent_of_a_sweep_decides_which_run_it_is(command: Command, first: Trained) -> None:
    agent = {"WANDB_SWEEP_ID": "abcd1234", "WANDB_RUN_ID": "agents01"}
    outcome = command.train(*QUICK, "logger=wandb", "pictures=all", **agent)
    assert outcome.code == 0, outcome
    (file,) = files_of(command.folder / "run")
    record = read_back(file, command.scripts.home)
    assert record.run_id == "agents01"
    pictures = {"episode", "histogram", "reliability", "confusion", "features"}
    shown = {name for row in record.history for name in row if name.startswith("test/") and name.endswith(".filenames")}
    assert shown == {f"test/{name}.filenames" for name in pictures}


def test_evaluation_can_be_kept_in_wandb(command: Command, first: Trained) -> None:
    outcome = command.run("evaluate.py", f"ckpt={first.run}", "episodes=6", "logger=wandb", "out=scored")
    is_offline(outcome, command.folder / "scored")
    record = read_back(files_of(command.folder / "scored")[0], command.scripts.home)
    assert any("test/episode.filenames" in row for row in record.history)


def test_resumed_run_keeps_its_identity(command: Command, first: Trained) -> None:
    run = command.folder / "run"
    process = command.start_small("logger=wandb", "folder=run")
    assert process.wait_until(lambda: step_of(run) >= 20), process.wait()
    process.send(signal.SIGKILL)
    process.wait()
    kept = (run / "wandb" / "run-id").read_text()
    outcome = command.run("train.py", f"resume={run}")
    assert outcome.code == 0, outcome
    assert (run / "wandb" / "run-id").read_text() == kept
    files = files_of(run)
    assert len(files) == 2
    assert {file.stem for file in files} == {f"run-{kept}"}
    resumed = read_back(files[-1], command.scripts.home)
    assert resumed.run_id == kept
    assert resumed.summary["test/accuracy"] == report(first.run)["accuracy"]


def test_jobs_of_a_sweep_are_runs_of_their_own(command: Command, first: Trained) -> None:
    outcome = command.run("train.py", "-m", *command.small(*QUICK[:3], "logger=wandb", "seed=0,1"))
    assert outcome.code == 0, outcome
    files = sorted(command.folder.rglob("*.wandb"))
    assert len({file.stem for file in files}) == 2
    records = [read_back(file, command.scripts.home) for file in files]
    assert {record.config["seed"] for record in records} == {0, 1}
    assert all("test/accuracy" in record.summary for record in records)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


@pytest.fixture
def refusing_server() -> Iterator[str]:
    """A server that answers everything with an error, as one does that is down behind its proxy."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def goes_through_without(server: str, command: Command, first: Trained, *arguments: str) -> None:
    begin = time.monotonic()
    outcome = command.train("logger=wandb", *QUICK, *arguments, WANDB_BASE_URL=server, **CREDENTIALS)
    assert time.monotonic() - begin < DELAY + 10, outcome
    is_offline(outcome, command.folder / "run")
    assert server in next(line for line in outcome.out.splitlines() if line.startswith("W&B:"))
    assert "Traceback" not in outcome.err, outcome


def test_server_that_cannot_be_reached_does_not_hold_up_a_run(command: Command, first: Trained) -> None:
    goes_through_without("http://127.0.0.1:9", command, first)


@pytest.mark.long  # waits for it
def test_server_that_never_answers_does_not_hold_up_a_run(command: Command, first: Trained, silent_server: str) -> None:
    goes_through_without(silent_server, command, first)


@pytest.mark.long  # W&B's own patience with it takes 45 s
def test_server_that_answers_with_errors_does_not_hold_up_a_run(
    command: Command, first: Trained, refusing_server: str
) -> None:
    goes_through_without(refusing_server, command, first)


@pytest.mark.long
def test_key_that_cannot_be_one_does_not_stop_a_run(command: Command, first: Trained, refusing_server: str) -> None:
    outcome = command.train("logger=wandb", *QUICK, WANDB_API_KEY="mine", WANDB_BASE_URL=refusing_server)
    is_offline(outcome, command.folder / "run")


def test_offline_is_respected_without_asking_the_server(command: Command, first: Trained, silent_server: str) -> None:
    for name, wish, environment in (
        ("environment", [], {"WANDB_MODE": "offline"}),
        ("key", ["logger.mode=offline"], {}),
    ):
        shutil.rmtree(command.folder / "run", ignore_errors=True)
        outcome = command.train("logger=wandb", *QUICK, *wish, WANDB_BASE_URL=silent_server, **CREDENTIALS, **environment)
        is_offline(outcome, command.folder / "run")
        assert "as was asked for" in outcome.out, name


def test_disabled_is_respected(command: Command, first: Trained) -> None:
    outcome = command.train("logger=wandb", *QUICK, WANDB_MODE="disabled")
    assert outcome.code == 0, outcome
    assert not list(command.folder.rglob("*.wandb"))
    assert (command.folder / "run" / "metrics.csv").is_file()


UNUSABLE = {
    "logger.project=a/b": "logger.project=a/b",
    "logger.project=": "logger.project= has 0 characters",
    "logger.entity=me/you": "logger.entity=me/you",
    f"logger.group={'g' * 129}": "129 characters; allowed: 1 to 128",
    f"logger.tags=[good,{'t' * 100}]": "100 characters; allowed: 1 to 64",
}


@pytest.mark.parametrize("given", UNUSABLE)
def test_what_wandb_would_refuse_is_known_before_training(command: Command, first: Trained, given: str) -> None:
    outcome = command.train("logger=wandb", *QUICK, given)
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: logger."), outcome
    assert UNUSABLE[given] in outcome.err, outcome
    assert outcome.out == "", outcome
    assert contents(command.folder) == {}


@pytest.mark.parametrize(("logger", "table"), [("none", False), ("csv", True)])
def test_other_loggers_write_nothing_of_wandb(command: Command, first: Trained, logger: str, table: bool) -> None:
    outcome = command.train(f"logger={logger}", *QUICK, **CREDENTIALS)
    assert outcome.code == 0, outcome
    assert "W&B" not in outcome.out
    assert not [name for name in contents(command.folder) if "wandb" in name]
    assert (command.folder / "run" / "metrics.csv").is_file() is table
