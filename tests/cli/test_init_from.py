"""Transfer: `init_from=` begins with what another learner has learned, and `algo=finetune` adapts it without training."""

from pathlib import Path

import pytest
import torch

from .conftest import Command, Trained
from .processes import checkpoint, contents, report
from .test_bad_input import refused

UNTRAINED = ("data.val.episodes=4", "data.test.episodes=8", "trainer.max_steps=0")


def weights(run: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = checkpoint(run, name)["state_dict"]
    return found


def test_a_network_that_was_trained_with_supervision_or_by_metrics_is_fine_tuned_without_training(
    command: Command, first: Trained
) -> None:
    few = "algo.test_inner_steps=10"
    outcome = command.train("algo=finetune", f"init_from={first.run}", "folder=tuned", few, *UNTRAINED)
    assert outcome.code == 0, outcome
    assert "init_from: the backbone of " in outcome.out
    assert "engine: " in outcome.out
    tuned, trained = weights(command.folder / "tuned"), weights(first.run, "best.ckpt")
    of_backbone = {name: value for name, value in trained.items() if name.startswith("backbone.")}
    assert of_backbone
    for name, value in of_backbone.items():
        assert torch.equal(tuned[f"network.{name}"], value), name
    assert not tuned["network.head.weight"].any()
    assert report(command.folder / "tuned")["step"] == 0
    again = command.evaluate("ckpt=tuned", "episodes=8", "algo.test_inner_steps=1", "algo.adapts=[head.*]")
    assert again.code == 0, again
    whole = command.run("train.py", "resume=tuned")
    assert whole.code == 0, whole
    assert whole.table["accuracy"] == outcome.table["accuracy"]


def test_fine_tuning_learns_from_the_support_set(command: Command, first: Trained) -> None:
    """More steps on a trained network than none at all, which is chance with a head of zeros."""
    arguments = ("algo=finetune", f"init_from={first.run}", *UNTRAINED, "data.test.episodes=40")
    scores = {}
    for steps in (0, 20):
        outcome = command.train(*arguments, f"folder=steps{steps}", f"algo.test_inner_steps={steps}")
        assert outcome.code == 0, outcome
        scores[steps] = report(command.folder / f"steps{steps}")["accuracy"]
    assert scores[0] == pytest.approx(0.2)
    assert scores[20] > 0.4


def test_meta_learning_starts_from_transfer_and_resumes_without_the_checkpoint_it_came_from(
    command: Command, maml: Trained
) -> None:
    start = command.folder / "start.ckpt"
    start.write_bytes((maml.run / "checkpoints" / "best.ckpt").read_bytes())
    small = ("data.test.episodes=4", "data.val.episodes=4", "trainer.validate_every=4", "algo.optimizer.lr=1e-12")
    outcome = command.train("algo=fomaml", "init_from=start.ckpt", "folder=next", "trainer.max_steps=4", *small)
    assert outcome.code == 0, outcome
    assert "init_from: the backbone and the head of " in outcome.out
    begun = weights(maml.run, "best.ckpt")
    for name, value in weights(command.folder / "next").items():
        if not name.startswith("calibration."):  # which each validation chooses
            torch.testing.assert_close(value, begun[name], rtol=0, atol=1e-9)
    start.unlink()
    longer = command.run("train.py", "resume=next", "trainer.max_steps=8")
    assert longer.code == 0, longer
    assert checkpoint(command.folder / "next")["global_step"] == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backbone.channels=16"], ["another backbone", "it has backbone.channels=8", "give backbone.channels=8"]),
        (["backbone.downsampling=pool"], ["another backbone", "give backbone.downsampling=stride"]),
        (["backbone.normalisation=none"], ["backbone.normalisation=running"]),
        (["algo.head=kept"], ["no head", "algo.head=new"]),
        (["init_from=nowhere"], ["init_from=nowhere", "no such file or folder"]),
        (["init_from=[1,2]"], ["init_from=[1, 2]", "text"]),
        (["init_from=null"], ["missing key init_from", "algo=finetune"]),
        (["trainer.max_steps=5"], ["trainer.max_steps=5", "algo=finetune", "leave it at 0"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_start_that_cannot_be_used_is_refused(
    command: Command, first: Trained, arguments: list[str], said: list[str]
) -> None:
    before = contents(first.run)
    given = {"algo=finetune": 0, f"init_from={first.run}": 0, "backbone=conv4": 0} | dict.fromkeys(UNTRAINED, 0)
    keys = {argument.partition("=")[0] for argument in arguments}
    kept = [argument for argument in given if argument.partition("=")[0] not in keys]
    refused(command.train(*kept, *arguments), said)
    assert contents(command.folder) == {}
    assert contents(first.run) == before


def test_other_networks_and_averages_that_were_never_learned_cannot_be_begun_with(command: Command, maml: Trained) -> None:
    arguments = ("algo=finetune", f"init_from={maml.run}", "backbone=conv4", "backbone.normalisation=running")
    said = ["running_mean", "trained with backbone.normalisation=transductive", "give backbone.normalisation=transductive"]
    refused(command.train(*arguments, *UNTRAINED), said)
    arguments = ("algo=finetune", f"init_from={maml.run}", "backbone=mlp", f"data.banks={command.banks}")
    refused(command.run("train.py", *arguments), ["another backbone, conv4", "mlp", "choose backbone=conv4"])
    assert contents(command.folder) == {}


def test_settings_that_change_no_weight_may_differ_from_those_of_the_start(command: Command) -> None:
    """DropBlock and whose statistics normalise are choices of a run, not of the network that it begins with."""
    quick = (
        "data.test.episodes=4",
        "data.val.episodes=4",
        "trainer.max_steps=1",
        "trainer.validate_every=1",
        "pictures=none",
    )
    network = ("backbone=resnet12", "backbone.widths=[4,4,4,4]")
    small = (*network, "data.queries=2", "curve=0", f"data.banks={command.banks}", *quick)
    start = command.run("train.py", "algo=baseline", "data.train.batch=8", *small, "folder=start")
    assert start.code == 0, start
    others = ("backbone.drop_block=0.2", "backbone.drop_block_size=2", "backbone.normalisation=support")
    outcome = command.run("train.py", "algo=protonet", "init_from=start", *small, *others, "folder=next")
    assert outcome.code == 0, outcome
    assert "init_from: the backbone of " in outcome.out
    refused(
        command.run("train.py", "algo=protonet", "init_from=start", *small, "backbone.pooling=none"), ["backbone.pooling"]
    )
