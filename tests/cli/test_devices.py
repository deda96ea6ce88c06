"""Several devices, whatever starts their processes: one folder, one voice, and the numbers of one device."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from .conftest import Command, Trained
from .processes import PATIENCE, ROOT, Outcome, Process, checkpoint, contents, free_port, measured, report, rows, step_of

BIN = Path(sys.executable).parent  # where torchrun is
# What is long in the small run of other tests is shorter here. An odd number of episodes: one is answered twice.
SHORT = ("trainer.max_steps=20", "trainer.validate_every=8", "data.val.episodes=5", "data.test.episodes=5", "folder=run")
QUICK_REPTILE = (
    "algo=reptile",
    "algo.inner_steps=2",
    "algo.test_inner_steps=2",
    "data.train.shots=2",
    "algo.optimizer.name=sgd",
    "algo.optimizer.lr=1.0",
    "algo.optimizer.momentum=0.0",
)
ALGORITHMS = {"maml": ("algo=maml",), "reptile": QUICK_REPTILE}
DDP = ("trainer=ddp", *SHORT)

Variables = Callable[[int, int, int], dict[str, str]]


def of_torchrun(rank: int, processes: int, port: int) -> dict[str, str]:
    return {
        "TORCHELASTIC_RUN_ID": "none",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def of_srun(rank: int, processes: int, port: int) -> dict[str, str]:
    """As `srun --ntasks=N` sets them, which does not say how many there are on each machine."""
    return {
        "SLURM_JOB_ID": str(port),
        "SLURM_JOB_NAME": "python",
        "SLURM_NTASKS": str(processes),
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_STEP_ID": "0",
        "MASTER_PORT": str(port),
    }


def started(
    command: Command, *arguments: str, script: str = "train.py", by: Variables = of_torchrun, processes: int = 2
) -> list[Process]:
    """Processes that were started one by one, as torchrun does."""
    port = free_port()
    return [command.start(script, *arguments, **by(rank, processes, port)) for rank in range(processes)]


def ended(processes: list[Process]) -> list[Outcome]:
    return [process.wait() for process in processes]


def silent(outcome: Outcome) -> bool:
    return outcome.out == outcome.err == ""


def same_numbers(run: Path, reference: Path) -> None:
    assert set(contents(run)) == set(contents(reference))
    for name in ("val/accuracy", "val/loss", "train/loss", "train/gradient_norm", "test/loss"):
        found, expected = measured(run, name), measured(reference, name)
        assert [step for step, _ in found] == [step for step, _ in expected]
        values = [float(value) for _, value in expected]
        assert [float(value) for _, value in found] == pytest.approx(values, abs=1e-3), name
    assert report(run)["episodes"] == report(reference)["episodes"]
    assert largest_difference(run, reference) < 1e-4


def largest_difference(run: Path, reference: Path) -> float:
    """Between the last weights of two runs."""
    weights, expected = (checkpoint(folder)["state_dict"] for folder in (run, reference))
    assert list(weights) == list(expected)
    return max(float((weights[name] - expected[name]).abs().max()) for name in weights)


@pytest.fixture(scope="module")
def one(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on one device."""
    command = anywhere.at(tmp_path_factory.mktemp("one"))
    outcomes = {algo: command.train(*given, *SHORT, f"folder={algo}") for algo, given in ALGORITHMS.items()}
    assert all(outcome.code == 0 for outcome in outcomes.values()), outcomes
    return {algo: command.folder / algo for algo in ALGORITHMS}


@pytest.mark.long  # below, its variables are given to processes that have imported torch already
def test_torchrun_gives_one_run_with_the_numbers_of_one_device(command: Command, one: dict[str, Path]) -> None:
    arguments = [str(ROOT / "train.py"), *command.small("algo=maml", *DDP)]
    port = f"--master-port={free_port()}"
    process = command.scripts.start(
        "torchrun", ["--nproc-per-node=2", port, *arguments], command.folder, fresh=True, root=BIN
    )
    outcome = process.wait()
    assert outcome.code == 0, outcome
    assert outcome.err == "", outcome
    assert outcome.out.count("run: ") == outcome.out.count("accuracy      ") == 1, outcome
    assert [path.name for path in command.folder.iterdir()] == ["run"]
    same_numbers(command.folder / "run", one["maml"])


@pytest.mark.parametrize("by", [of_torchrun, of_srun], ids=["torchrun", "srun"])
def test_processes_that_were_started_for_it_are_one_run(command: Command, one: dict[str, Path], by: Variables) -> None:
    first, second = ended(started(command, *command.small("algo=maml", *DDP), by=by))
    assert (first.code, second.code) == (0, 0), (first, second)
    assert first.err == ""
    assert silent(second), second
    assert [path.name for path in command.folder.iterdir()] == ["run"]
    same_numbers(command.folder / "run", one["maml"])


def test_devices_that_draw_other_shapes_learn_the_same_averages(command: Command, first: Trained) -> None:
    """An episode draws its ways, and one device may have to do with more shapes than the other."""
    given = command.small(*SHORT, "algo=protonet", "data.train.ways=[3,5]", "data.tasks_per_step=4")
    outcomes = ended(started(command, *given, "trainer.devices=2", "trainer.strategy=ddp"))
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    alone = command.run("train.py", *given, "folder=alone")
    assert alone.code == 0, alone
    same_numbers(command.folder / "run", command.folder / "alone")


@pytest.mark.parametrize(
    ("algo", "before", "after"),
    [
        ("maml", 1, 2),
        ("reptile", 2, 1),
        pytest.param("maml", 2, 1, marks=pytest.mark.long),
        pytest.param("reptile", 1, 2, marks=pytest.mark.long),
    ],
)
def test_checkpoint_of_one_device_goes_on_on_two_and_the_other_way_round(
    command: Command, one: dict[str, Path], algo: str, before: int, after: int
) -> None:
    run = command.folder / "run"
    small = command.small(*ALGORITHMS[algo], *SHORT, "trainer.checkpoint_every=5", f"trainer.devices={before}")
    processes = started(command, *small, processes=before)
    assert processes[0].wait_until(lambda: step_of(run) >= 10), processes[0].wait()
    for process in processes:
        process.send(signal.SIGKILL)
        process.wait()
    assert 10 <= step_of(run) < 20
    outcomes = ended(started(command, "resume=run", f"trainer.devices={after}", processes=after))
    assert [outcome.code for outcome in outcomes] == [0] * after, outcomes
    assert all(silent(outcome) for outcome in outcomes[1:]), outcomes
    same_numbers(run, one[algo])


def test_interrupted_processes_save_and_say_once_how_to_go_on(command: Command, one: dict[str, Path]) -> None:
    run = command.folder / "run"
    processes = started(command, *command.small("algo=maml", *DDP, "trainer.log_every=1"))
    assert processes[0].wait_until(lambda: bool(rows(run))), processes[0].wait()
    for process in processes:
        process.send(signal.SIGINT)
    first, second = ended(processes)
    assert (first.code, second.code) == (130, 130), (first, second)
    assert first.err.endswith("train.py resume=run\n"), first
    assert "Traceback" not in first.err, first
    assert silent(second), second
    assert step_of(run) == int(rows(run)[-1]["step"])
    outcomes = ended(started(command, "resume=run"))
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert largest_difference(run, one["maml"]) < 1e-4


def test_checkpoint_is_scored_alike_on_two_devices(command: Command, one: dict[str, Path]) -> None:
    arguments = [f"ckpt={one['maml']}", "episodes=7"]
    outcomes = ended(started(command, *arguments, "trainer=ddp", "out=two", script="evaluate.py"))  # and draws
    outcomes.append(command.evaluate(*arguments, "out=one"))
    assert [outcome.code for outcome in outcomes] == [0, 0, 0], outcomes
    assert silent(outcomes[1])
    together, alone = (report(command.folder / name) for name in ("two", "one"))
    assert together["loss"] == pytest.approx(alone.pop("loss"), abs=1e-5)
    assert {name: together[name] for name in alone} == alone


BAD = {
    "what no process can use": (["data.shots=0"], "data.shots=0"),
    "what the first process cannot have": (["folder=file/run"], "folder=file/run"),
    "more devices than processes": (["trainer.devices=4"], "give trainer=ddp trainer.devices=2 trainer.nodes=1"),
    "more processes than devices": (["trainer=cpu"], "give trainer=ddp trainer.devices=2 trainer.nodes=1"),
    "more machines than there are": (["trainer.nodes=2", "trainer.devices=1"], "trainer.nodes=1"),
    "tasks that cannot be shared": (["data.tasks_per_step=3"], "multiple of 2"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_all_processes_with_one_message(command: Command, first: Trained, what: str) -> None:
    given, message = BAD[what]
    (command.folder / "file").touch()
    said, unsaid = ended(started(command, *command.small("algo=maml", *DDP, *given)))
    assert (said.code, unsaid.code) == (2, 2), (said, unsaid)
    assert said.err.startswith("error: "), said
    assert len(said.err.splitlines()) == 1, said
    assert message in said.err, said
    assert silent(unsaid), unsaid
    assert [path.name for path in command.folder.iterdir()] == ["file"]


def test_what_only_another_process_cannot_use_is_told_by_the_first(command: Command, first: Trained) -> None:
    port = free_port()
    given = command.small("algo=maml", *DDP)
    (command.folder / "no_folder").touch()
    processes = [
        command.start("train.py", *given, **of_torchrun(0, 2, port)),
        command.start("train.py", *given, "data.banks=no_folder/banks", **of_torchrun(1, 2, port)),
    ]
    said, unsaid = ended(processes)
    assert (said.code, unsaid.code) == (2, 2), (said, unsaid)
    assert "no_folder" in said.err, said
    assert f"(on {socket.gethostname()})" in said.err, said
    assert silent(unsaid), unsaid
    assert [path.name for path in command.folder.iterdir()] == ["no_folder"]


LEFT_OVER = {
    "RANK": {"RANK": "1"},
    "WORLD_SIZE": {"WORLD_SIZE": "4"},
    "LOCAL_RANK": {"LOCAL_RANK": "1", "MASTER_ADDR": "somewhere"},
    "TORCHELASTIC_RUN_ID": {"TORCHELASTIC_RUN_ID": "none"},
    "SLURM_NTASKS": {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train"},
    "SLURM_NTASKS of a batch script": {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_ID": "7",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    },
}


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
@pytest.mark.parametrize("left_over", LEFT_OVER)
def test_variables_that_promise_other_processes_are_named(command: Command, left_over: str, script: str) -> None:
    name = left_over.split()[0]
    outcome = command.start(script, **LEFT_OVER[left_over]).wait(20)
    assert outcome.code == 2, outcome
    assert outcome.err.startswith(f"error: {name}="), outcome
    assert f"unset {name}" in outcome.err, outcome
    assert len(outcome.err.splitlines()) == 1, outcome
    assert contents(command.folder) == {}


def test_variables_that_promise_nobody_else_do_no_harm(command: Command, one: dict[str, Path]) -> None:
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}
    alone |= {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7"}
    outcome = command.train("algo=maml", *DDP, **alone)
    assert outcome.code == 0, outcome
    same_numbers(command.folder / "run", one["maml"])


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("by", [of_torchrun, of_srun], ids=["torchrun", "srun"])
def test_process_that_nobody_joins_gives_up(command: Command, by: Variables, rank: int) -> None:
    given = command.small(*DDP, "trainer.join_within=1")
    outcome = command.start("train.py", *given, **by(rank, 2, free_port())).wait(30)
    assert outcome.code == 2, outcome
    (line,) = outcome.err.splitlines()
    assert f"this is process {rank} of 2 (from 0)" in line, outcome
    assert "within 1 s (trainer.join_within)" in line, outcome
    assert ("unset TORCHELASTIC_RUN_ID RANK WORLD_SIZE" if by is of_torchrun else "unset SLURM_NTASKS") in line, outcome
    assert contents(command.folder) == {}


@pytest.mark.parametrize(
    ("during", "whom"),
    [
        pytest.param("training", "the first process", marks=pytest.mark.long),
        ("training", "all of them"),
        ("the test", "the first process"),
        pytest.param("the test", "all of them", marks=pytest.mark.long),
    ],
)
def test_processes_of_lightning_stop_as_one(command: Command, one: dict[str, Path], whom: str, during: str) -> None:
    run = command.folder / "run"
    many = [] if during == "training" else ["data.test.episodes=5000", "trainer.max_steps=1"]
    process = command.start_small("algo=maml", *DDP, "trainer.log_every=1", *many)
    assert process.wait_until(lambda: bool(rows(run)) and (not many or step_of(run) == 1)), process.wait()
    if whom == "all of them":
        process.send(signal.SIGTERM)
    else:
        os.kill(process.pid, signal.SIGTERM)
    outcome = process.wait()
    assert outcome.code == 130, outcome
    assert outcome.err.endswith("stopped; go on with: python train.py resume=run\n"), outcome
    assert "Traceback" not in outcome.err, outcome
    assert not (run / "report.json").exists()
    if not many:
        assert command.run("train.py", "resume=run").code == 0
        assert largest_difference(run, one["maml"]) < 1e-4


def test_machines_that_nobody_started_are_refused(command: Command, first: Trained) -> None:
    outcome = command.train("trainer=ddp", "trainer.nodes=2")
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: trainer.nodes=2"), outcome
    assert contents(command.folder) == {}


def test_sweep_over_devices_gives_each_run_its_own_processes(command: Command, one: dict[str, Path]) -> None:
    folder = "folder=run_${trainer.devices}"
    outcome = command.run("train.py", "-m", *command.small("algo=maml", *SHORT, folder, "trainer=cpu,ddp"))
    assert outcome.code == 0, outcome
    assert outcome.err == "", outcome
    assert outcome.out.count("Launching 2 jobs") == 1, outcome  # the second process of a job is no sweep itself
    for run in ("run_1", "run_2"):
        same_numbers(command.folder / run, one["maml"])


def test_64_bits_are_64_bits(command: Command, one: dict[str, Path]) -> None:
    outcome = command.train("algo=maml", *SHORT, "trainer.precision=64-true", "pictures=episode")
    assert outcome.code == 0, outcome
    weights = checkpoint(command.folder / "run")["state_dict"]
    assert {weight.dtype for weight in weights.values()} == {torch.float64}
    assert 0 < largest_difference(command.folder / "run", one["maml"]) < 1e-2


SUBMITIT = ("-m", "hydra/launcher=submitit_local", "hydra.sweep.dir=sweep")


def submitted(command: Command, *arguments: str) -> Outcome:
    """A sweep whose jobs are processes of their own, as on a cluster."""
    pytest.importorskip("submitit")
    path = os.pathsep.join(filter(None, [str(BIN), os.environ.get("PATH")]))
    process = command.start("train.py", *SUBMITIT, *command.small("algo=maml", *SHORT, *arguments), PATH=path)
    return process.wait(PATIENCE)


@pytest.mark.long
def test_submitit_runs_the_jobs_of_a_sweep(command: Command, one: dict[str, Path]) -> None:
    outcome = submitted(command, "folder=run_${seed}", "seed=0,1")
    assert outcome.code == 0, outcome
    assert {path.name for path in command.folder.iterdir()} == {"run_0", "run_1", "sweep"}
    same_numbers(command.folder / "run_0", one["maml"])
    assert report(command.folder / "run_1")["training_seed"] == 1


@pytest.mark.long
def test_submitit_starts_the_processes_of_several_devices(command: Command, one: dict[str, Path]) -> None:
    outcome = submitted(command, "hydra.launcher.tasks_per_node=2", "trainer=ddp")
    assert outcome.code == 0, outcome
    assert {path.name for path in command.folder.iterdir()} == {"run", "sweep"}
    same_numbers(command.folder / "run", one["maml"])


@pytest.mark.long
def test_submitit_tells_what_a_job_refused(command: Command, first: Trained) -> None:
    outcome = submitted(command, "data.shots=0,1")
    assert outcome.code == 2, outcome
    assert outcome.err.splitlines()[-1].startswith("error: data.shots=0 cannot be used"), outcome
    assert "Traceback" not in outcome.err, outcome


def test_processes_of_lightning_start_from_the_same_checkpoint(command: Command, first: Trained) -> None:
    """Lightning gives the other process the command line of the first, to which the stored backbone was added."""
    outcome = command.train("trainer=ddp", "trainer.devices=2", f"init_from={first.run}", *SHORT, "folder=run")
    assert outcome.code == 0, outcome
    assert outcome.out.count("init_from: the backbone of") == 1
