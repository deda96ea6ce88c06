"""What cannot be used with worlds is refused in one message: in training, in tests of checkpoints, and in prediction."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import metashot
from metashot.checkpoints.stored import OURS

pytest.importorskip("gymnasium")

from tests.applied.environments import trained

from .conftest import Command
from .processes import Scripts, contents
from .test_bad_input import refused

PREDICT = "src/metashot/predict.py"

# What is given to `train.py` -> what the message has to say.
TRAINING: dict[tuple[str, ...], list[str]] = {
    ("algo=protonet", "data=navigation"): ["protonet cannot learn data=navigation", "data=glyphs", "algo=maml_rl"],
    ("algo=maml", "data=bandits"): ["maml cannot learn data=bandits", "reinforcement-learning", "algo=maml_rl"],
    ("algo=rl2", "data=glyphs"): ["rl2 cannot learn data=glyphs", "data=navigation", "algo=maml"],
    ("algo=maml_rl", "data=omniglot"): ["maml_rl cannot learn data=omniglot", "classification", "algo=maml"],
    ("algo=oracle", "data=sinusoid"): ["oracle cannot learn data=sinusoid", "regression", "data=navigation"],
    ("algo=cnp", "data=navigation"): ["cnp cannot learn data=navigation", "data=sinusoid", "algo=maml_rl"],
    ("data=navigatoin",): ["data=navigatoin", "did you mean navigation?"],
    ("algo=maml_rl", "backbone=conv4"): ["conv4 does not read the observations", "data=navigation", "mlp_policy"],
    ("algo=maml_rl", "backbone=textcnn"): ["textcnn does not read the observations", "mlp_policy or identity"],
    ("algo=rl2", "data=bandits", "backbone=clip"): ["clip does not read the observations", "data=bandits"],
    ("algo=maml_rl", "backbone.normalisation=support"): ["depend on other observations", "backbone.normalisation=none"],
    ("algo=maml_rl", "freeze_backbone=true"): ["freeze_backbone=true", "algo=maml_rl", "leave it out"],
    ("algo=maml_rl", "trainer.precision=bf16-mixed"): ["bf16-mixed", "32-true or 64-true"],
    ("algo=rl2", "data=bandits", "trainer.precision=16-mixed"): ["16-mixed", "32-true or 64-true"],
    ("algo=maml_rl", "trainer.gradient_clip=1"): ["trainer.gradient_clip=1", "algo.outer=trpo", "max_divergence"],
    ("algo=rl2", "data=bandits", "engine=learn2learn"): ["algo=rl2 has no inner loop", "engine=learn2learn"],
    ("algo=maml_rl", "data.source.horizon=0"): ["data.source.horizon=0", "at least 1"],
    ("algo=maml_rl", "data.source.side=nan"): ["data.source.side=nan", "above 0"],
    ("algo=maml_rl", "data.source.reward=cubed"): ["data.source.reward=cubed", "distance, squared"],
    ("algo=maml_rl", "data=bandits", "data.source.arms=1"): ["data.source.arms=1", "at least 2"],
    ("algo=maml_rl", "data=mazes", "data.source.states=201"): ["data.source.states=201", "at most 100"],
    ("algo=oracle", "data=mazes", "data.source.states=100"): ["numbers are too many", "at most 2,000"],
    ("algo=maml_rl", "data.shots=[1,2]"): ["data.shots=[1, 2]", "a whole number"],
    ("algo=maml_rl", "data.ways=5"): ["unknown key data.ways", "shots"],
    ("algo=maml_rl", "algo.inner_steps=101"): ["algo.inner_steps=101", "at most 100"],
    ("algo=maml_rl", "algo.outer=reinforce"): ["algo.outer=reinforce", "trpo, ppo"],
    ("algo=maml_rl", "data.queries=100000", "data.source.horizon=10000"): ["data.queries=100000", "GB", "lower one of them"],
    ("algo=maml_rl", "data.shots=100000", "data.tasks_per_step=100000"): [
        "data.shots=100000",
        "tasks_per_step=100000",
        "GB",
    ],
    ("algo=maml_rl", "init_from=drawings"): ["conv4 does not read the observations of data=navigation"],
}


@pytest.mark.parametrize("given", TRAINING, ids=" ".join)
def test_what_policies_cannot_be_trained_with_is_refused(
    given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(metashot.BadInput) as error:
        metashot.Experiment(*given, "logger=none").build()
    for word in TRAINING[given]:
        assert word in str(error.value), f"{word!r} is missing in: {error.value}"
    assert contents(tmp_path) == {}


@pytest.fixture(scope="module")
def navigation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("navigation") / "run", "algo=maml_rl", "backbone.hidden=[8]")


@pytest.fixture
def command(scripts: Scripts, tmp_path: Path) -> Command:
    return Command(scripts, tmp_path / "banks", tmp_path)


def test_clipping_is_allowed_where_an_optimiser_takes_the_steps() -> None:
    metashot.Experiment("algo=maml_rl", "algo.outer=ppo", "trainer.gradient_clip=1", "logger=none").build()


def test_a_run_of_no_steps_only_validates_and_tests(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "algo=maml_rl", "backbone=identity", "trainer.max_steps=0")
    assert metashot.load(run).name == "maml_rl"


def test_a_policy_that_diverges_ends_the_run_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(metashot.GaveUp, match=r"the policy chose a non-finite action in step 1 of world 0.*algo.inner_lr"):
        trained(tmp_path / "run", "algo=maml_rl", "algo.inner_lr=1e25")


def test_weights_of_other_learners_are_refused(navigation: Path) -> None:
    network = ("backbone.normalisation=none", "backbone.hidden=[8]")
    with pytest.raises(metashot.BadInput, match=r"init_from=.* holds .* of the shape"):
        metashot.Experiment("algo=maml", "data=sinusoid", f"init_from={navigation}", *network, "logger=none").build()


# What is given to `evaluate.py` -> what the message has to say.
EVALUATION: dict[tuple[str, ...], list[str]] = {
    ("data=bandits",): ["data=bandits cannot be used", "observations are 1 choice,", "2 numbers from -inf to inf"],
    ("data=sinusoid",): ["maml_rl cannot learn data=sinusoid", "algo=maml"],
    ("data.source.largest_move=0.2",): ["its actions are 2 numbers from -0.2 to 0.2", "from -0.1 to 0.1"],
    ("strangers=2",): ["strangers=2", "data=navigation has no classes"],
    ("grid.ways=[2,3]",): ["grid.ways", "data=navigation", "no classes"],
    ("grid.shots=[[2,3]]",): ["shots=[2, 3]", "a number of trajectories"],
    ("trainer.precision=bf16-mixed",): ["bf16-mixed", "64-true"],
    ("algo=oracle",): ["was not trained to be told the task", "algo=oracle is"],
    ("algo=protonet",): ["protonet cannot learn data=navigation"],
    ("ckpt=[RUN,text]",): ["would not be scored", "navigation for one"],
}


@pytest.mark.parametrize("given", EVALUATION, ids=" ".join)
def test_what_a_policy_cannot_be_scored_with_is_refused(command: Command, navigation: Path, given: tuple[str, ...]) -> None:
    own = [] if given[0].startswith("ckpt=") else [f"ckpt={navigation}"]
    outcome = command.evaluate(*own, *(one.replace("RUN", str(navigation)) for one in given), "episodes=2", "out=scores")
    refused(outcome, EVALUATION[given])
    assert contents(command.folder) == {}


@pytest.mark.parametrize("more", [[], ["export=onnx"]])
def test_a_policy_predicts_no_files(command: Command, navigation: Path, more: list[str]) -> None:
    (command.folder / "pets").mkdir()
    outcome = command.run(PREDICT, f"ckpt={navigation}", "support=pets", "query=pets", *more)
    refused(outcome, ["acts in environments", "metashot.load(...).fit(environment).act(observation)"])


def test_a_policy_is_scored_in_other_worlds_with_the_same_spaces(command: Command, navigation: Path) -> None:
    outcome = command.evaluate(
        f"ckpt={navigation}", "data.source.side=2", "data.source.horizon=5", "episodes=2", "out=scores"
    )
    assert outcome.code == 0, outcome


Damage = Callable[[dict[str, Any]], Any]
BOX, DISCRETE = "observations", {"kind": "discrete", "n": 2, "start": 0}


def spaces(**changes: Any) -> Damage:
    """Changes of the space of observations."""
    return lambda origin: origin["spaces"][BOX].update(changes)


# What a stranger changed in the description of the worlds -> what the message has to say.
BROKEN: dict[str, tuple[Damage, str]] = {
    "no spaces": (lambda origin: origin.pop("spaces"), "its origin.spaces is missing"),
    "spaces are a list": (lambda origin: origin.update(spaces=[1, 2]), "its origin.spaces is missing or broken"),
    "no actions": (lambda origin: origin["spaces"].pop("actions"), "its origin.spaces is missing or broken"),
    "another space": (lambda origin: origin["spaces"].update(more=DISCRETE), "its origin.spaces is missing or broken"),
    "a space is text": (lambda origin: origin["spaces"].update(actions="box"), "its origin.spaces.actions is missing"),
    "no kind": (lambda origin: origin["spaces"]["actions"].pop("kind"), "its origin.spaces.actions.kind=null"),
    "another kind": (spaces(kind="sphere"), "its origin.spaces.observations.kind=sphere"),
    "choices of a box": (spaces(kind="discrete"), "its origin.spaces.observations.n=null"),
    "no choices": (spaces(kind="discrete", n=0, start=0), "observations.n=0"),
    "a billion choices": (spaces(kind="discrete", n=10**9, start=0), "observations.n=1000000000"),
    "choices from afar": (spaces(kind="discrete", n=2, start=10**30), "observations.start=10000"),
    "choices of half": (spaces(kind="discrete", n=2, start=0.5), "observations.start=0.5"),
    "a bound that is nan": (spaces(low=[0.0, float("nan")]), "observations.low=.*nan"),
    "a bound that is inf": (spaces(high=[float("inf"), None]), "observations.high=.*inf"),
    "a bound that is text": (spaces(high=["a", None]), "observations.high="),
    "too few bounds": (spaces(low=[None]), "observations.low does not belong to its shape"),
    "bounds crossed": (spaces(low=[1.0, None], high=[0.0, None]), "observations.low is above its high"),
    "a huge shape": (spaces(shape=[65_536, 65_536]), "observations.low does not belong to its shape"),
    "many axes": (spaces(shape=[1] * 40 + [2]), "observations.shape=.*not that of any space"),
    "another size": (spaces(shape=[3], low=[None] * 3, high=[None] * 3), "do not belong to its origin.input_shape"),
    "an input in two dimensions": (
        lambda origin: origin.update(input_shape=[1, 2]),
        "input_shape=.* is not that of vec",
    ),
    "other outputs": (lambda origin: origin.update(outputs=3), "do not belong to its origin.actions and origin.outputs"),
    "other actions": (lambda origin: origin.update(actions="discrete"), "do not belong to its origin.actions"),
    "actions unknown": (lambda origin: origin.update(actions="wild"), "its origin.actions=wild"),
    "no horizon": (lambda origin: origin.update(horizon=0), "its origin.horizon=0"),
    "a horizon without end": (lambda origin: origin.update(horizon=10**12), "its origin.horizon=1000000000000"),
    "told is a number": (lambda origin: origin.update(told=1), "its origin.told=1"),
    "many outputs": (lambda origin: origin.update(outputs=10**9), "its origin.outputs=1000000000"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_description_of_worlds_is_refused_by_name(
    navigation: Path, tmp_path: Path, damage: Damage, message: str
) -> None:
    whole = torch.load(navigation / "checkpoints" / "best.ckpt", weights_only=True)
    damage(whole[OURS]["origin"])
    torch.save(whole, tmp_path / "broken.ckpt")
    with pytest.raises(metashot.BadInput, match=message):
        metashot.load(tmp_path / "broken.ckpt")


def test_a_policy_cannot_be_passed_off_as_a_fitted_learner(navigation: Path, tmp_path: Path) -> None:
    with pytest.raises(metashot.BadInput, match=r"is a checkpoint: read it with metashot\.load"):
        metashot.load_fitted(navigation / "checkpoints" / "best.ckpt")
