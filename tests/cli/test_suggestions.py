"""What an algorithm's file says of data, backbone and trainer applies where they have such keys; a user's own key never
disappears."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Command
from .processes import report
from .test_bad_input import refused

CURVES = ("data=sinusoid", "backbone=mlp", "backbone.hidden=[8]")
QUICK = (
    *("trainer.max_steps=4", "trainer.validate_every=2", "data.val.episodes=2", "data.test.episodes=4"),
    *("logger=none", "pictures=none", "curve=2"),
)
# Of each algorithm's file: what sinusoids have, too, and what they do not.
SUGGESTED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "r2d2": ({"queries": 3, "tasks_per_step": 2}, {"ways"}),
    "maml": ({"queries": 5, "tasks_per_step": 4}, set()),
    "reptile": ({"queries": 5, "shots": 5, "tasks_per_step": 4}, set()),
}


def configuration_of(run: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return config


@pytest.mark.parametrize("algo", SUGGESTED)
def test_an_algorithm_trains_on_curves_with_those_of_its_settings_that_curves_have(command: Command, algo: str) -> None:
    drawn = ["pictures=all"] if algo == "r2d2" else []
    outcome = command.run("train.py", f"algo={algo}", *CURVES, *QUICK, *drawn, "folder=run")
    assert outcome.code == 0, outcome
    assert "mse" in report(command.folder / "run")
    data = configuration_of(command.folder / "run")["data"]
    kept, without = SUGGESTED[algo]
    found = data["train"] | {"tasks_per_step": data["tasks_per_step"]}
    assert {key: found[key] for key in kept} == kept
    assert not without & set(data["train"])
    resumed = command.run("train.py", "resume=run", "trainer.max_steps=6")
    assert resumed.code == 0, resumed
    again = command.run("train.py", "repeat=run", "algo=r2d2", "seed=1", "folder=again", "trainer.max_steps=4")
    assert again.code == 0, again
    assert configuration_of(command.folder / "again")["data"]["train"]["queries"] == 3


@pytest.mark.parametrize("algo", ["r2d2", "maml"])
@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("data.train.ways=20", "data.train.ways"),
        ("+data.train.ways=20", "data.train.ways"),
        ("experiment=glyphs_20way", "data.ways"),
    ],
)
def test_a_users_own_key_that_the_data_do_not_have_is_refused(command: Command, algo: str, given: str, key: str) -> None:
    outcome = command.run("train.py", f"algo={algo}", *CURVES, *QUICK, given, "folder=run")
    refused(outcome, [f"unknown key {key}; allowed under {key.rpartition('.')[0]}: ", "queries", "shots"])
    assert not (command.folder / "run").exists()


def test_a_printed_configuration_and_the_help_show_what_a_run_would_have(command: Command) -> None:
    given = ("algo=r2d2", *CURVES)
    printed = command.run("train.py", *given, "--cfg", "job")
    assert printed.code == 0, printed
    train = yaml.safe_load(printed.out)["data"]["train"]
    assert train == {"_target_": train["_target_"], "shots": None, "queries": 3}
    told = command.run("train.py", *given, "--help")
    assert "data.train.queries=3 " in told.out
    assert "data.train.ways" not in told.out
    of_images = command.run("train.py", "algo=r2d2", "--help")
    assert "data.train.ways=20 " in of_images.out


def test_a_sweep_over_data_has_for_each_the_settings_that_it_has(command: Command) -> None:
    swept = command.run(
        "train.py", "-m", "algo=r2d2", "data=glyphs,sinusoid", f"data.banks={command.banks}", "data.queries=2",
        "backbone=mlp", "backbone.hidden=[8]", *QUICK, "pictures=none", "folder='run_${data.name}'",
    )  # fmt: skip
    # Sinusoids have no banks, which is a user's own key here: the job is refused, and the other one runs.
    assert swept.code == 2, swept
    assert "unknown key data.banks" in swept.err
    assert configuration_of(command.folder / "run_glyphs")["data"]["train"]["ways"] == 20
    both = command.run("train.py", "-m", "algo=r2d2,maml", *CURVES, *QUICK, "pictures=none", "folder='run_${algo.name}'")
    assert both.code == 0, both
    assert configuration_of(command.folder / "run_r2d2")["data"]["train"]["queries"] == 3
    assert configuration_of(command.folder / "run_maml")["data"]["train"]["queries"] == 5
