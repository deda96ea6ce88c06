"""A frozen backbone embeds every item once, in training too: the same results, kept for the next run."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.data.class_episodes import ClassEpisodes
from metashot.evaluation.embedding import EmbedOnce
from metashot.evaluation.protocol import Scoring
from metashot.training.progress import ProgressBar
from metashot.training.trainer import TrainerOptions
from tests.configuration.test_configuration import composed
from tests.data.test_module import TrainingOptions, data_module, unchanged
from tests.evaluation.test_embedding import Counted

IMAGES = 16
LEARNERS = (
    *("matching", "relation", "siamese", "snail", "mann", "metabaseline", "baselinepp", "svm", "feat"),
    *("leo", "cnaps", "vae", "gan"),
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning writes checkpoints of its own where there is no callback that does."""
    monkeypatch.chdir(tmp_path)


def run(
    root: Path, algo: str, once: bool, *overrides: str, **changed: Any
) -> tuple[dict[str, torch.Tensor], list[float], int]:
    """Weights after two steps with a frozen backbone, the scores of the test, and how many images passed the backbone."""
    small = ["backbone.channels=4", "backbone.normalisation=running", "backbone.halvings=0", "algo.optimizer.lr=0.1"]
    calmer = ["algo.hidden=8", "algo.optimizer.lr=0.001"]  # variances are exponentials of what is learned
    own = {
        "snail": ["algo.keys=[4,8]", "algo.values=[4,8]", "algo.filters=4", "algo.embedding=8"],
        "vae": calmer,
        "gan": calmer,
        "leo": ["algo.optimizer.lr=0.001"],  # noise grows exponentially with what larger steps change
    }.get(algo, [])
    config = composed("train", f"algo={algo}", *small, *own, *overrides)
    torch.manual_seed(0)
    shuffled = {"train": TrainingOptions(batch=8, ways=None, shots=None, queries=None)} if algo == "baselinepp" else {}
    data: ClassEpisodes = data_module(root, **shuffled, **changed)
    data.trainer = None
    data.presentation.expect((2, 3, 4))
    data.presentation.input_shape = (2, 6, 6)
    data.setup()
    backbone = configuration.build(config["backbone"], input_shape=data.input_shape)
    algorithm: Algorithm = configuration.build_algorithm(config, backbone=backbone, problem=data.problem)
    algorithm.freeze_backbone()
    counted = Counted().watch(algorithm)
    options: TrainerOptions = configuration.build(config["trainer"] | {"max_steps": 2, "validate_every": 1})
    scoring = Scoring()
    callbacks: list[Any] = [scoring]
    if once:
        callbacks.insert(0, EmbedOnce(ProgressBar(scoring, Console(quiet=True)).part))
    trainer = options.trainer(callbacks, [])
    trainer.fit(algorithm, data)
    trainer.test(algorithm, data, verbose=False)
    assert data.features == {}
    assert scoring.results is not None
    weights = {name: value for name, value in algorithm.state_dict().items() if not name.startswith("backbone.")}
    return weights, scoring.results.losses, counted.images


@pytest.fixture
def root(small_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_root, tmp_path / "banks")
    return tmp_path / "banks"


def kept(root: Path) -> list[Path]:
    return sorted(root.glob("features-*"))


@pytest.mark.parametrize("algo", LEARNERS)
def test_training_on_features_gives_what_training_on_images_gives(root: Path, algo: str) -> None:
    plain, losses, passed = run(root, algo, once=False)
    assert not kept(root)
    once, losses_once, passed_once = run(root, algo, once=True)
    assert len(kept(root)) == 3
    torch.testing.assert_close(once, plain, rtol=1e-3, atol=1e-4)
    assert losses_once == pytest.approx(losses, rel=1e-3, abs=1e-5)
    again, losses_again, passed_again = run(root, algo, once=True)
    assert passed_again == 0  # the features of the first run are used
    assert losses_again == losses_once
    torch.testing.assert_close(again, once, rtol=0, atol=0)
    assert passed > 0 < passed_once


def test_other_weights_other_constants_and_other_settings_have_features_of_their_own(root: Path) -> None:
    run(root, "matching", once=True)
    for count, more in enumerate(({"mean": [0.5, 0.5], "std": [1.0, 1.0]},), 2):
        run(root, "matching", True, **more)
        assert len(kept(root)) == 3 * count
    run(root, "matching", True, "backbone.channels=5")
    assert len(kept(root)) == 9


def test_images_that_training_changes_are_not_embedded_once(root: Path) -> None:
    _, _, passed = run(root, "matching", True, augmentation=unchanged(flip=0.5))
    assert len(kept(root)) == 2  # of validation and test
    assert passed > 0


def test_features_that_are_damaged_are_computed_again(root: Path) -> None:
    _, losses, _ = run(root, "matching", True)
    for folder, damage in zip(kept(root), ("flip", "cut", "no manifest"), strict=True):
        file = folder / "features.npy"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        if damage == "no manifest":
            (folder / "manifest.json").unlink()
        else:
            file.write_bytes(content if damage == "flip" else content[:-8])
    _, again, passed = run(root, "matching", True)
    assert again == losses
    assert passed > 0
    assert run(root, "matching", True)[2] == 0


def test_features_that_cannot_be_kept_are_done_without(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(root, "matching", False)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metashot.evaluation.embedding.kept_features", full)
    weights, losses, _ = run(root, "matching", True)
    torch.testing.assert_close(weights, plain[0], rtol=1e-3, atol=1e-4)
    assert losses == pytest.approx(plain[1], rel=1e-3)
