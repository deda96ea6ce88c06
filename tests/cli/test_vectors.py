"""data=vectors as a user meets it: trained, scored, looked at and used in Python, with files that cannot be used refused."""

from pathlib import Path

import numpy as np
import pytest

import metashot
from tests.sources.vectors.tables import EACH, FEATURES, clouds, csv, npz

from .conftest import Command, Trained
from .processes import Scripts, report
from .test_bad_input import refused

LOOK, PREDICT = "src/metashot/data/__main__.py", "src/metashot/predict.py"
TASKS = ("data.ways=3", "data.shots=2", "data.queries=4", "data.train.ways=null", "data.train.queries=null")
SMALL = (
    *("data.val.episodes=8", "data.test.episodes=40", "trainer.max_steps=20", "trainer.validate_every=10"),
    *("logger=csv", "curve=4", "data.source.shares=[1,1,1]", "data.banks=banks"),
)


@pytest.fixture
def command(scripts: Scripts, tmp_path: Path) -> Command:
    """The scripts in an empty working directory, for which no bank of images is built."""
    return Command(scripts, tmp_path / "banks", tmp_path)


@pytest.fixture(scope="module")
def run(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("vectors")
    command = Command(scripts, folder / "banks", folder)
    csv(command.folder / "it.csv", label="kind")
    given = ("data=vectors", "data.root=it.csv", "data.source.label=kind", "algo=matching", "folder=run")
    outcome = command.run("train.py", *given, *TASKS, *SMALL)
    assert outcome.code == 0, outcome
    return Trained(outcome, command.folder, command.folder / "run")


def test_vectors_are_trained_on_and_scored_from_one_command(command: Command, run: Trained) -> None:
    found = report(run.run)
    assert found["accuracy"] > 0.7  # clouds that are far apart, of which chance is a third
    assert (found["data"], found["ways"], found["transductive"]) == ("vectors", 3, False)
    assert not (run.run / "episode.png").exists()
    assert "![episode]" not in (run.run / "report.md").read_text()
    assert "![confusion]" in (run.run / "report.md").read_text()
    outcome = command.at(run.folder).evaluate("ckpt=run", "episodes=40", "out=again")
    assert outcome.code == 0, outcome
    assert report(run.folder / "again")["accuracy"] == found["accuracy"]


def test_a_trained_learner_of_vectors_is_used_in_python_and_not_on_folders(command: Command, run: Trained) -> None:
    x, y = clouds(seed=1, classes=4)
    first = np.argsort(y, kind="stable").reshape(4, EACH)
    learner = metashot.load(run.run).fit(x[first[:, :3].ravel()], y[first[:, :3].ravel()])
    assert learner.score(x[first[:, 3:].ravel()], y[first[:, 3:].ravel()]) > 0.7
    (command.folder / "pets").mkdir()
    outcome = command.run(PREDICT, f"ckpt={run.run}", "support=pets", "query=pets")
    refused(outcome, ["was trained on vectors", "cannot be given folders of images", "fit(x, y)"])


def test_a_file_of_vectors_is_looked_at_without_a_picture(command: Command) -> None:
    npz(command.folder / "it.npz")
    outcome = command.run(LOOK, "data=vectors", "data.root=it.npz", "data.banks=banks", *TASKS[:3])
    assert outcome.code == 0, outcome
    assert f"of shape {FEATURES}, float32" in outcome.out
    assert "these items have no picture" in outcome.out
    assert sorted(path.name for path in command.folder.iterdir()) == ["banks", "it.npz"]


def test_features_of_their_own_are_tested_and_have_nothing_to_train(command: Command) -> None:
    npz(command.folder / "it.npz")
    given = ("data=vectors", "data.root=it.npz", "backbone=identity", "algo=protonet", "folder=run", *TASKS, *SMALL)
    refused(command.run("train.py", *given), ["backbone=identity leaves algo=protonet nothing to train", "backbone=mlp"])
    outcome = command.run("train.py", *given, "trainer.max_steps=0")
    assert outcome.code == 0, outcome
    assert report(command.folder / "run")["accuracy"] > 0.8


@pytest.mark.parametrize("algo", ["leo", "cnaps"])
def test_learners_on_features_take_vectors_as_they_are_and_no_network_that_trains(command: Command, algo: str) -> None:
    npz(command.folder / "it.npz")
    given = ("data=vectors", "data.root=it.npz", f"algo={algo}", "folder=run", *TASKS, *SMALL)
    refused(command.run("train.py", *given), ["missing key init_from", f"algo={algo}", "backbone=identity"])
    outcome = command.run("train.py", *given, "backbone=identity")
    assert outcome.code == 0, outcome
    assert report(command.folder / "run")["accuracy"] > 0.7


@pytest.mark.parametrize("algo", ["protonet", "relation"])
def test_what_vectors_cannot_be_given_to_is_refused(command: Command, algo: str) -> None:
    npz(command.folder / "it.npz")
    given = ["data=vectors", "data.root=it.npz", f"algo={algo}", *TASKS, *SMALL]
    if algo == "protonet":
        refused(command.run("train.py", *given, "backbone=conv4"), ["backbone=conv4 is for images", "backbone=mlp"])
    else:
        refused(command.run("train.py", *given), ["compare feature maps", "algo=protonet"])


def test_a_file_that_cannot_be_used_is_refused_before_torch_by_line_and_column(command: Command) -> None:
    Path(command.folder / "it.csv").write_text("a,class\n1,x\nb,y\n")
    outcome = command.run("train.py", "data=vectors", "data.root=it.csv", *SMALL)
    refused(outcome, ["it.csv", "line 3, column 'a'", "'b'"])
