"""`metashot.Experiment`: what train.py does, from Python."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import metashot
from metashot.bad_input import BadInput
from metashot.experiment import Experiment
from tests.cli.processes import ROOT

TINY = (
    *("algo=protonet", "backbone.channels=4", "backbone.downsampling=stride", "logger=csv", "pictures=none"),
    *("trainer.max_steps=4", "trainer.validate_every=2", "data.val.episodes=8", "data.test.episodes=10"),
    *("data.source.examples=16", "data.train.ways=5", "data.queries=5"),
)


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"data.banks={tmp_path_factory.mktemp('banks')}"


@pytest.fixture(scope="module")
def tested(banks: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    experiment = Experiment(*TINY, banks, f"folder={tmp_path_factory.mktemp('runs') / 'run'}")
    experiment.fit().test()
    return experiment


def numbers(folder: Path) -> dict[str, object]:
    report = json.loads((folder / "report.json").read_text())
    return {key: value for key, value in report.items() if key not in ("seconds", "seconds_of_a_task", "checkpoint")}


def test_an_experiment_gives_what_the_script_gives(tested: Experiment, banks: str, tmp_path: Path) -> None:
    call = [sys.executable, str(ROOT / "train.py"), *TINY, banks, f"folder={tmp_path / 'run'}"]
    subprocess.run(call, check=True, capture_output=True)
    assert numbers(tested.folder) == numbers(tmp_path / "run")
    weights = [torch_weights(folder) for folder in (tested.folder, tmp_path / "run")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def torch_weights(folder: Path) -> dict[str, object]:
    from metashot.checkpoints.reading import read_checkpoint

    weights: dict[str, object] = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return weights


def test_the_report_is_returned_and_kept(tested: Experiment) -> None:
    report = tested.test()
    kept = json.loads((tested.folder / "report.json").read_text())
    assert kept["accuracy"] == report.score
    assert kept["ci95"] == report.ci95
    assert report.episodes == 10
    assert "accuracy" in str(report)
    assert "| accuracy |" in report._repr_markdown_()


def test_the_learner_is_the_best_checkpoint(tested: Experiment) -> None:
    assert tested.learner.checkpoint == tested.folder / "checkpoints" / "best.ckpt"
    assert tested.learner.name == "protonet"


def test_what_was_drawn_between_building_and_training_changes_nothing(
    banks: str, tmp_path: Path, tested: Experiment
) -> None:
    import torch

    experiment = Experiment(*TINY, banks, f"folder={tmp_path / 'run'}").build()
    torch.rand(7)
    experiment.fit().test()
    assert numbers(experiment.folder) == numbers(tested.folder)


def test_an_experiment_goes_on_with_a_run(tested: Experiment, banks: str, tmp_path: Path) -> None:
    first = Experiment(*TINY, banks, "trainer.max_steps=2", "algo.optimizer.schedule=constant", f"folder={tmp_path / 'run'}")
    first.fit().close()
    resumed = Experiment(f"resume={first.folder}", "trainer.max_steps=4").fit()
    assert resumed.folder == first.folder
    whole = Experiment(*TINY, banks, "algo.optimizer.schedule=constant", f"folder={tmp_path / 'whole'}").fit()
    weights = [torch_weights(experiment.folder) for experiment in (resumed, whole)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algo=protonett"], "did you mean protonet"),
        (["algo.distnace=cosine"], "unknown key algo.distnace"),
        (["-m", "seed=0,1"], "option of the command line"),
        (["seed=0,1"], "several values"),
        (["trainer.max_steps=-1"], "trainer.max_steps"),
        (["algo=metabaseline"], "init_from"),
        (["resume=nowhere"], "there is no such file or folder"),
    ],
)
def test_bad_input_is_an_exception_with_the_message_of_the_script(overrides: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Experiment(*overrides)


def test_a_refused_experiment_leaves_no_folder(banks: str, tmp_path: Path) -> None:
    experiment = Experiment(*TINY, banks, "data.test.ways=5000", f"folder={tmp_path / 'run'}")
    with pytest.raises(BadInput, match="5000 ways"):
        experiment.fit()
    assert not list(tmp_path.iterdir())


def test_testing_needs_training_and_training_is_done_once(tested: Experiment, banks: str, tmp_path: Path) -> None:
    experiment = Experiment(*TINY, banks, f"folder={tmp_path / 'run'}")
    with pytest.raises(BadInput, match=r"call fit\(\) first"):
        experiment.test()
    with pytest.raises(BadInput, match=r"call fit\(\) first"):
        _ = experiment.learner
    with pytest.raises(BadInput, match="trained already"):
        tested.fit()


def test_a_signal_ends_training_where_a_run_can_be_resumed(banks: str, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        experiment = Experiment(*TINY, banks, "trainer.max_steps=100000", f"folder={tmp_path / 'run'}")
        experiment.build()

        def interrupt() -> None:
            while not (tmp_path / "run" / "metrics.csv").exists():
                time.sleep(0.05)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt, match="resume="):
            experiment.fit()
        assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    Experiment(f"resume={tmp_path / 'run'}", "trainer.max_steps=1").build()  # its lock is free again


def test_an_interactive_session_starts_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(BadInput, match="interactive session"):
        Experiment("trainer=ddp", "trainer.devices=2")


def test_metashot_offers_experiments() -> None:
    assert metashot.Experiment is Experiment
