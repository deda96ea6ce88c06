"""A checkpoint or a run's folder from a stranger runs nothing, whatever script and key it is given to."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from metashot.checkpoints.reading import read_checkpoint
from metashot.checkpoints.stored import OURS
from tests.strangers import attacked, foreign_function_below_an_unknown_key, own_builder, own_function

from .conftest import Command, Trained
from .processes import contents

ATTACKS = (own_function, own_builder, foreign_function_below_an_unknown_key)


@pytest.fixture(params=ATTACKS, ids=lambda attack: attack.__name__)
def theirs(request: pytest.FixtureRequest, command: Command, first: Trained) -> Path:
    """A run's folder whose checkpoints and configuration would write a file."""
    whole = read_checkpoint(first.run / "checkpoints" / "best.ckpt")
    trace = command.folder / "code-was-run"
    whole[OURS]["config"] = attacked(whole[OURS]["config"], request.param, trace)
    run = command.folder / "theirs"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("best.ckpt", "last.ckpt"):
        torch.save(whole, run / "checkpoints" / name)
    (run / "config.yaml").write_text(yaml.safe_dump(whole[OURS]["config"]))
    of_wandb = run / "wandb" / "run" / "files"
    of_wandb.mkdir(parents=True)
    (of_wandb / "config.yaml").write_text(
        yaml.safe_dump({key: {"value": value} for key, value in whole[OURS]["config"].items()})
    )
    return run


CALLS = {
    "evaluate": ("evaluate.py", ["ckpt=theirs"]),
    "evaluate with groups chosen": (
        "evaluate.py",
        ["ckpt=theirs", "algo=protonet", "backbone=conv4", "data=glyphs", "engine=auto"],
    ),
    "evaluate in a list": ("evaluate.py", ["ckpt=[{own},theirs]"]),
    "predict": ("src/metashot/predict.py", ["ckpt=theirs", "support=.", "query=."]),
    "page": ("src/metashot/page/__main__.py", ["ckpt=theirs"]),
    "page with groups chosen": ("src/metashot/page/__main__.py", ["ckpt=theirs", "algo=protonet", "backbone=conv4"]),
    "resume": ("train.py", ["resume=theirs"]),
    "resume a checkpoint": ("train.py", ["resume=theirs/checkpoints/best.ckpt"]),
    "repeat": ("train.py", ["repeat=theirs"]),
    "repeat a checkpoint": ("train.py", ["repeat=theirs/checkpoints/last.ckpt"]),
    "repeat what W&B kept": ("train.py", ["repeat=theirs/wandb/run/files"]),
    "init_from": ("train.py", ["init_from=theirs"]),
    "init_from with the backbone chosen": ("train.py", ["init_from=theirs", "backbone=conv4"]),
}


@pytest.mark.parametrize(("script", "arguments"), CALLS.values(), ids=CALLS.keys())
def test_nothing_that_a_stranger_made_runs(
    command: Command, first: Trained, theirs: Path, script: str, arguments: list[str]
) -> None:
    before = contents(command.folder)
    outcome = command.run(script, *(argument.replace("{own}", str(first.run)) for argument in arguments))
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.count("error: ") == 1, outcome
    assert "theirs" in outcome.err, outcome
    assert contents(command.folder) == before


def memories(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """What the optimiser remembers of each parameter."""
    return list(whole["optimizer_states"][0]["state"].values())


BROKEN = {
    "random_state": lambda whole: whole[OURS].update(random_state={"torch": 3}),
    "no random_state": lambda whole: whole[OURS].pop("random_state"),
    "optimizer_states": lambda whole: whole.update(optimizer_states=[{}]),
    "no optimizer_states": lambda whole: whole.pop("optimizer_states"),
    "optimizer_states of another network": lambda whole: memories(whole)[0].update(exp_avg=torch.zeros(1, 2, 3)),
    "optimizer_states of text": lambda whole: memories(whole)[0].update(exp_avg="x"),
    "optimizer_states with NaN": lambda whole: memories(whole)[-1]["exp_avg"].fill_(math.nan),
    "optimizer_states with a NaN for a key": lambda whole: whole["optimizer_states"][0].update(state={math.nan: {}}),
    "loops": lambda whole: whole.update(loops=3),
    "callbacks": lambda whole: whole.update(callbacks={"Saving": 1}),
    "next_episode": lambda whole: whole["ClassEpisodes"].update(next_episode=-5),
    "origin": lambda whole: whole[OURS].update(origin="glyphs"),
    "source": lambda whole: whole[OURS]["config"]["data"].update(source=5),
    "no source": lambda whole: whole[OURS]["config"]["data"].pop("source"),
    "state_dict": lambda whole: whole.update(state_dict={"x": torch.zeros(1)}),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_a_run_is_not_resumed_from_a_broken_part(command: Command, first: Trained, damage: object) -> None:
    whole = read_checkpoint(first.run / "checkpoints" / "last.ckpt")
    damage(whole)  # type: ignore[operator]
    torch.save(whole, command.folder / "broken.ckpt")
    before = contents(command.folder)
    outcome = command.run("train.py", "resume=broken.ckpt", "trainer.max_steps=80", "logger=none")
    assert outcome.code == 2, outcome
    assert outcome.err.count("error: ") == 1, outcome
    assert "Traceback" not in outcome.err, outcome
    assert "broken.ckpt" in outcome.err, outcome
    assert contents(command.folder) == before


AVERAGES = {
    "NaN": {"squares": math.nan},
    "infinite": {"squares": math.inf},
    "negative": {"squares": -1.0},
    "of nothing": {"share": 0.0},
    "of more than everything": {"share": 2.0},
}


@pytest.fixture(scope="module")
def reptile(anywhere: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run that carries averages over."""
    command = anywhere.at(tmp_path_factory.mktemp("reptile"))
    outcome = command.train("algo=reptile", "trainer.max_steps=2", "trainer.validate_every=2", "curve=0", "folder=run")
    assert outcome.code == 0, outcome
    return command.folder / "run" / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("damage", AVERAGES.values(), ids=AVERAGES.keys())
def test_averages_that_are_none_are_refused_where_they_are_read(
    command: Command, reptile: Path, damage: dict[str, float]
) -> None:
    whole = read_checkpoint(reptile)
    for name, value in damage.items():
        whole["state_dict"][name].fill_(value)
    torch.save(whole, command.folder / "broken.ckpt")
    before = contents(command.folder)
    for script, given in (("evaluate.py", "ckpt=broken.ckpt"), ("train.py", "resume=broken.ckpt trainer.max_steps=4")):
        outcome = command.run(script, *given.split())
        assert outcome.code == 2, outcome
        assert outcome.err.count("error: ") == 1, outcome
        assert "averages of squared gradients" in outcome.err, outcome
        assert "broken.ckpt" in outcome.err, outcome
    assert contents(command.folder) == before


def test_averages_that_other_settings_do_not_have_are_refused(command: Command, reptile: Path) -> None:
    outcome = command.run("evaluate.py", f"ckpt={reptile}", "algo.carries_squares=false")
    assert outcome.code == 2, outcome
    assert "averages of squared gradients, unlike what algo.carries_squares and algo.inner_optimizer say" in outcome.err, (
        outcome
    )
