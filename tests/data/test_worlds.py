"""Worlds of families as the data of an experiment: from the configuration to trajectories, failures included."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

import metashot  # noqa: E402
from metashot import configuration  # noqa: E402
from metashot.bad_input import BadInput, GaveUp  # noqa: E402
from metashot.checkpoints.recipes import TRAINING  # noqa: E402
from metashot.checkpoints.stored import LAST, newest_intact, refuse_broken_origin, refuse_unsafe  # noqa: E402
from metashot.configuration.composing import composed  # noqa: E402
from metashot.data.worlds import WorldEpisodes  # noqa: E402
from metashot.sources.worlds.environments import Environments  # noqa: E402
from tests.sources.worlds import broken  # noqa: E402

SIMULATED = ["halfcheetah_direction", "halfcheetah_velocity"] if broken.HAS_SIMULATOR else []
TINY = (
    "algo=maml_rl",
    "data=environment",
    "data.source.horizon=3",
    "data.shots=2",
    "data.queries=2",
    "data.tasks_per_step=2",
    "data.tasks_per_evaluation_step=2",
    "data.val.episodes=2",
    "data.test.episodes=2",
    "backbone.hidden=[4]",
    "algo.test_inner_steps=1",
    "trainer.validate_every=3",
    "trainer.checkpoint_every=1",
    "logger=none",
    "pictures=none",
)


def config_of(*overrides: str) -> dict[str, Any]:
    config = composed(TRAINING, ["algo=maml_rl", "folder=x", *overrides])
    configuration.check(config)
    return config


def data_of(*overrides: str) -> WorldEpisodes:
    built = configuration.build(config_of(*overrides)["data"], seed=3)
    assert isinstance(built, WorldEpisodes)
    return built


@pytest.mark.parametrize("name", ["navigation", "bandits", "mazes", "cartpole", "environment", *SIMULATED])
def test_every_family_is_data_with_an_origin_that_may_be_stored(name: str) -> None:
    data = data_of(f"data={name}")
    data.setup()
    refuse_broken_origin(data.origin())
    ((worlds,), (again,)) = (data.batch("val", np.array(numbers), torch.device("cpu")) for numbers in ([4, 2], [2]))
    np.testing.assert_array_equal(worlds.descriptions()[1:], again.descriptions())
    assert worlds.descriptions().shape == (2, data.source.described_by)
    data.tell_tasks(True)
    refuse_broken_origin(data.origin())
    assert data.input_shape == (data.source.spaces.observations.size + data.source.described_by,)


def test_parameters_of_an_environment_are_keys_that_users_name() -> None:
    data = data_of("data=environment", "data.source.parameters.g=[5.0,15.0]", "data.source.parameters.m=[1,2]")
    assert isinstance(data.source, Environments)
    assert data.source.parameters == ("g", "m")
    assert data.source.limits.tolist() == [[5.0, 15.0], [1.0, 2.0]]
    together = data_of("data=environment", "data.source.parameters={g:[5,15]}").source
    assert isinstance(together, Environments)
    assert together.parameters == ("g",)
    without = data_of("data=cartpole", "data.source.parameters.gravity=null", "data.source.parameters.length=[1,1]")
    assert isinstance(without.source, Environments)
    assert without.source.parameters == ("length", "masscart", "masspole")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("data=navigation", "data.source.horizon=0"), "data.source.horizon=0 cannot be used"),
        (("data=cartpole", "data.source.horizon=0"), "data.source.horizon=0 cannot be used"),
        (("data=navigation", "data.source.parameters.g=[1,2]"), "unknown key data.source.parameters"),
        (
            ("data=environment", "data.source.parameters.g=3"),
            "data.source.parameters={'g': 3} cannot be used",
        ),
        (("data=environment", "data.source.environment=os:X-v0"), "text that names an environment of gymnasium"),
        (("data=environment", "data.source.environment=3"), "text that names an environment of gymnasium"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_refused_before_anything_is_built(
    overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(BadInput) as raised:
        config_of(*overrides)
    assert said in str(raised.value)


def test_a_stored_configuration_cannot_name_a_module() -> None:
    config = config_of("data=environment")
    refuse_unsafe(config, "it")
    config["data"]["source"]["environment"] = "os:Pendulum-v1"
    with pytest.raises(BadInput, match="environment=os:Pendulum-v1 cannot be used"):
        refuse_unsafe(config, "it")


@pytest.fixture
def breaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[broken.Breaking]]:
    """An environment that fails when it is told to, and an empty folder to work in."""
    broken.register()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(broken.Breaking, "taken", 0)
    yield broken.Breaking
    broken.unregister()


def test_a_run_whose_environment_fails_keeps_its_last_whole_checkpoint(
    breaking: type[broken.Breaking], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (*TINY, "data.source.environment=Breaking-v0", "data.source.parameters.g=[5.0,15.0]", "trainer.max_steps=6")
    monkeypatch.setattr(breaking, "most", 130)  # a step takes 2 * 2 * 3 * 2 = 24, a validation 36
    experiment = metashot.Experiment(*given, "folder=run")
    with experiment, pytest.raises(GaveUp) as raised:
        experiment.fit()
    place = r"of world \d+ failed in step \d of trajectory \d"
    assert re.fullmatch(rf"the environment Breaking-v0 {place} \(ZeroDivisionError: the arm is broken\)", str(raised.value))
    kept = newest_intact(Path("run/checkpoints"))
    assert kept is not None
    assert kept.name == LAST
    assert torch.load(kept, weights_only=True)["global_step"] >= 3
    monkeypatch.setattr(breaking, "most", None)
    with metashot.Experiment(*given, "resume=run") as resumed:
        report = resumed.fit().test()
    with metashot.Experiment(*given, "folder=whole") as whole:
        assert whole.fit().test().score == report.score


def test_an_environment_that_fails_in_its_first_step_ends_the_run_without_a_checkpoint(
    breaking: type[broken.Breaking], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (*TINY, "data.source.environment=Breaking-v0", "trainer.max_steps=6")
    monkeypatch.setattr(breaking, "most", 0)
    with (
        metashot.Experiment(*given, "folder=run") as experiment,
        pytest.raises(GaveUp, match="of world 0 failed in step 1 of trajectory 1"),
    ):
        experiment.fit()
    assert newest_intact(Path("run/checkpoints")) is None
