"""`metashot.Experiment`: what train.py does, from Python."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hydra
import pytest

import metashot
from metashot.bad_input import BadInput
from metashot.configuration.buildable import CONF
from metashot.experiment import Experiment

from .conftest import Command, Trained
from .processes import ROOT

TINY = (
    *("algo=protonet", "backbone.channels=4", "backbone.downsampling=stride", "logger=csv", "pictures=none"),
    *("trainer.max_steps=4", "trainer.validate_every=2", "data.val.episodes=8", "data.test.episodes=10"),
    *("data.train.ways=5", "data.queries=5"),
)


@pytest.fixture(scope="module")
def banks(first: Trained) -> str:
    return f"data.banks={first.folder / 'banks'}"


@pytest.fixture(scope="module")
def tested(banks: str, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    experiment = Experiment(*TINY, banks, f"folder={tmp_path_factory.mktemp('runs') / 'run'}")
    experiment.fit().test()
    return experiment


def numbers(folder: Path) -> dict[str, object]:
    report = json.loads((folder / "report.json").read_text())
    return {key: value for key, value in report.items() if key not in ("seconds", "seconds_of_a_task", "checkpoint")}


def test_an_experiment_gives_what_the_script_gives(tested: Experiment, banks: str, command: Command) -> None:
    outcome = command.run("train.py", *TINY, banks, "folder=run", fresh=True)  # forked ones simulate fewer tasks
    assert outcome.code == 0, outcome
    assert numbers(tested.folder) == numbers(command.folder / "run")
    weights = [torch_weights(folder) for folder in (tested.folder, command.folder / "run")]
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
    assert repr(report).startswith("<Report: protonet on glyphs, accuracy ")


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
    with pytest.raises(BadInput, match=r"data\.test\.ways=5000 and the test split"):
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


def test_two_experiments_have_folders_of_their_own(banks: str, tmp_path: Path) -> None:
    first = Experiment(*TINY, banks, f"folder={tmp_path / 'a'}").fit()
    kept = (first.folder / "checkpoints" / "best.ckpt").read_bytes()
    second = Experiment(*TINY, banks, "seed=1", f"folder={tmp_path / 'b'}").fit()
    assert second.folder == tmp_path / "b"
    assert (first.folder / "checkpoints" / "best.ckpt").read_bytes() == kept
    with pytest.raises(BadInput, match="in use"):
        Experiment(f"resume={first.folder}", "trainer.max_steps=6").fit()
    assert first.test().score != second.test().score
    Experiment(f"resume={first.folder}", "trainer.max_steps=4").fit().close()  # its lock is free again


def test_a_variable_that_was_left_over_names_no_folder(
    banks: str, tested: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METASHOT_RUN_FOLDER", str(tested.folder))
    with Experiment(*TINY, banks, f"folder={tmp_path / 'own'}").fit() as experiment:
        assert experiment.folder == tmp_path / "own"


def test_an_experiment_stays_where_it_is_when_the_program_moves(
    banks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    experiment = Experiment(*TINY, banks, "folder=run").fit()
    monkeypatch.chdir(tmp_path / "elsewhere")
    experiment.test()
    assert (tmp_path / "run" / "report.json").is_file()
    assert experiment.learner.name == "protonet"


def test_an_experiment_can_be_composed_where_hydra_is_in_use_and_in_threads() -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert Experiment("algo=maml").config["algo"]["name"] == "maml"
        assert hydra.compose("train", overrides=["algo=anil"]).algo.name == "anil"
    names = ["maml", "protonet", "reptile", "matching"]
    with ThreadPoolExecutor(4) as pool:
        experiments = list(pool.map(lambda name: Experiment(f"algo={name}"), names))
    assert [experiment.config["algo"]["name"] for experiment in experiments] == names


@pytest.mark.parametrize("odd", [b"algo=maml", None, 1, Path("algo=maml"), ["algo=maml"]])
def test_what_is_no_text_is_bad_input(odd: object) -> None:
    with pytest.raises(BadInput, match="allowed: texts"):
        Experiment(odd)  # type: ignore[arg-type]


def test_no_experiment_of_a_name_is_the_default() -> None:
    default, named = Experiment().config, Experiment("experiment=null").config
    assert named | {"folder": ""} == default | {"folder": ""}


def test_a_folder_is_free_after_every_close(banks: str, tmp_path: Path) -> None:
    experiment = Experiment(*TINY, banks, f"folder={tmp_path / 'run'}")
    experiment.close()
    experiment.fit().close()
    Experiment(f"resume={tmp_path / 'run'}", "trainer.max_steps=4").fit().close()


def test_a_script_without_a_guard_builds_a_bank_without_running_again(tmp_path: Path) -> None:
    rows = [f"{label},{place},{label * 10 + place}" for label in range(12) for place in range(20)]
    (tmp_path / "rows.csv").write_text("\n".join(["class,a,b", *rows]))
    own = ("algo=protonet", "data=vectors", "data.root=rows.csv", "data.banks=banks", "data.train.ways=2", "data.ways=2")
    script = tmp_path / "script.py"
    lines = ["print('begins', flush=True)", "import metashot", f"metashot.Experiment(*{own!r}, 'logger=none').build()"]
    script.write_text("\n".join(lines))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    call = [sys.executable, str(script)]
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.count("begins") == 1
    assert list((tmp_path / "banks").glob("vectors-*"))
