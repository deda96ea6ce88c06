"""Texts from a file through every algorithm: a kind of item that is a source, a presentation and backbones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from metashot import configuration
from metashot.algorithms.base import Algorithm
from metashot.bad_input import BadInput
from metashot.configuration import signatures
from metashot.configuration.buildable import CONF, target_of
from metashot.data.class_episodes import ClassEpisodes
from metashot.evaluation.embedding import EmbedOnce
from metashot.evaluation.protocol import Scoring
from metashot.training.progress import ProgressBar
from metashot.training.trainer import TrainerOptions
from tests.configuration.test_configuration import composed
from tests.sources.texts.small_texts import table

ALGORITHMS = sorted(path.stem for path in (CONF / "algo").glob("*.yaml"))
ACTING = [path.stem for path in (CONF / "algo").glob("*.yaml") if "algorithms.reinforcement" in path.read_text()]
SMALL = {
    "snail": ["algo.keys=[4,8]", "algo.values=[4,8]", "algo.filters=4", "algo.embedding=8", "algo.reach=8"],
    "mann": ["algo.units=16", "algo.places=8", "algo.width=8"],
    "tim": ["algo.steps=5"],
    "mamlpp": ["algo.averages_per_step=false"],
}
SHUFFLED = ("baseline", "baselinepp", "logistic", "ptmap", "laplacianshot", "tim")
EPISODES = ["data.ways=3", "data.shots=2", "data.queries=3", "data.val.episodes=4", "data.test.episodes=4"]
NETWORKS = {
    "textcnn": ["backbone.dimensions=8", "backbone.channels=4", "backbone.buckets=64", "backbone.length=20"],
    "textcnn_maps": ["backbone.dimensions=8", "backbone.channels=4", "backbone.buckets=64", "backbone.length=20"],
    "ngrams": ["backbone.features=8", "backbone.buckets=64"],
    "transformer": ["backbone.dimensions=8", "backbone.heads=2", "backbone.hidden=8", "backbone.tokens=words"],
    "transformer_maps": ["backbone.dimensions=8", "backbone.heads=2", "backbone.hidden=8", "backbone.tokens=words"],
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning writes checkpoints of its own where there is no callback that does."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("texts") / "it.csv")


def settings(root: Path, algo: str, backbone: str, *more: str) -> configuration.Container:
    training = ["data.train.batch=8"] if algo in SHUFFLED else ["data.train.ways=3", "data.train.queries=3"]
    data = ["data=texts", f"data.root={root}", f"data.banks={root.parent / 'banks'}", "data.source.shares=[1,1,1]"]
    own = [f"backbone={backbone}", *NETWORKS[backbone], *SMALL.get(algo, [])]
    return composed("train", f"algo={algo}", *data, *EPISODES, *training, *own, *more)


def built(config: configuration.Container) -> tuple[Algorithm, ClassEpisodes]:
    configuration.check(config)
    torch.manual_seed(0)
    data: ClassEpisodes = configuration.build(config["data"], seed=0)
    data.setup()
    backbone = configuration.build_backbone(config["backbone"], data.items, data.name, data.input_shape)
    data.present_for(backbone.wants)
    return configuration.build_algorithm(config, backbone=backbone, problem=data.problem), data


def scored(config: configuration.Container, algorithm: Algorithm, data: ClassEpisodes, steps: int) -> list[float]:
    """The scores of the test episodes after some steps of training."""
    more: dict[str, Any] = {"max_steps": steps, "validate_every": max(steps, 1)}
    options: TrainerOptions = configuration.build(config["trainer"] | more)
    if algorithm.needs_features:
        algorithm.freeze_backbone()  # type: ignore[operator]
    scoring = Scoring()
    trainer = options.trainer([EmbedOnce(ProgressBar(scoring, Console(quiet=True)).part), scoring], [])
    if steps:
        trainer.fit(algorithm, data)
    trainer.test(algorithm, data, verbose=False)
    assert scoring.results is not None
    assert scoring.results.first_non_finite() is None
    return scoring.results.scores


def engines_of(algo: str) -> list[str]:
    target = target_of(
        composed("train", f"algo={algo}", *(["data=curves"] if algo in ("cnp", "anp") else []))["algo"], "algo"
    )
    return ["learn2learn", "batched"] if "engine" in signatures.parameters_of(target) else ["auto"]


REFUSED = {
    "cnp": r"algo=cnp cannot learn data=texts, a classification problem",
    "anp": r"algo=anp cannot learn data=texts, a classification problem",
    "prompted": r"no text tower: use backbone=clip",
    "vae_images": r"algo=vae_images draws pixels",
    **{algo: rf"algo={algo} cannot learn data=texts, a classification problem" for algo in ACTING},
}
MAPS, OTHERS = ("textcnn_maps", "transformer_maps"), ("textcnn", "ngrams", "transformer")
FEW = {("learn2learn", "ngrams"), ("learn2learn", "transformer"), ("batched", "textcnn")}  # whose other engine is run always
COMBINATIONS = [
    pytest.param(algo, engine, backbone, marks=[pytest.mark.long] if (engine, backbone) in FEW and algo != "maml" else [])
    for algo in ALGORITHMS
    for engine in (["auto"] if algo in ACTING else engines_of(algo))
    for backbone in (MAPS if algo == "relation" else OTHERS[:1] if algo in ACTING else OTHERS)
]


@pytest.mark.parametrize(("algo", "engine", "backbone"), COMBINATIONS)
def test_every_algorithm_learns_from_texts_or_says_why_not(root: Path, algo: str, engine: str, backbone: str) -> None:
    config = settings(root, algo, backbone, f"engine={engine}")
    needs_features = signatures.constant(target_of(config["algo"], "algo"), "needs_features")
    config |= {"freeze_backbone": needs_features, "init_from": "a trained learner"}
    if algo in REFUSED:
        with pytest.raises(BadInput, match=REFUSED[algo]):
            built(config)
        return
    algorithm, data = built(config)
    assert data.input_shape[0] == 2
    learns = any(parameter.requires_grad for parameter in algorithm.parameters()) and algorithm.trains
    before = {name: value.clone() for name, value in algorithm.named_parameters()}
    assert len(scored(config, algorithm, data, 2 if learns else 0)) == 4
    changed = [name for name, value in algorithm.named_parameters() if not torch.equal(value, before[name])]
    assert bool(changed) is learns


@pytest.mark.parametrize("backbone", ["textcnn", "ngrams", "transformer"])
def test_relation_networks_say_which_backbones_of_texts_have_maps(root: Path, backbone: str) -> None:
    with pytest.raises(BadInput, match=r"feature maps of at least 4x4.*without height and width.*backbone=textcnn_maps"):
        built(settings(root, "relation", backbone))
    assert composed("train", "algo=relation", "data=texts")["backbone"]["parts"] == 16


def test_ngrams_tell_texts_apart_without_any_training(root: Path) -> None:
    config = settings(
        root,
        "protonet",
        "ngrams",
        "backbone.features=256",
        "backbone.buckets=1024",
        "algo.normalise=l2",
        "data.test.episodes=100",
    )
    algorithm, data = built(config)
    assert np.mean(scored(config, algorithm, data, 0)) > 0.75  # of which chance is a third


@pytest.mark.parametrize(("algo", "backbone"), [("protonet", "textcnn"), ("maml", "textcnn"), ("relation", "textcnn_maps")])
def test_data_of_texts_bring_a_backbone_that_reads_them(algo: str, backbone: str) -> None:
    own = composed("train", f"algo={algo}", "data=texts")["backbone"]
    assert own["_target_"] == composed("train", f"backbone={backbone}")["backbone"]["_target_"]


def test_dropout_goes_on_where_it_stopped(root: Path) -> None:
    """As any learner that draws in training, by torch's own generator."""
    config = settings(root, "protonet", "textcnn", "backbone.dropout=0.5")
    found = []
    for _ in range(2):
        algorithm, data = built(config)
        assert algorithm.backbone.draws  # type: ignore[union-attr]
        torch.manual_seed(5)
        scored(config, algorithm, data, 3)
        found.append(torch.cat([value.flatten() for value in algorithm.state_dict().values()]))
    torch.testing.assert_close(*found, rtol=0, atol=0)
