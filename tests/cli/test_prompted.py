"""algo=prompted and backbone=clip as a user meets them: scored, evaluated, applied and saved, on a tiny network."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metashot
from metashot.bad_input import BadInput, BadValue

from .colours import drawn, tiny_clip, written
from .conftest import Command, Trained
from .processes import Scripts, checkpoint, report
from .test_bad_input import refused
from .test_predict import PREDICT

pytest.importorskip("open_clip")

BACKBONE = ("backbone=clip", "backbone.name=test-clip", "backbone.weights=clip.safetensors")
SMALL = (
    *("data=folder", "data.root=things", "data.source.image_size=32", "data.ways=2", "data.queries=3"),
    *("data.val.episodes=4", "data.test.episodes=12", "logger=csv", "pictures=none"),
)


@pytest.fixture(scope="module")
def anywhere(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A folder with images and with the weights of a tiny network."""
    folder = tmp_path_factory.mktemp("prompted")
    tiny_clip(folder / "clip.safetensors")
    written(folder / "things")
    return Command(scripts, folder / "banks", folder)


@pytest.fixture
def command(anywhere: Command, tmp_path: Path) -> Command:
    for name in ("clip.safetensors", "things"):
        (tmp_path / name).symlink_to(anywhere.folder / name)
    return anywhere.at(tmp_path)


def train(command: Command, *arguments: str) -> Any:
    return command.run("train.py", *SMALL, f"data.banks={command.banks}", *arguments)


@pytest.fixture(scope="module")
def run(anywhere: Command) -> Trained:
    outcome = train(
        anywhere, "algo=prompted", *BACKBONE[1:], f"backbone.weights={anywhere.folder}/clip.safetensors", "folder=run"
    )
    assert outcome.code == 0, outcome
    return Trained(outcome, anywhere.folder, anywhere.folder / "run")


@pytest.fixture(scope="module")
def of_names(anywhere: Command) -> Path:
    """A run without examples, whose answers come from the names alone."""
    weights = f"backbone.weights={anywhere.folder}/clip.safetensors"
    outcome = train(anywhere, "algo=prompted", "algo.alpha=0", *BACKBONE[1:], weights, "folder=of_names")
    assert outcome.code == 0, outcome
    return anywhere.folder / "of_names"


def test_it_is_scored_without_training_and_evaluated_from_stored_features(command: Command, run: Trained) -> None:
    assert run.outcome.err == ""
    first = report(run.run)
    assert (first["step"], first["algo"], first["transductive"]) == (0, "prompted", False)
    assert first["external_data"].endswith("clip.safetensors, for test-clip")
    state = checkpoint(run.run)["state_dict"]
    assert [name for name in state if name.startswith("backbone.")] == ["backbone.public_digest"]
    assert {"alpha.chosen", "beta.chosen"} <= set(state)
    assert len(list(command.banks.glob("features-*"))) == 2  # of validation and test
    outcome = command.evaluate(f"ckpt={run.run}", "episodes=12", "out=again", f"data.banks={command.banks}")
    assert outcome.code == 0, outcome
    again = report(command.folder / "again")
    assert (again["accuracy"], again["loss"], again["external_data"]) == (
        first["accuracy"],
        first["loss"],
        first["external_data"],
    )


def test_folders_are_predicted_by_their_names_and_the_fitted_learner_is_kept(command: Command, run: Trained) -> None:
    written(command.folder / "support", ("red_car", "dog", "cup"))
    written(command.folder / "query", ("it",))
    given = (f"ckpt={run.run}", "support=support", "query=query")
    outcome = command.run(PREDICT, *given, "out=it.csv", "save=it.fewshot", "unknown=0.1")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    with (command.folder / "it.csv").open(newline="", encoding="utf-8") as file:
        assert [name for name in next(csv.reader(file)) if name.startswith("p(")] == ["p(cup)", "p(dog)", "p(red_car)"]
    again = command.run(PREDICT, "ckpt=it.fewshot", "query=query", "out=again.csv", "unknown=0.1")
    assert (again.code, again.err) == (0, ""), again
    assert (command.folder / "again.csv").read_bytes() == (command.folder / "it.csv").read_bytes()
    assert (command.folder / "it.fewshot").stat().st_size < 500_000 < (run.folder / "clip.safetensors").stat().st_size


def test_a_learner_reads_the_words_of_its_labels(run: Trained, of_names: Path, tmp_path: Path) -> None:
    shown, asked, labels = drawn(1), drawn(2, 9), ["red car", "dog", "cup"] * 2
    learner: Any = metashot.load(run.run, device="cpu").fit(shown, labels)
    expected = learner.predict_proba(asked)
    other: Any = metashot.load(run.run, device="cpu").fit(shown, ["a rose", "dog", "cup"] * 2)
    assert not np.allclose(other.predict_proba(asked), expected)
    same = metashot.load(run.run, device="cpu").fit(shown, np.array(["red_car", "dog", "cup"] * 2))
    np.testing.assert_array_equal(same.predict_proba(asked)[:, [0, 1, 2]], expected)
    learner.save(tmp_path / "it.fewshot")
    again = metashot.load_fitted(tmp_path / "it.fewshot", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(asked), expected)
    with pytest.raises(BadInput, match="reads the names of classes: score it on labelled queries"):
        learner.estimate()
    with pytest.raises(BadInput, match="reads the names of classes: label any images"):
        learner.next_to_label(asked, n=1)
    zero_shot: Any = metashot.load(of_names, device="cpu").fit(shown, labels)
    from_names = zero_shot.predict_proba(asked)
    np.testing.assert_allclose(zero_shot.fit(drawn(3), labels).predict_proba(asked), from_names, rtol=1e-6)
    turned = {"red car": "dog", "dog": "cup", "cup": "red car"}
    np.testing.assert_allclose(zero_shot.fit(shown, [turned[name] for name in labels]).predict_proba(asked), from_names)


@pytest.mark.parametrize(("labels", "shown"), [([0, 1], "0"), (["3", "4"], "3"), ([True, "dog"], "True")])
def test_labels_without_words_are_refused(run: Trained, labels: list[Any], shown: str) -> None:
    learner = metashot.load(run.run, device="cpu")
    with pytest.raises(BadValue, match=f"the class {shown} has no words to read, which algo=prompted needs"):
        learner.fit(drawn(1), labels * 3)
    assert not learner.is_fitted


def test_the_graph_gives_equal_answers(command: Command, run: Trained) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    written(command.folder / "support", ("red_car", "dog"))
    given = (f"ckpt={run.run}", "support=support", "query=support", "out=it.csv", "export=onnx")
    outcome = command.run(PREDICT, *given)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    session = onnxruntime.InferenceSession(command.folder / "it.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [3, 32, 32]


@pytest.mark.parametrize("algo", ["protonet", "r2d2"])
def test_other_learners_compare_its_features(command: Command, algo: str) -> None:
    outcome = train(command, f"algo={algo}", *BACKBONE, "trainer.max_steps=2", "data.train.ways=null", "folder=run")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert report(command.folder / "run")["external_data"] == "clip.safetensors, for test-clip"


REFUSED: dict[str, list[str]] = {
    "algo=prompted backbone=conv4": ["the backbone conv4 has no text tower", "backbone=clip"],
    "algo=maml backbone=clip backbone.name=test-clip": ["the inner loop changes backbone.", "published weights are frozen"],
    "algo=prompted backbone.name=ViT-B-23": ["backbone.name=ViT-B-23", "did you mean"],
    "algo=prompted backbone.name=hf-hub:a/b": ["backbone.name", "the name of a network of open_clip"],
    "algo=prompted backbone.name=test-clip": ["backbone.name=test-clip does not name its weights"],
    "algo=prompted backbone.name=test-clip backbone.weights=no.pt": ["backbone.weights=no.pt", "there is no such file"],
    "algo=prompted backbone.image_size=32": ["unknown key backbone.image_size"],
    "algo=prompted algo.prompts=[]": ["algo.prompts=[]"],
    "algo=prompted algo.prompts=[photo]": ["algo.prompts", "with one {}"],
    "algo=prompted algo.alpha=-1": ["algo.alpha=-1", "at least 0"],
    "algo=prompted algo.beta=0": ["algo.beta=0", "above 0"],
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_cannot_be_done_is_refused(command: Command, overrides: str) -> None:
    given = overrides.split()
    own = [] if "backbone" in overrides.replace("backbone=clip", "") else BACKBONE
    weights = [] if "weights" in overrides or "algo=maml" not in overrides else list(BACKBONE[2:])
    refused(train(command, *own, *weights, *given, "folder=run"), REFUSED[overrides])
    assert not (command.folder / "run").exists()


def test_classes_without_words_are_refused_before_anything_is_scored(command: Command, run: Trained) -> None:
    (command.folder / "things").unlink()
    written(command.folder / "things", tuple(map(str, range(12))))
    words = ["the class", "has no words to read", "algo=prompted"]
    own = ("data.banks=banks", "folder=run")
    refused(train(command, "algo=prompted", *BACKBONE, *own), words)
    assert not (command.folder / "run").exists()
    given = (
        "data=folder",
        f"data.root={command.folder}/things",
        "data.ways=2",
        "data.queries=3",
        "data.banks=banks",
        "out=again",
    )
    refused(command.evaluate(f"ckpt={run.run}", "episodes=4", *given), words)
    refused(command.run(PREDICT, f"ckpt={run.run}", "support=things", "query=things"), words)


def test_other_weights_than_those_of_the_run_are_refused(run: Trained, command: Command, tmp_path: Path) -> None:
    import torch

    shutil.copytree(run.run, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    stored = torch.load(path, weights_only=True)
    stored["state_dict"]["backbone.public_digest"][0] ^= 1
    torch.save(stored, path)
    with pytest.raises(BadInput, match=r"published weights \w{64}, and this one has \w{64}"):
        metashot.load(tmp_path / "run", device="cpu")
