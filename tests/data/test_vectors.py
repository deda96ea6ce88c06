"""Vectors from a file through every algorithm: a kind of item that is a source and a presentation and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.bad_input import BadInput
from metashot.configuration.buildable import CONF
from metashot.data.class_episodes import ClassEpisodes
from metashot.evaluation.embedding import EmbedOnce
from metashot.evaluation.protocol import Scoring
from metashot.training.progress import ProgressBar
from metashot.training.trainer import TrainerOptions
from tests.configuration.test_configuration import composed
from tests.sources.vectors.tables import EACH, FEATURES, clouds, npz

ALGORITHMS = sorted(path.stem for path in (CONF / "algo").glob("*.yaml"))
ACTING = [path.stem for path in (CONF / "algo").glob("*.yaml") if "algorithms.reinforcement" in path.read_text()]
SMALL = {
    "snail": ["algo.keys=[4,8]", "algo.values=[4,8]", "algo.filters=4", "algo.embedding=8", "algo.reach=8"],
    "mann": ["algo.units=16", "algo.places=8", "algo.width=8"],
    "baseline": ["data.train.batch=16"],
    "baselinepp": ["data.train.batch=16"],
    "logistic": ["data.train.batch=16"],
    "ptmap": ["data.train.batch=16"],
    "laplacianshot": ["data.train.batch=16"],
    "tim": ["data.train.batch=16", "algo.steps=5"],
    "mamlpp": ["algo.averages_per_step=false"],
}
EPISODES = ["data.ways=3", "data.shots=2", "data.queries=3", "data.val.episodes=4", "data.test.episodes=4"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning writes checkpoints of its own where there is no callback that does."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return npz(tmp_path_factory.mktemp("vectors") / "it.npz")


def settings(root: Path, algo: str, *more: str) -> configuration.Container:
    training = [] if "data.train.batch=16" in SMALL.get(algo, []) else ["data.train.ways=3", "data.train.queries=3"]
    data = ["data=vectors", f"data.root={root}", f"data.banks={root.parent / 'banks'}", "data.source.shares=[1,1,1]"]
    return composed("train", f"algo={algo}", *data, *EPISODES, *training, *SMALL.get(algo, []), *more)


def built(config: configuration.Container) -> tuple[Algorithm, ClassEpisodes]:
    configuration.check(config)
    torch.manual_seed(0)
    data: ClassEpisodes = configuration.build(config["data"], seed=0)
    data.setup()
    backbone = configuration.build(config["backbone"], input_shape=data.input_shape)
    return configuration.build_algorithm(config, backbone=backbone, problem=data.problem), data


def scored(config: configuration.Container, algorithm: Algorithm, data: ClassEpisodes, steps: int) -> list[float]:
    """The scores of the test episodes after some steps of training."""
    more: dict[str, Any] = {"max_steps": steps, "validate_every": max(steps, 1)}
    options: TrainerOptions = configuration.build(config["trainer"] | more)
    scoring = Scoring()
    trainer = options.trainer([EmbedOnce(ProgressBar(scoring, Console(quiet=True)).part), scoring], [])
    if steps:
        trainer.fit(algorithm, data)
    trainer.test(algorithm, data, verbose=False)
    assert scoring.results is not None
    assert scoring.results.first_non_finite() is None
    return scoring.results.scores


@pytest.mark.parametrize("backbone", ["mlp", "identity"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithm_learns_from_vectors_or_says_why_not(root: Path, algo: str, backbone: str) -> None:
    config = settings(root, algo, f"backbone={backbone}")
    if algo in ("cnp", "anp", *ACTING):
        with pytest.raises(BadInput, match=rf"algo={algo} cannot learn data=vectors, a classification problem"):
            built(config)
        return
    if algo == "relation":
        with pytest.raises(BadInput, match=r"relation networks compare feature maps.*\[6\].*algo=protonet"):
            built(config)
        return
    if algo == "prompted":
        with pytest.raises(BadInput, match=rf"the backbone {backbone} has no text tower: use backbone=clip"):
            built(config)
        return
    if algo == "vae_images":
        with pytest.raises(BadInput, match=r"algo=vae_images draws pixels.*algo=vae"):
            built(config)
        return
    if (algo, backbone) == ("boil", "identity"):
        with pytest.raises(BadInput, match=r"algo\.adapts=backbone\.\* matches no parameter"):
            built(config)
        return
    if (algo, backbone) == ("setfit", "identity"):
        with pytest.raises(BadInput, match=r"algo=setfit fine-tunes .* this backbone has none that may change"):
            built(config)
        return
    algorithm, data = built(config)
    assert data.input_shape == (FEATURES,)
    learns = any(parameter.requires_grad for parameter in algorithm.parameters()) and algorithm.trains
    assert len(scored(config, algorithm, data, 2 if learns else 0)) == 4


def test_features_of_their_own_are_told_apart_without_any_training(root: Path) -> None:
    config = settings(root, "protonet", "backbone=identity", "data.test.episodes=100")
    algorithm, data = built(config)
    assert not any(parameter.requires_grad for parameter in algorithm.parameters())
    assert not algorithm.transductive
    assert np.mean(scored(config, algorithm, data, 0)) > 0.9  # clouds that are far apart, of which chance is a third


@pytest.mark.parametrize("algo", ["protonet", "maml", "snail"])
def test_data_of_vectors_bring_a_backbone_that_fits_them(root: Path, algo: str) -> None:
    assert settings(root, algo)["backbone"]["_target_"] == "metashot.backbones.mlp.MLP"
    own = settings(root, algo, "backbone=mlp_sinusoid")["backbone"]
    assert own["hidden"] == [40, 40]


@pytest.mark.parametrize("backbone", ["conv4", "resnet12"])
def test_networks_for_images_are_refused_with_those_that_fit(root: Path, backbone: str) -> None:
    config = settings(root, "protonet", f"backbone={backbone}")
    with pytest.raises(BadInput, match=rf"backbone={backbone} is for images.*\[6\].*backbone=mlp.*backbone=identity"):
        built(config)


def test_episodes_hold_the_rows_of_their_classes_and_have_no_picture(root: Path) -> None:
    _, data = built(settings(root, "protonet"))
    (episode,) = data.batch("test", np.arange(5), torch.device("cpu"))
    assert episode.support.x.dtype == torch.float32
    x, y = clouds()
    for examples in (episode.support, episode.query):
        places = episode.classes.gather(1, examples.y)
        for rows, classes in zip(examples.x, places, strict=True):
            for row, place in zip(rows, classes, strict=True):
                name = int(data.class_names("test")[int(place)])
                assert any(np.array_equal(row.numpy(), own) for own in x[y == name])
    assert data.for_display(episode) is None


def test_standardised_vectors_are_standardised_by_the_training_split(root: Path) -> None:
    _, data = built(settings(root, "protonet", "data.presentation.standardise=true"))
    places = np.arange(len(data.banks["train"].items))
    inputs = data.inputs_at("train", places, torch.device("cpu"))
    torch.testing.assert_close(inputs.mean(0), torch.zeros(FEATURES), atol=1e-5, rtol=0)
    assert data.inputs_at("test", places[: 2 * EACH], torch.device("cpu")).mean(0).abs().max() > 0.01
    assert data.origin()["mean"] != [0.0] * FEATURES


def test_learners_of_images_and_of_vectors_are_not_scored_on_each_others_data(root: Path) -> None:
    _, data = built(settings(root, "protonet"))
    origin = data.origin()
    with pytest.raises(BadInput, match=r"data=vectors has features.*trained on glyphs, which has pixels"):
        data.look_like({"name": "glyphs", "input_shape": [1, 28, 28], "mean": None, "std": None})
    images = configuration.build(composed("train", "data=glyphs")["data"], seed=0)
    with pytest.raises(BadInput, match=r"data=glyphs has images.*trained on vectors, which has features"):
        images.look_like(origin)


def test_a_presentation_of_other_items_is_refused(root: Path) -> None:
    config = settings(root, "protonet")
    config["data"]["presentation"] = composed("train", "data=glyphs")["data"]["presentation"]
    with pytest.raises(BadInput, match=r"data\.presentation is for images, and the items of data=vectors are features"):
        built(config)


def test_a_class_with_too_few_rows_is_named_with_the_keys(root: Path) -> None:
    with pytest.raises(BadInput, match=r"smallest class of the train split .* has 8 examples: lower data\.shots"):
        built(settings(root, "protonet", "data.train.queries=9"))
