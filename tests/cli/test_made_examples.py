"""Learners that make examples, as a user meets them: reports with and without made examples, pictures, refusals."""

import csv

import pytest
import torch

from .conftest import Command, Trained
from .processes import checkpoint, contents, different, report
from .test_bad_input import refused
from .test_devices import ended, started

SMALL = ("data.test.episodes=8", "data.val.episodes=4", "data.tasks_per_step=2", "data.train.ways=5", "algo.made=6")
OF_FEATURES = (*SMALL, "algo.hidden=16", "freeze_backbone=true")
DRAWN = ("algo=vae_images", "backbone=identity", *SMALL, "algo.channels=4", "algo.code=4", "trainer.max_steps=4")


def train(command: Command, *arguments: str) -> tuple[str, ...]:
    """Arguments for pixels as features, which have no settings of a backbone."""
    given = [argument for argument in command.small(*arguments) if not argument.startswith("backbone.")]
    return ("train.py", *given)


@pytest.mark.parametrize("algo", ["vae", "gan"])
def test_reports_tell_the_score_without_made_examples_on_the_same_episodes(
    command: Command, first: Trained, algo: str
) -> None:
    start = (f"init_from={first.run}", f"algo={algo}", *OF_FEATURES, "trainer.max_steps=4")
    outcome = command.train(*start, "folder=made")
    assert outcome.code == 0, outcome
    found = report(command.folder / "made")
    made = found["made"]
    assert made["gain"]["mean"] == pytest.approx(found["accuracy"] - made["without"]["mean"])
    for name in ("without", "alone", "two_sample", "copies"):
        assert 0 <= made[name]["mean"] <= 1
    assert "paired" in outcome.out
    again = command.evaluate("ckpt=made", "episodes=8", "out=again")
    assert again.code == 0, again
    assert report(command.folder / "again")["made"] == made
    without = command.train(*start, "algo.made=0", "folder=baseline")
    assert without.code == 0, without
    assert report(command.folder / "baseline")["accuracy"] == pytest.approx(made["without"]["mean"])
    assert "made" not in report(command.folder / "baseline")


def test_losses_of_both_players_are_logged(command: Command, first: Trained) -> None:
    start = (f"init_from={first.run}", "algo=gan", *OF_FEATURES, "trainer.max_steps=2", "trainer.log_every=1", "logger=csv")
    outcome = command.train(*start, "folder=made")
    assert outcome.code == 0, outcome
    with (command.folder / "made" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("critic_loss", "generator_loss", "gradient_penalty", "wasserstein_distance", "diversity"):
        assert sum(bool(row[f"train/{name}"]) for row in rows) == 2, name


def test_a_backbone_that_trains_is_refused(command: Command, first: Trained) -> None:
    before = contents(command.folder)
    refused(
        command.train("algo=vae", f"init_from={first.run}"), ["freeze_backbone=false", "algo=vae", "freeze_backbone=true"]
    )
    depends = ("freeze_backbone=true", "backbone.normalisation=support")
    refused(command.train("algo=gan", f"init_from={first.run}", *depends), ["backbone.normalisation"])
    assert contents(command.folder) == before


def test_features_are_refused_where_pixels_are_drawn(command: Command) -> None:
    words = ["backbone=conv4", "algo=vae_images", "backbone=identity"]
    refused(command.run("train.py", "algo=vae_images", "backbone=conv4", "logger=none"), words)


def test_drawings_are_made_and_drawn_beside_real_ones(command: Command) -> None:
    outcome = command.run(*train(command, *DRAWN, "pictures=all", "folder=made"))
    assert outcome.code == 0, outcome
    for name in ("made.png", "made_features.png"):
        assert (command.folder / "made" / name).is_file()
    assert report(command.folder / "made")["made"]["without"]["mean"] > 0.2


@pytest.mark.long
def test_drawings_on_two_devices_are_those_of_one(command: Command) -> None:
    calmer = ("algo.optimizer.name=sgd", "algo.optimizer.lr=0.01")  # Adam divides by gradients that may vanish
    given = (*train(command, *DRAWN)[1:], *calmer, "data.test.episodes=7", "pictures=none")
    two = ended(started(command, *given, "trainer.devices=2", "trainer.strategy=ddp", "folder=two"))
    assert [outcome.code for outcome in two] == [0, 0], two
    one = command.run("train.py", *given, "folder=one")
    assert one.code == 0, one
    found, expected = (checkpoint(command.folder / folder)["state_dict"] for folder in ("two", "one"))
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)
    made, alone = (report(command.folder / folder) for folder in ("two", "one"))
    assert made["accuracy"] == pytest.approx(alone["accuracy"], abs=1e-4)
    assert made["made"]["gain"]["mean"] == pytest.approx(alone["made"]["gain"]["mean"], abs=1e-4)


@pytest.mark.long
def test_made_drawings_resume_exactly(command: Command) -> None:
    given = [*train(command, *DRAWN)[1:], "algo.optimizer.schedule=constant", "trainer.validate_every=4", "pictures=none"]
    for folder, steps in (("whole", 8), ("parts", 4)):
        outcome = command.run("train.py", *given, f"trainer.max_steps={steps}", f"folder={folder}")
        assert outcome.code == 0, outcome
    resumed = command.run("train.py", "resume=parts", "trainer.max_steps=8")
    assert resumed.code == 0, resumed
    weights = [checkpoint(command.folder / folder)["state_dict"] for folder in ("whole", "parts")]
    assert different(*weights) == []
