"""What a finished training leaves behind and says, and that the same command gives the same numbers."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metashot.kernels.images import are_available

from .conftest import Command, Trained
from .processes import ROOT, Outcome, checkpoint, contents, copy, measured, report, rows

PROMISED = {
    ".lock",
    "checkpoints",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "config.yaml",
    "episodes.csv",
    "metrics.csv",
    "report.json",
    "report.md",
}


def test_run_folder_holds_all_that_is_promised(first: Trained, maml: Trained) -> None:
    for trained in (first, maml):
        assert set(contents(trained.run)) == PROMISED
        assert {path.name for path in trained.folder.iterdir()} <= {"runs", "banks"}


@pytest.mark.parametrize("algo", ["protonet", "maml"])
def test_run_folder_holds_the_picture_that_was_asked_for(command: Command, algo: str) -> None:
    outcome = command.train(f"algo={algo}", *QUICK, "pictures=episode", "folder=run")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert set(contents(command.folder / "run")) == PROMISED | {"episode.png"}
    assert (command.folder / "run" / "episode.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in command.folder.iterdir()} == {"run"}


def test_stored_configuration_is_resolved_and_whole(first: Trained) -> None:
    config = (first.run / "config.yaml").read_text()
    assert "${" not in config
    assert "???" not in config
    lines = [line.strip() for line in config.splitlines()]
    for line in ("seed: 0", "channels: 8", "lr: 0.01", "max_steps: 60", "queries: 3", "name: protonet"):
        assert line in lines


def test_last_lines_are_the_result_with_its_interval_and_paths_that_exist(first: Trained, maml: Trained) -> None:
    for trained, transductive in ((first, "false"), (maml, "true")):
        table, written = trained.outcome.table, report(trained.run)
        lines = [line[:15].strip() for line in trained.outcome.out.splitlines() if line]
        steps = ["inner steps"] if written["algo"] == "maml" else []
        expected = [
            *[written["algo"], "accuracy", "seeds", "episodes", "ways", "shots", "queries", "transductive", "seen classes"],
            *steps,
            *["worst 5 %", "worst class", "calibration", "a task takes", "checkpoint", "report"],
        ]
        assert lines[-len(expected) :] == expected
        assert re.fullmatch(r"\d+\.\d\d % ± \d+\.\d\d \(95 % interval\)", table["accuracy"])
        assert table["accuracy"] == f"{100 * written['accuracy']:.2f} % ± {100 * written['ci95']:.2f} (95 % interval)"
        assert (table["episodes"], table["ways"], table["shots"], table["transductive"]) == ("60", "5", "1", transductive)
        assert (trained.folder / table["checkpoint"]).is_file()
        assert (trained.folder / table["report"]).is_file()


def test_every_printed_accuracy_carries_its_interval(first: Trained) -> None:
    validations = [line for line in first.outcome.out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in validations] == ["25/60", "50/60", "60/60"]
    for line in validations:
        assert re.search(r"val accuracy \d+\.\d\d % ± \d+\.\d\d", line)


def test_nothing_but_the_result_is_printed(first: Trained, maml: Trained) -> None:
    assert maml.outcome.err == ""
    assert first.outcome.err == ""
    assert len(first.outcome.out.splitlines()) == 20
    assert len(maml.outcome.out.splitlines()) == 22  # with those of its engine and of its inner steps


def test_report_has_all_that_is_needed_to_trust_the_number(first: Trained) -> None:
    written = json.loads((first.run / "report.json").read_text())
    expected = {
        "episodes": 60,
        "ways": 5,
        "shots": 1,
        "queries": 3,
        "transductive": False,
        "algo": "protonet",
        "data": "glyphs",
        "split": "test",
        "episode_seed": 0,
        "training_seed": 0,
        "few_episodes": False,
    }
    assert {name: written[name] for name in expected} == expected
    assert 0.2 < written["accuracy"] < 1
    assert 0 < written["ci95"] < 0.2
    assert written["seconds"] > 0
    assert set(written["seconds_of_a_task"]) == {"adapting", "answering", "in_the_test"}
    assert all(0 < seconds < written["seconds"] for seconds in written["seconds_of_a_task"].values())
    assert written["checkpoint"].endswith("checkpoints/best.ckpt")
    assert {"accuracy", "ci95", "checkpoint", "seconds", *expected} <= written.keys()


def test_report_agrees_with_the_last_row_of_the_metrics(first: Trained) -> None:
    written, last = report(first.run), rows(first.run)[-1]
    assert float(last["test/accuracy"]) == written["accuracy"]
    assert float(last["test/ci95"]) == written["ci95"]


def test_metrics_hold_every_validation_and_logged_step_once(first: Trained) -> None:
    assert [int(step) for step, _ in measured(first.run, "train/loss")] == list(range(5, 61, 5))
    assert [int(step) for step, _ in measured(first.run, "val/accuracy")] == [25, 50, 60]
    for name in ("train/accuracy", "train/gradient_norm", "train/lr"):
        assert len(measured(first.run, name)) == 12
    assert len(measured(first.run, "test/accuracy")) == 1


def test_best_checkpoint_is_that_of_the_best_validation(first: Trained, maml: Trained) -> None:
    for trained in (first, maml):
        scores = {int(step): float(score) for step, score in measured(trained.run, "val/accuracy")}
        best = torch.load(trained.run / "checkpoints" / "best.ckpt", weights_only=True)
        assert scores[best["global_step"]] == max(scores.values())
        assert report(trained.run)["step"] == best["global_step"]


def test_checkpoints_are_plain_containers_with_the_configuration(first: Trained) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = torch.load(first.run / "checkpoints" / name, weights_only=True)
        ours = checkpoint["metashot"]
        assert ours["config"]["algo"]["name"] == "protonet"
        assert ours["config"]["backbone"]["channels"] == 8
        assert ours["config"]["seed"] == 0
        assert ours["version"]
        origin = ours["origin"]
        assert (origin["name"], origin["outputs"], origin["input_shape"]) == ("glyphs", 5, [1, 28, 28])
        drawn = ours["config"]["data"]["tasks_per_step"] * checkpoint["global_step"]
        assert checkpoint["ClassEpisodes"]["next_episode"] == drawn


def test_same_command_gives_the_same_numbers_and_another_folder(command: Command, first: Trained) -> None:
    processes = [command.start_small(), command.start_small()]  # at the same moment, so that the folders' names collide
    outcomes = [process.wait() for process in processes]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    runs = [command.folder / outcome.run for outcome in outcomes]
    assert runs[0] != runs[1]
    for run in runs:
        assert rows(run) == rows(first.run)
        assert report(run) == report(first.run)


def test_folder_that_is_taken_gets_a_number(command: Command, first: Trained) -> None:
    quick = ["trainer.max_steps=1", "data.test.episodes=2", "data.val.episodes=2", "folder=mine"]
    runs = [command.train(*quick).run for _ in range(2)]
    assert runs == [Path("mine"), Path("mine-2")]
    for run in runs:
        assert (command.folder / run / "report.json").is_file()


def test_sweep_gives_each_combination_its_own_folder(command: Command, first: Trained) -> None:
    quick = ["trainer.max_steps=2", "data.test.episodes=4", "data.val.episodes=4"]
    outcome = command.run("train.py", "-m", *command.small("algo=maml,protonet", *quick), "seed=0,1")
    assert outcome.code == 0, outcome
    runs = sorted(path.parent for path in command.folder.rglob("report.json"))
    assert len(runs) == 4, outcome
    found = {(report(run)["algo"], report(run)["training_seed"]) for run in runs}
    assert found == {("maml", 0), ("maml", 1), ("protonet", 0), ("protonet", 1)}
    for run in runs:
        assert (run / "checkpoints" / "best.ckpt").is_file()
        assert f"seed: {report(run)['training_seed']}" in (run / "config.yaml").read_text()
    assert {path.name for path in command.folder.iterdir()} == {"runs"}


def test_job_of_a_sweep_is_the_run_of_its_own(command: Command, first: Trained) -> None:
    outcome = command.run("train.py", "-m", *command.small("seed=1,0"))
    assert outcome.code == 0, outcome
    runs = {report(path.parent)["training_seed"]: path.parent for path in command.folder.rglob("report.json")}
    assert rows(runs[0]) == rows(first.run)


QUICK = ("trainer.max_steps=2", "data.test.episodes=4", "data.val.episodes=4")


def test_sweep_goes_on_after_members_that_cannot_be_used_and_tells_what_became_of_each(
    command: Command, first: Trained
) -> None:
    given = command.small("algo=protonet,nosuch", "data.shots=0,1", *QUICK, "folder=run")
    outcome = command.run("train.py", "-m", *given)
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err, outcome
    messages = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(messages) == 3, outcome  # one for each
    assert messages[0].startswith("error: data.shots=0 cannot be used"), outcome
    assert all(message.startswith("error: algo=nosuch cannot be used") for message in messages[1:]), outcome
    table = outcome.out.splitlines()[-4:]
    assert [line.split()[:3] for line in table] == [
        ["#0", "algo=protonet", "data.shots=0"],
        ["#1", "algo=protonet", "data.shots=1"],
        ["#2", "algo=nosuch", "data.shots=0"],
        ["#3", "algo=nosuch", "data.shots=1"],
    ]
    own = report(command.folder / "run")
    assert table[1].endswith(f"test accuracy {100 * own['accuracy']:.2f} % ± {100 * own['ci95']:.2f}  run"), outcome
    assert all("refused: " in table[place] for place in (0, 2, 3)), outcome
    assert [path.name for path in command.folder.iterdir() if path.name != "runs"] == ["run"]


def test_sweep_in_which_a_run_gave_up_ends_with_exit_code_1(command: Command, first: Trained) -> None:
    diverging = ["algo=maml", "algo.inner_lr=1e30,0.1", "trainer.stop_after_non_finite=2", *QUICK, "folder=run"]
    outcome = command.run("train.py", "-m", *command.small(*diverging))
    assert outcome.code == 1, outcome
    assert outcome.err.startswith("error: training stopped"), outcome
    gave_up, finished = outcome.out.splitlines()[-2:]
    assert "failed: training stopped, because 2 steps in a row could not be used" in gave_up, outcome
    assert finished.endswith("run-2"), outcome


def test_interrupted_sweep_tells_what_was_done(command: Command, first: Trained) -> None:
    folder = "folder=run_${trainer.max_steps}"
    process = command.start("train.py", "-m", *command.small("trainer.max_steps=2,100000,3", folder))
    assert process.wait_until(lambda: len(rows(command.folder / "run_100000")) > 2), process.wait()
    process.send(signal.SIGINT)
    outcome = process.wait()
    assert outcome.code == 130, outcome
    assert outcome.err.splitlines()[-1] == "stopped; go on with: python train.py resume=run_100000"
    done, stopped, never = outcome.out.splitlines()[-3:]
    assert done.endswith("run_2"), outcome
    assert stopped.endswith("stopped"), outcome
    assert never.endswith("not run"), outcome
    assert not (command.folder / "run_3").exists()


def test_sweep_of_evaluations_goes_on_too(command: Command, first: Trained) -> None:
    outcome = command.run("evaluate.py", "-m", f"ckpt={first.run}", "episodes=0,5", "out=scored", "pictures=none")
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: episodes=0 cannot be used"), outcome
    assert outcome.out.splitlines()[-1].endswith("scored"), outcome
    assert report(command.folder / "scored")["episodes"] == 5


@pytest.mark.parametrize("broken", ["closed pipe", pytest.param("full device", marks=pytest.mark.long)])
def test_run_whose_output_nobody_can_take_is_finished_and_says_so(command: Command, first: Trained, broken: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    to = os.open("/dev/full", os.O_WRONLY) if broken == "full device" else writing
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *command.small(*QUICK, "folder=run", "pictures=none")],
        cwd=command.folder,
        env=command.scripts.environment(),
        stdout=to,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1, done
    assert done.stderr.startswith("error: standard output cannot be written: "), done
    assert len(done.stderr.splitlines()) == 1, done
    assert (command.folder / "run" / "report.md").is_file()


@pytest.mark.parametrize("option", [["--help"], ["--cfg", "job"]])
def test_reader_of_help_may_close_it(command: Command, option: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *option],
        cwd=command.folder,
        env=command.scripts.environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, ""), done


@pytest.mark.parametrize(
    "script",
    [["train.py"], ["evaluate.py"], ["-m", "metashot.predict"], ["-m", "metashot.data"], ["-m", "metashot.page"]],
)
def test_working_folder_that_was_deleted_is_named(command: Command, script: list[str]) -> None:
    whole = [str(ROOT / script[0])] if len(script) == 1 else script
    gone = command.folder / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", sys.executable, *whole],
        cwd=gone,
        env=command.scripts.environment() | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done
    assert done.stderr.startswith("error: the working folder cannot be used"), done
    assert len(done.stderr.splitlines()) == 1, done


def test_log_without_a_terminal_gets_a_line_now_and_then(command: Command, first: Trained) -> None:
    assert not [line for line in first.outcome.out.splitlines() if line.endswith(" left")]  # shorter than 30 s
    outcome = command.train("algo=maml", "trainer.max_steps=400", "trainer.validate_every=400", "trainer.heartbeat=1")
    assert outcome.code == 0, outcome
    trained, evaluated = r"step \d+/400  loss \S+  accuracy \S+  \S+ tasks/s", r"(testing|validating) \d+/\d+ episodes"
    lines = [line for line in outcome.out.splitlines() if line.endswith(" left") or re.fullmatch(evaluated, line)]
    assert lines, outcome
    for line in lines:  # the first batch of an evaluation tells nothing of the time that is left
        assert re.fullmatch(rf"{evaluated}|({trained}|{evaluated})  \S+ (s|min) left", line), line


def test_more_processes_than_a_cpu_can_run_are_refused(command: Command, first: Trained) -> None:
    outcome = command.train("trainer.devices=10000")
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: trainer.devices=10000 on a CPU"), outcome
    assert contents(command.folder) == {}


def test_network_that_does_not_fit_into_memory_is_refused(command: Command) -> None:
    wide = ["experiment=sinusoid", "backbone.hidden=[16384,16384,16384,16384]", "logger=csv"]  # 3 GB
    limited = ["prlimit", f"--as={5 * 2**30}", sys.executable, str(ROOT / "train.py"), *wide]
    environment = command.scripts.environment()
    done = subprocess.run(limited, cwd=command.folder, env=environment, capture_output=True, text=True)
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: too little memory: "), outcome
    assert "data.tasks_per_step" in outcome.err, outcome
    assert len(outcome.err.splitlines()) == 1, outcome
    assert contents(command.folder) == {}


@pytest.mark.parametrize("algo", ["protonet", "maml"])
def test_half_precision_trains(command: Command, first: Trained, maml: Trained, algo: str) -> None:
    outcome = command.train(f"algo={algo}", "trainer.precision=bf16-mixed", "pictures=episode", "folder=run", "curve=5")
    assert outcome.code == 0, outcome
    run = command.folder / "run"
    losses = [float(loss) for _, loss in measured(run, "train/loss")]
    exact = [float(loss) for _, loss in measured({"protonet": first, "maml": maml}[algo].run, "train/loss")]
    assert losses != exact
    assert losses[0] == pytest.approx(exact[0], rel=0.1)
    assert 0.2 < report(run)["accuracy"] < 1


def test_run_whose_losses_are_no_numbers_stops_with_a_message_and_its_last_whole_checkpoint(
    command: Command, maml: Trained
) -> None:
    outcome = command.train("algo=maml", "algo.inner_lr=1e30", "trainer.stop_after_non_finite=3", "folder=run")
    assert outcome.code == 1, outcome
    assert "Traceback" not in outcome.err + outcome.out, outcome
    assert "the query loss of task 0 is not finite in step 1, which is skipped (1 in a row)" in outcome.out
    assert outcome.err.startswith("error: training stopped, because 3 steps in a row could not be used"), outcome
    assert "step 3; there is no checkpoint yet; try a lower algo.inner_lr" in outcome.err
    # A run that has a checkpoint names it, and its weights are still numbers.
    copied = copy(maml.run, command.folder / "later")
    changed = checkpoint(copied)
    changed["metashot"]["config"]["algo"]["inner_lr"] = 1e30
    torch.save(changed, copied / "checkpoints" / "last.ckpt")
    stored = copied / "config.yaml"
    stored.write_text(re.sub(r"(?m)^  inner_lr: .*$", "  inner_lr: 1.0e+30", stored.read_text()))
    stopped = command.run("train.py", "resume=later", "trainer.max_steps=80", "trainer.stop_after_non_finite=2")
    assert stopped.code == 1, stopped
    assert f"the last intact checkpoint is {Path('later/checkpoints')}" in stopped.err
    assert all(value.isfinite().all() for value in checkpoint(copied)["state_dict"].values())


@pytest.mark.parametrize("algo", ["fomaml", "mamlpp", "anil", "boil", "metasgd", "metalstm", "reptile", "average"])
def test_every_gradient_based_algorithm_learns_numbers_from_one_command(command: Command, algo: str) -> None:
    quick = ["trainer.max_steps=3", "data.val.episodes=4", "data.test.episodes=4", "logger=csv", "folder=run"]
    outcome = command.run("train.py", "experiment=sinusoid", f"algo={algo}", *quick)
    assert outcome.code == 0, outcome
    assert "mse" in outcome.table


def test_engine_that_runs_is_named(first: Trained, maml: Trained) -> None:
    at_once = "4 tasks at once" if are_available() else "all tasks of a step at once"
    assert f"engine: batched, {at_once} (chosen by auto)" in maml.outcome.out.splitlines()
    assert "engine" not in first.outcome.out


@pytest.mark.parametrize("protocol", ["support", "transductive"])
def test_protocol_of_normalisation_is_reported(command: Command, first: Trained, protocol: str) -> None:
    quick = ["trainer.max_steps=2", "data.test.episodes=4", "data.val.episodes=4", "folder=run"]
    outcome = command.train(f"backbone.normalisation={protocol}", *quick)
    assert outcome.code == 0, outcome
    assert outcome.table["transductive"] == str(protocol == "transductive").lower()
    assert report(command.folder / "run")["transductive"] is (protocol == "transductive")


@pytest.fixture(scope="module")
def devices(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run on one device and one on two, in the folders `one` and `two`, and what the second one said."""
    command = anywhere.at(tmp_path_factory.mktemp("devices"))
    # An odd number of episodes: one is answered twice and has to count once.
    given = ["trainer.max_steps=20", "trainer.validate_every=8", "data.val.episodes=9", "data.test.episodes=9"]
    given.append("pictures=episode")
    process = command.start_small("trainer=ddp", *given, "folder=two", fresh=True)
    one = command.train(*given, "folder=one")
    two = process.wait()
    assert (one.code, two.code) == (0, 0), (one, two)
    return command.folder, two


def test_two_devices_compute_what_one_does(devices: tuple[Path, Outcome]) -> None:
    folder, _ = devices
    for name in ("val/accuracy", "val/loss", "train/loss", "train/accuracy", "train/gradient_norm", "test/loss"):
        alone, together = (measured(folder / run, name) for run in ("one", "two"))
        assert [step for step, _ in alone] == [step for step, _ in together]
        expected = [float(value) for _, value in alone]
        assert [float(value) for _, value in together] == pytest.approx(expected, abs=1e-3), name
    assert report(folder / "two")["episodes"] == 9


def test_two_devices_write_one_folder_and_print_once(devices: tuple[Path, Outcome]) -> None:
    folder, said = devices
    assert {path.name for path in folder.iterdir()} == {"one", "two"}
    assert set(contents(folder / "two")) == set(contents(folder / "one"))
    assert said.out.count("run: ") == 1
    assert said.out.count("accuracy      ") == 1


def test_two_devices_print_no_warning_of_lightnings(devices: tuple[Path, Outcome]) -> None:
    assert devices[1].err == ""


def test_help_lists_groups_and_keys_without_importing_torch(command: Command) -> None:
    importing = {"PYTHONPROFILEIMPORTTIME": "1"}
    for script, words in (
        (
            "train.py",
            [
                "algo: anil, anp, average, baseline, ",
                "backbone: clip, conv4, ",
                "trainer: cpu, ddp, gpu",
                "resume=null",
                "algo.inner_lr=0.4",
            ],
        ),
        ("evaluate.py", ["ckpt=null", "episodes=600", "split=test"]),
    ):
        outcome = command.run(script, "--help", fresh=True, **importing)
        assert outcome.code == 0, outcome
        for word in words:
            assert word in outcome.out, word
        imported = {line.rpartition("|")[2].strip() for line in outcome.err.splitlines()}
        assert "hydra" in imported
        assert not imported & {"torch", "pytorch_lightning", "learn2learn", "wandb", "matplotlib"}
    assert contents(command.folder) == {}
