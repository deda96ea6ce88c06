"""Algorithms that compare features, remember, or transfer: each trains from one command, resumes exactly, and is scored."""

import pytest
import torch

from .conftest import Command, Trained
from .killed_runs import killed, same_run
from .processes import checkpoint, contents, report
from .test_bad_input import refused

FEW_EPISODES = ("data.test.episodes=8", "data.val.episodes=4")
QUICK = (*FEW_EPISODES, "data.tasks_per_step=2")
# What is given for each, beside small settings.
TOGETHER = ("ptmap", "laplacianshot", "tim")  # whose queries are answered together
ALGORITHMS: dict[str, list[str]] = {
    "protonet": ["algo=protonet", "algo.distance=cosine", "algo.learned_temperature=true", "algo.temperature=0.1"],
    "matching": ["algo=matching"],
    "full context": ["algo=matching", "algo.full_context=true"],
    "relation": ["algo=relation"],
    "siamese": ["algo=siamese"],
    "triplets": ["algo=siamese", "algo.loss=triplet"],
    "r2d2": ["algo=r2d2"],
    "svm": ["algo=svm"],
    "simpleshot": ["algo=protonet", "algo.normalise=centre_l2"],
    "snail": ["algo=snail"],
    "mann": ["algo=mann"],
    "baseline": ["algo=baseline", "data.train.batch=16"],
    "baselinepp": ["algo=baselinepp", "data.train.batch=16", "data.presentation.augmentation.quarter_turns=image"],
    "logistic": ["algo=logistic", "data.train.batch=16"],
    "ptmap": ["algo=ptmap", "data.train.batch=16", "algo.epochs=3"],
    "laplacianshot": ["algo=laplacianshot", "data.train.batch=16"],
    "tim": ["algo=tim", "data.train.batch=16", "algo.steps=5"],
    "feat": ["algo=feat"],
    "leo": ["algo=leo", "freeze_backbone=true"],
    "cnaps": ["algo=cnaps", "freeze_backbone=true"],
    "cnaps in blocks": ["algo=cnaps", "freeze_backbone=true", "algo.film=blocks"],
    "metabaseline": ["algo=metabaseline"],
    "vae": ["algo=vae", "freeze_backbone=true", "algo.hidden=16", "algo.made=5"],
    "gan": ["algo=gan", "freeze_backbone=true", "algo.hidden=16", "algo.made=5", "trainer.gradient_clip=1.0"],
}


# One of each kind; `make test-long` trains the others, which other tests train without resuming.
ALWAYS = ("matching", "snail", "mann", "logistic", "ptmap", "feat", "leo", "gan")
STARTED = ("metabaseline", "leo", "cnaps", "cnaps in blocks", "vae", "gan")


def given(algo: str, first: Trained) -> list[str]:
    start = [f"init_from={first.run}"] if algo in STARTED else []
    return [*ALGORITHMS[algo], *start, *FEW_EPISODES, "data.tasks_per_step=1"]


@pytest.mark.parametrize(
    "algo", [pytest.param(algo, marks=[] if algo in ALWAYS else pytest.mark.long) for algo in ALGORITHMS]
)
def test_every_algorithm_trains_from_one_command_and_resumes_exactly(command: Command, first: Trained, algo: str) -> None:
    whole = command.train(*given(algo, first), "folder=whole")
    assert whole.code == 0, whole
    assert whole.table["transductive"] == str(algo in TOGETHER).lower()
    run = killed(command, "run", "between two validations", *given(algo, first))
    outcome = command.run("train.py", f"resume={run.relative_to(command.folder)}")
    assert outcome.code == 0, outcome
    same_run(command.folder / "whole", run)
    scored = command.evaluate("ckpt=whole", "episodes=8")
    assert scored.code == 0, scored
    assert scored.table["accuracy"] == whole.table["accuracy"]


@pytest.fixture(scope="module")
def supervised(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    command = anywhere.at(tmp_path_factory.mktemp("supervised"))
    outcome = command.train("algo=baselinepp", *QUICK, "data.train.batch=32", "folder=run")
    assert outcome.code == 0, outcome
    return Trained(outcome, command.folder, command.folder / "run")


def test_supervised_training_says_what_it_goes_through_and_measures_it(supervised: Trained) -> None:
    lines = supervised.outcome.out.splitlines()
    assert any(line.startswith("episodes: train 2 x 32 shuffled images a step, val 5-way 1-shot") for line in lines)
    assert 0.2 < report(supervised.run)["accuracy"] <= 1


def test_supervised_learner_is_scored_on_any_ways_and_on_training_classes(command: Command, supervised: Trained) -> None:
    for override in ("data.ways=12", "split=train", "data.shots=4"):
        outcome = command.evaluate(f"ckpt={supervised.run}", "episodes=6", override, f"out={override[-2:]}")
        assert outcome.code == 0, outcome


def test_meta_learning_goes_on_from_a_supervised_backbone(command: Command, supervised: Trained) -> None:
    start = checkpoint(supervised.run, "best.ckpt")["state_dict"]
    still = ("algo.optimizer.lr=1e-12", "trainer.max_steps=2", "trainer.validate_every=2")
    outcome = command.train("algo=metabaseline", f"init_from={supervised.run}", *QUICK, *still, "folder=next")
    assert outcome.code == 0, outcome
    assert "init_from: the backbone of " in outcome.out
    for name, value in checkpoint(command.folder / "next")["state_dict"].items():
        if name.startswith("backbone.") and "running_" not in name:
            torch.testing.assert_close(value, start[name], rtol=0, atol=1e-9)


def test_frozen_backbone_stays_as_it_was_given_with_its_averages(command: Command, first: Trained) -> None:
    begun = checkpoint(first.run, "best.ckpt")["state_dict"]
    running = ("backbone.normalisation=running", "trainer.max_steps=6")
    arguments = ("algo=snail", f"init_from={first.run}", "freeze_backbone=true", *QUICK, *running)
    outcome = command.train(*arguments, "folder=frozen")
    assert outcome.code == 0, outcome
    trained = checkpoint(command.folder / "frozen")["state_dict"]
    for name, value in begun.items():
        if name.startswith("backbone."):
            assert torch.equal(trained[name], value), name
    again = command.run("train.py", "resume=frozen", "trainer.max_steps=9")
    assert again.code == 0, again
    resumed = checkpoint(command.folder / "frozen")["state_dict"]
    moved = [name for name in trained if not torch.equal(trained[name], resumed[name])]
    assert moved
    assert not [name for name in moved if name.startswith("backbone.")]
    scored = command.evaluate("ckpt=frozen", "episodes=4", "data.banks=kept", "out=scored")
    assert scored.code == 0, scored
    kept = list((command.folder / "kept").glob("features-*"))
    assert len(kept) == 1  # evaluation keeps the features of what was frozen, as training does
    written = (kept[0] / "features.npy").stat().st_mtime_ns
    again = command.evaluate("ckpt=frozen", "episodes=4", "data.banks=kept", "out=again")
    assert again.code == 0, again
    assert (kept[0] / "features.npy").stat().st_mtime_ns == written
    assert report(command.folder / "again")["loss"] == report(command.folder / "scored")["loss"]


# What cannot be done -> what the message has to say.
REFUSED: dict[str, list[str]] = {
    "algo=relation backbone.halvings=4": ["relation network", "maps of 2x2", "at least 4x4", "backbone.halvings=2"],
    "algo=snail data.test.ways=7": ["7 ways", "test split", "snail", "5 classes", "data.test.ways=5"],
    "algo=snail algo.reach=6": ["algo.reach=6", "power of two"],
    "algo=snail data.train.ways=[3,5]": ["data.train.ways", "3-5 ways", "snail"],
    "algo=mann data.test.ways=7": ["7 ways", "test split", "mann", "5 classes", "data.test.ways=5"],
    "algo=mann data.train.ways=[3,5]": ["data.train.ways", "3-5 ways", "mann"],
    "algo=mann algo.places=2": ["algo.places=2", "algo.heads=4", "at least as many"],
    "algo=mann algo.decay=1": ["algo.decay=1", "below 1"],
    "algo=mann algo.controller=gru": ["algo.controller=gru", "lstm, feedforward"],
    "algo=metalstm algo.inner_lr=1.5": ["algo.inner_lr=1.5", "between 0 and 1"],
    "algo=matching algo.temperature=0": ["algo.temperature=0", "above 0"],
    "algo=matching algo.reading_steps=0": ["algo.reading_steps=0", "at least 1"],
    "algo=protonet algo.distance=manhattan": ["algo.distance=manhattan", "euclidean, cosine"],
    "algo=r2d2 algo.regularisation=0": ["algo.regularisation=0", "at least 1e-08"],
    "algo=svm algo.penalty=0": ["algo.penalty=0", "above 0"],
    "algo=logistic algo.regularisation=0": ["algo.regularisation=0", "at least 1e-06"],
    "algo=ptmap algo.rate=2": ["algo.rate=2", "at most 1"],
    "algo=laplacianshot algo.neighbours=0": ["algo.neighbours=0", "at least 1"],
    "algo=tim algo.steps=0": ["algo.steps=0", "at least 1"],
    "algo=feat algo.dropout=1": ["algo.dropout=1", "below 1"],
    "algo=protonet algo.normalise=l1": ["algo.normalise=l1", "none, l2, centre_l2"],
    "algo=relation algo.loss=hinge": ["algo.loss=hinge", "mse, cross_entropy"],
    "algo=siamese algo.loss=pairs": ["algo.loss=pairs", "verification, contrastive, triplet"],
    "algo=siamese algo.neighbours=0": ["algo.neighbours=0", "at least 1"],
    "algo=siamese algo.margin=-1": ["algo.margin=-1", "above 0"],
    "algo=baseline algo.fit.steps=0": ["algo.fit.steps=0", "at least 1"],
    "algo=baseline algo.fit=none": ["algo.fit=none", "keys below it (steps, lr, momentum, weight_decay, dampening)"],
    "algo=baseline algo.fit.rate=1": ["unknown key algo.fit.rate"],
    "algo=baselinepp algo.scale=0": ["algo.scale=0", "above 0"],
    "algo=baseline data.train.batch=null": ["data.train.batch=null", "algo=baseline", "shuffled images"],
    "algo=baseline data.train.batch=0": ["data.train.batch=0", "at least 1"],
    "algo=baseline data.train.batch=100000": ["data.train.batch=100000", "data=glyphs", "images; give at most as many"],
    "algo=baseline data.train.ways=10": ["data.train.ways=10", "no effect", "data.train.batch=64"],
    "algo=protonet data.train.batch=8": ["data.train.batch", "algo=protonet", "episodes"],
    "algo=leo": ["missing key init_from", "algo=leo", "freeze_backbone=true", "backbone=pretrained"],
    "algo=cnaps": ["missing key init_from", "algo=cnaps", "freeze_backbone=true", "backbone=identity"],
    "algo=leo algo.latents=0": ["algo.latents=0", "at least 1"],
    "algo=leo algo.dropout=1": ["algo.dropout=1", "below 1"],
    "algo=cnaps algo.film=all": ["algo.film=all", "features, blocks"],
    "algo=cnaps algo.regularisation=0": ["algo.regularisation=0", "above 0"],
    "algo=hyper algo.inner_steps=-1": ["algo.inner_steps=-1", "at least 0"],
    "algo=metabaseline": ["missing key init_from", "algo=metabaseline"],
    "algo=vae": ["missing key init_from", "algo=vae", "freeze_backbone=true", "backbone=pretrained"],
    "algo=gan": ["missing key init_from", "algo=gan"],
    "algo=vae algo.made=-1": ["algo.made=-1", "at least 0"],
    "algo=vae algo.beta=-1": ["algo.beta=-1", "at least 0"],
    "algo=vae algo.classifier=forest": ["algo.classifier=forest", "mean, logistic, head"],
    "algo=gan algo.critic_steps=0": ["algo.critic_steps=0", "at least 1"],
    "algo=vae_images backbone=conv4": ["backbone=conv4", "algo=vae_images", "backbone=identity"],
    "algo=protonet freeze_backbone=true": ["freeze_backbone=true", "algo=protonet", "nothing to train"],
    "algo=protonet freeze_backbone=maybe": ["freeze_backbone=maybe", "true or false"],
    "algo=maml freeze_backbone=true": ["freeze_backbone=true", "inner loop", "algo.adapts=[head.*]"],
    "algo=protonet backbone.channels=[8,8]": ["backbone.channels=[8, 8]", "a list of 4"],
    "algo=protonet backbone.halvings=5": ["backbone.halvings=5", "at most 4"],
    "algo=siamese engine=batched": ["algo=siamese has no inner loop", "engine=batched"],
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_an_algorithm_cannot_use_is_refused(command: Command, overrides: str) -> None:
    refused(command.train(*overrides.split()), REFUSED[overrides])
    assert contents(command.folder) == {}


def test_a_backbone_that_would_train_is_refused_where_features_have_to_stay(command: Command, first: Trained) -> None:
    for algo in ("leo", "cnaps"):
        outcome = command.train(f"algo={algo}", f"init_from={first.run}", *QUICK)
        refused(outcome, ["freeze_backbone=false trains the backbone", f"algo={algo}", "give freeze_backbone=true"])
    assert contents(command.folder) == {}


def test_backbones_and_data_that_an_algorithm_cannot_use_are_refused(command: Command) -> None:
    banks = f"data.banks={command.banks}"
    said = ["relation network", "64 numbers without height and width", "backbone=conv4_maps"]
    refused(command.run("train.py", "algo=relation", "backbone=mlp", banks), said)
    refused(command.run("train.py", "algo=baseline", "data=sinusoid", "backbone=mlp_sinusoid"), ["baseline", "sinusoid"])
    assert contents(command.folder) == {}


def test_ways_that_a_trained_head_cannot_serve_are_refused(command: Command) -> None:
    outcome = command.train("algo=snail", *QUICK, "trainer.max_steps=2", "folder=run")
    assert outcome.code == 0, outcome
    before = contents(command.folder)
    refused(command.run("evaluate.py", "ckpt=run", "data.ways=20"), ["20 ways", "snail", "5 classes", "algo=protonet"])
    assert contents(command.folder) == before
