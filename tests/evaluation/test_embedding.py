"""Embedding once: evaluation finds what it finds episode by episode, and embeds no image twice."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.backbones.normalisation import normalisations
from metashot.data.class_episodes import ClassEpisodes
from metashot.evaluation import embedding
from metashot.evaluation.embedding import EmbedOnce
from metashot.evaluation.protocol import Scoring
from metashot.training.progress import ProgressBar
from metashot.training.trainer import TrainerOptions
from tests.configuration.test_configuration import composed
from tests.data.test_module import data_module

LEARNERS = (
    "protonet",
    "matching",
    "relation",
    "siamese",
    "r2d2",
    "svm",
    "snail",
    "mann",
    "baseline",
    "logistic",
    "ptmap",
    "laplacianshot",
    "feat",
    "leo",
    "cnaps",
    "baselinepp",
    "metabaseline",
    "vae",
    "gan",
)
EPISODES = 13


class Counted(torch.nn.Module):
    """Counts the images that pass a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def watch(self, algorithm: Algorithm) -> "Counted":
        backbone: Any = algorithm.backbone
        backbone.register_forward_pre_hook(self.count)
        return self

    def count(self, module: torch.nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self.images += arguments[0].shape[0] * arguments[0].shape[1]


def prepared(root: Path, algo: str, *overrides: str) -> tuple[Algorithm, ClassEpisodes, TrainerOptions]:
    small = ("backbone.channels=8", "backbone.downsampling=stride", "backbone.normalisation=running")
    config = composed("train", f"algo={algo}", *small, *overrides)
    torch.manual_seed(0)
    data = data_module(root, episodes=EPISODES, mean=[0.05, 0.05], std=[0.02, 0.02])
    data.trainer = None
    data.setup()
    backbone = configuration.build(config["backbone"], input_shape=(2, 16, 16))
    algorithm: Algorithm = configuration.build_algorithm(config, backbone=backbone, problem=data.problem)
    for layer in normalisations(algorithm):  # as training might have left them
        torch.nn.init.uniform_(layer.bias, 0, 1)
        if layer.protocol == "running":
            layer.running_var.uniform_(0.2, 0.5)
    data.presentation.input_shape = (2, 16, 16)
    options: TrainerOptions = configuration.build(config["trainer"])
    return algorithm, data, options


def answered(root: Path, algo: str, *overrides: str, once: bool) -> tuple[list[float], list[float], int]:
    """Scores and losses of the test episodes, and how many images passed the backbone."""
    algorithm, data, options = prepared(root, algo, *overrides)
    counted = Counted().watch(algorithm)
    scoring = Scoring()
    callbacks: list[pl.Callback] = [scoring]
    if once:
        callbacks.insert(0, EmbedOnce(ProgressBar(scoring, Console(quiet=True)).part))
    options.trainer(callbacks, []).test(algorithm, data, verbose=False)
    assert data.features == {}
    assert scoring.results is not None
    return scoring.results.scores, scoring.results.losses, counted.images


@pytest.mark.parametrize("algo", LEARNERS)
def test_embedding_once_gives_what_episode_by_episode_gives(small_root: Path, algo: str) -> None:
    scores, losses, images = answered(small_root, algo, once=False)
    scores_once, losses_once, images_once = answered(small_root, algo, once=True)
    assert scores_once == pytest.approx(scores, abs=1e-9)
    assert losses_once == pytest.approx(losses, rel=1e-4)
    assert len(set(losses)) == EPISODES
    data = prepared(small_root, algo)[1]
    assert images == EPISODES * 4 * (2 + 3)
    assert images_once == len(data.places_of("test", data.evaluation_numbers("test"))) < images


@pytest.mark.parametrize("protocol", ["transductive", "support"])
def test_features_that_depend_on_the_episode_are_not_embedded_once(small_root: Path, protocol: str) -> None:
    plain = answered(small_root, "protonet", f"backbone.normalisation={protocol}", once=False)
    assert answered(small_root, "protonet", f"backbone.normalisation={protocol}", once=True) == plain


def test_gradient_based_learners_are_left_alone(small_root: Path) -> None:
    algorithm, data, options = prepared(small_root, "anil", "backbone.normalisation=running")
    scoring = Scoring()
    embed_once = EmbedOnce(ProgressBar(scoring, Console(quiet=True)).part)
    options.trainer([embed_once, scoring], []).test(algorithm, data, verbose=False)
    assert scoring.results is not None


def test_features_too_large_for_memory_are_left_to_their_episodes(small_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_MOST_BYTES", 100)
    assert answered(small_root, "protonet", once=True) == answered(small_root, "protonet", once=False)


def test_half_precision_embeds_in_half_precision(small_root: Path) -> None:
    plain = answered(small_root, "protonet", "trainer.precision=bf16-mixed", once=False)[1]
    once = answered(small_root, "protonet", "trainer.precision=bf16-mixed", once=True)[1]
    exact = answered(small_root, "protonet", once=True)[1]
    assert once == pytest.approx(plain, rel=0.02)
    assert once != pytest.approx(exact, rel=1e-4)


def test_double_precision_embeds_in_double_precision(small_root: Path) -> None:
    plain = answered(small_root, "protonet", "trainer.precision=64-true", once=False)[1]
    assert answered(small_root, "protonet", "trainer.precision=64-true", once=True)[1] == pytest.approx(plain, rel=1e-9)


def test_progress_counts_episodes_and_images(small_root: Path) -> None:
    algorithm, data, options = prepared(small_root, "protonet")
    scoring, log = Scoring(), io.StringIO()
    progress = ProgressBar(scoring, Console(file=log), heartbeat=0)
    options.trainer([EmbedOnce(progress.part), scoring, progress], []).test(algorithm, data, verbose=False)
    images = len(data.places_of("test", data.evaluation_numbers("test")))
    size = data.tasks_per_evaluation_step
    lines = [f"testing {min(done, EPISODES)}/{EPISODES} episodes" for done in range(size, EPISODES + size, size)]
    printed = [line.partition("  ") for line in log.getvalue().splitlines()]
    assert [what for what, _, _ in printed] == [f"embedding {images}/{images} images", *lines]
    assert printed[1][2] == ""  # what the first batch waits for tells nothing of the others
    assert [left for _, _, left in (printed[0], *printed[2:]) if not re.fullmatch(r"\d+ s left", left)] == []
    assert printed[-1][2] == "0 s left"
