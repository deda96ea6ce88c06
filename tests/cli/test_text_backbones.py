"""Backbones of texts as a user meets them: untrained, trained and resumed, with images refused and texts refused."""

from pathlib import Path

import pytest
import torch

from tests.sources.texts.small_texts import table

from .conftest import Command, Trained
from .processes import Scripts, report
from .test_bad_input import refused

SMALL = (
    *("data=texts", "data.root=it.csv", "data.source.shares=[1,1,1]", "data.ways=3", "data.shots=2", "data.queries=3"),
    *("data.train.ways=null", "data.train.queries=null", "data.val.episodes=4", "data.test.episodes=20"),
    *("trainer.max_steps=6", "trainer.validate_every=3", "logger=none", "pictures=none", "data.banks=banks"),
    "algo.optimizer.schedule=constant",  # whatever the number of steps
)
CONSTANT = "algo.optimizer.schedule=constant"  # other schedules depend on the number of steps
CNN = ("backbone.dimensions=8", "backbone.channels=4", "backbone.length=24")


@pytest.fixture
def texts(scripts: Scripts, tmp_path: Path) -> Command:
    """The scripts in a working directory with a file of texts."""
    table(tmp_path / "it.csv")
    return Command(scripts, tmp_path / "banks", tmp_path)


@pytest.fixture(scope="module")
def run(scripts: Scripts, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("texts")
    table(folder / "it.csv")
    command = Command(scripts, folder / "banks", folder)
    outcome = command.run("train.py", *SMALL, *CNN, "algo=protonet", "backbone.dropout=0.3", CONSTANT, "folder=run")
    assert outcome.code == 0, outcome
    return Trained(outcome, folder, folder / "run")


def test_ngrams_need_no_training(texts: Command) -> None:
    given = ("algo=protonet", "backbone=ngrams", "algo.normalise=l2", "trainer.max_steps=0", "folder=run")
    outcome = texts.run("train.py", *SMALL, *given)
    assert outcome.code == 0, outcome
    assert report(texts.folder / "run")["accuracy"] > 0.7  # of which chance is a third


def test_buckets_alone_have_nothing_to_train(texts: Command) -> None:
    given = ("algo=protonet", "backbone=ngrams", "backbone.features=null", "folder=run")
    refused(texts.run("train.py", *SMALL, *given), ["nothing to train"])
    outcome = texts.run("train.py", *SMALL, *given, "trainer.max_steps=0")
    assert outcome.code == 0, outcome


def test_a_learner_of_byte_pairs_is_scored_without_the_texts_that_it_was_trained_on(texts: Command) -> None:
    own = (
        "backbone=transformer",
        "backbone.dimensions=8",
        "backbone.hidden=8",
        "backbone.buckets=300",
        "backbone.length=12",
    )
    outcome = texts.run("train.py", *SMALL, *own, "algo=anil", "algo.inner_steps=1", "folder=run")
    assert outcome.code == 0, outcome
    assert "are longer than 12 tokens, and are cut" in outcome.out
    resumed = texts.run("train.py", "resume=run", "trainer.max_steps=7")
    assert resumed.code == 0, resumed
    table(texts.folder / "it.csv", classes=18)
    other = ("data.root=it.csv", "allow_seen_classes=true", "episodes=8", "pictures=none", "data.banks=others")
    outcome = texts.run("evaluate.py", "ckpt=run", *other, "out=again")
    assert outcome.code == 0, outcome
    assert not list((texts.folder / "others").glob("vocabulary-*"))  # it came with the checkpoint


def test_a_resumed_run_draws_the_dropout_of_one_that_was_never_stopped(texts: Command, run: Trained) -> None:
    given = (*SMALL, *CNN, "algo=protonet", "backbone.dropout=0.3", CONSTANT, "trainer.checkpoint_every=3", "folder=run")
    stopped = texts.run("train.py", *given, "trainer.max_steps=3")
    assert stopped.code == 0, stopped
    resumed = texts.run("train.py", "resume=run", "trainer.max_steps=6")
    assert resumed.code == 0, resumed
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (texts.folder / "run", run.run)
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=0, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("backbone", ["textcnn", "ngrams", "transformer"])
def test_images_are_not_given_to_networks_that_read_texts(texts: Command, command: Command, backbone: str) -> None:
    outcome = texts.run("train.py", "data=glyphs", "algo=protonet", f"backbone={backbone}", f"data.banks={command.banks}")
    refused(outcome, [f"backbone={backbone} reads texts", "data=glyphs has images", "conv4"])


@pytest.mark.parametrize("backbone", ["conv4", "mlp", "identity"])
def test_texts_are_not_given_to_networks_that_read_none(texts: Command, backbone: str) -> None:
    outcome = texts.run("train.py", *SMALL, "algo=protonet", f"backbone={backbone}")
    refused(outcome, [f"backbone={backbone} reads no texts", "data=texts has texts", "textcnn"])


def test_a_learner_of_texts_is_not_scored_on_images(texts: Command, run: Trained, command: Command) -> None:
    outcome = texts.run("evaluate.py", f"ckpt={run.run}", "data=glyphs", f"data.banks={command.banks}")
    refused(outcome, ["data=glyphs has images", "trained on texts"])


def test_a_learner_of_images_is_not_scored_on_texts(texts: Command, first: Trained) -> None:
    outcome = texts.run("evaluate.py", f"ckpt={first.run}", "data=texts", "data.root=it.csv", "data.banks=banks")
    refused(outcome, ["data=texts has texts", "trained on glyphs"])


def test_a_vocabulary_of_byte_pairs_has_room_for_all_bytes(texts: Command) -> None:
    own = ("algo=protonet", "backbone=textcnn", "backbone.tokens=bytepairs", "backbone.buckets=256")
    refused(texts.run("train.py", *SMALL, *own), ["backbone.buckets=256 is too small a vocabulary of byte pairs", "257"])
